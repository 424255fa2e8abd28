package e2e_test

import (
	"os"
	"sync/atomic"
	"testing"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/schema"
)

// closedLoop is S59: as many callers as there are members. Nothing is cold, and nothing is sent beyond the reservation, for the
// view errs only towards it.
//
// Broken to see it fail: a manager that tells when a member became idle with its other news ([manager.Manager.end]): a hundred of
// the calls were sent elsewhere; one that offers 4 ms after its answer, and a catcher without patience: 31 were moved.
func closedLoop(t *testing.T, f deploys) {
	const callers = 10
	calls := 1_500
	if os.Getenv("HEARTH_LONG") != "" {
		calls = 10_000
	}
	r := reserve(t, f, "s59", callers)
	var left atomic.Int64
	left.Store(int64(calls))
	fl := &flight{t: t}
	for range callers {
		fl.wg.Go(func() {
			for left.Add(-1) >= 0 {
				fl.add(r.c.Invoke(t.Context(), client.Call{Function: r.name, Qualifier: "1", Payload: []byte(`""`), Timeout: patience}))
			}
		})
	}
	var moved, beyond, cold int
	answers := fl.wait()
	for _, a := range answers {
		switch {
		case a.Reason == schema.ReasonOverflow:
			moved++
		case a.Start != schema.StartWarm:
			cold++
		case a.Reason != schema.ReasonReserved && a.Reason != schema.ReasonSpillover:
			beyond++
		}
	}
	reasons, starts := count(answers)
	t.Logf("reasons %v, starts %v", reasons, starts)
	if len(answers) != calls || moved > calls/500 || cold+beyond > 0 {
		t.Errorf("of %d calls %d were moved, %d others cold, %d beyond the reservation", len(answers), moved, cold, beyond)
	}
}
