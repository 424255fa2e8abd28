//go:build linux && (amd64 || arm64)

package native_test

import (
	"testing"

	"github.com/hearth-run/hearth/worker/driver"
	"github.com/hearth-run/hearth/worker/driver/drivertest"
	"github.com/hearth-run/hearth/worker/driver/native"
	"github.com/hearth-run/hearth/worker/driver/native/hostile"
	"github.com/hearth-run/hearth/worker/egress"
	"github.com/hearth-run/hearth/worker/egress/egresstest"
)

// TestEgressOfTheBound: what environments hold while they are nobody's is of a sub-tenant's share when they are bound to it, for the
// helper that has them, and so leaves less to the sub-tenant's next one.
//
// Broken to see it fail: BindNetwork does nothing; the helper drops the order.
func TestEgressOfTheBound(t *testing.T) {
	t.Parallel()
	w := newTalker(t, func(cfg *native.Config, _ *egresstest.World) { cfg.Network = egress.Limits{All: 16} })
	// Of sixteen five are a function's, and three a sub-tenant's of it that is alone; beside two of nobody's it has two.
	var early []driver.Environment
	for range 2 {
		e, out, _ := w.start(t, nil, "hold/"+server)
		waitFor(t, e, out, "holding")
		early = append(early, e)
	}
	try := func(many string) string {
		e, out, _ := w.start(t, nil, many)
		bind(e)
		ended(t, e)
		return hostile.Read(out.String())[many]
	}
	one, two := "many/"+server+"/1", "many/"+server+"/2"
	if got := try(two); got != hostile.Done {
		t.Errorf("beside two of nobody's: %s", got)
	}
	for _, e := range early {
		bind(e)
	}
	// Again where the function was faster than what binds it.
	drivertest.Eventually(t, "the sub-tenant has too many", func() bool { return try(two) == "ECONNREFUSED" })
	if got := try(one); got != hostile.Done {
		t.Errorf("one more than its two: %s", got)
	}
}

func bind(e driver.Environment) { e.(driver.NetworkBinder).BindNetwork("A") }
