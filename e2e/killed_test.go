package e2e_test

import (
	"context"
	"testing"

	"github.com/hearth-run/hearth/e2e/fabric"
	"github.com/hearth-run/hearth/schema"
)

// TestReservedManagerKilled is S50 with a reservation: of two managers that hold its members one is killed, under calls and events,
// with calls that run there and with claims that it has not read.
//
// Broken to see it fail: members that are made for the ring as it was when the reservation began ([manager.Manager.stakes]): S
// stayed at eight.
func TestReservedManagerKilled(t *testing.T) {
	t.Parallel()
	t.Run("S50", func(t *testing.T) {
		const limit = 16
		f := fabric.StartSpread(t, fabric.SpreadOptions{Capacity: 40, Set: []string{"reclaim=2s"}})
		r, l := reserve(t, f, "fn", limit), newLedger(t, &f.Door, newRecord(t))
		g, eventGate := newGate(t), newGate(t)
		started := l.beginAll(t, 4, "fn:1", g.words())
		g.wait(t, len(started))
		victim := f.Manager(busiest(t, f, 4)) // of its eight members: calls pack onto the first managers
		running := managerOf(t, f, victim.ID).Environments.Busy
		var held []string
		for range 2 {
			held = append(held, l.mustPublish(t, "fn:1", eventGate.words()))
		}
		eventGate.wait(t, len(held))
		const callers = 4
		work := loaded(callers, func(context.Context) { l.call("fn:1", "nap 20", patience) })
		defer work.stop()
		events := loaded(2, func(ctx context.Context) { l.handIn(ctx, "fn:1", "nap 5") })
		defer events.stop()
		work.more(t, 100)

		victim.Pause() // what it has offered is claimed and not read
		eventually(t, "claims are not read", func() bool { return claimed(f.Ring("fn")) >= 2 })
		victim.Kill()
		for i := range 20 {
			if e := l.call("fn:1", "", patience); e != fine {
				t.Errorf("new call %d: %s", i, e)
			}
		}
		g.open()
		ends := map[end]int{}
		for _, e := range started {
			ends[l.await(withDeadline(t), e)]++
		}
		if ends[lost] != running || ends[fine] != len(started)-running {
			t.Errorf("of %d calls %d ran when their manager was killed: %v", len(started), running, ends)
		}
		r.becomes("the other manager holds all members", func(v *schema.ReservationOutput) bool {
			return v.Status == schema.ReservationReady && len(v.Arc) == 1 && v.Arc[0].Manager != victim.ID && v.Arc[0].Members >= limit
		})
		eventGate.wait(t, len(held))
		eventGate.open()
		work.more(t, 100)
		victim.Start()
		r.becomes("both managers hold their shares", func(v *schema.ReservationOutput) bool {
			return len(v.Arc) == 2 && v.Arc[0].Members >= limit/2 && v.Arc[1].Members >= limit/2
		})
		work.more(t, 100)
		events.stop()
		work.stop()
		drained(t, l)
		quiet(t, f)
		stranded(t, l)
		if dead := deadLetters(t, l); len(dead) > 0 {
			t.Errorf("%d dead letters: %+v", len(dead), dead[0])
		}
		l.onlyEnds(t, fine, lost)
		l.settle(t)
		if n := l.tally()[lost]; n > running+callers {
			t.Errorf("%d calls were lost, at most %d ran", n, running+callers)
		}
		runs := l.runs(t)
		for _, tag := range held {
			if n := len(runs[tag]); n != 2 {
				t.Errorf("event %s ran when its manager was killed: %d runs, want another one", tag, n)
			}
		}
	})
}
