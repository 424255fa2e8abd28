package e2e_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/hearth-run/hearth/e2e/fabric"
)

// TestStopUnderEvents stops a whole fabric in order (SIGTERM) while events come in faster than they run: those that run end, and
// all others run at its next start, each once.
//
// Broken to see it fail: EVENTS in memory ([topology.Events]): what waited never runs.
func TestStopUnderEvents(t *testing.T) {
	t.Parallel()
	o := fabric.Options{Data: filepath.Join(t.TempDir(), "data"), Managers: 2, Capacity: 4}
	f := fabric.Start(t, o)
	f.DeployFn("fn")
	record := newRecord(t)
	l := newLedger(t, &f.Door, record)
	work := loaded(4, func(ctx context.Context) { l.handIn(ctx, "fn", "nap 150") })
	defer work.stop()
	l.accepts(t, 100)
	eventually(t, "some have run", func() bool { return len(l.runs(t)) > 0 })
	f.Stop()
	work.stop()
	ran := len(l.runs(t))
	if ran == 0 || ran >= len(l.events) {
		t.Fatalf("%d of %d accepted events had run at the stop: some should, and some wait", ran, len(l.events))
	}

	f = fabric.Start(t, o)
	awaitDrained(t, f.Admin())
	l.settle(t)
	for tag, runs := range l.runs(t) {
		if len(runs) != 1 {
			t.Errorf("event %s ran %d times", tag, len(runs))
		}
	}
}
