package e2e_test

import (
	"context"
	"slices"
	"testing"

	"github.com/hearth-run/hearth/e2e/fabric"
)

// TestRollingRestart restarts every role in order under load, one after the other: no call fails, none runs twice.
//
// Broken to see it fail: a frontend that refuses at once when it begins to leave ([frontend.Frontend.Stop]): one call in
// some thousand is refused.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	f := fabric.StartSpread(t, fabric.SpreadOptions{Managers: 2, Frontends: 2, Capacity: 12})
	f.DeployFn("fn")
	l := newLedger(t, &f.Door, newRecord(t))
	work := loaded(6, func(context.Context) { l.call("fn", "nap 20", patience) })
	defer work.stop()
	work.more(t, 50)
	for _, r := range slices.Concat(f.Managers, f.Frontends) {
		r.Stop()
		work.more(t, 50)
		r.Start()
		work.more(t, 50)
	}
	work.stop()
	quiet(t, f)
	l.onlyEnds(t, fine)
	l.settle(t)
}
