package e2e_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/hearth-run/hearth/e2e/fabric"
	"github.com/hearth-run/hearth/schema"
)

// TestReservedServerRestarts is S58 with a reservation: the NATS server is killed and started again while calls run on the
// members, lie on the reserved arc unread, and a frontend does not hear how the arc was opened anew.
//
// Broken to see it fail: a controller that believes after a reconnect what it saw before ([manager.keeper]): the arc was not
// opened again. A frontend that does not name the marker that it expects: its calls were taken.
func TestReservedServerRestarts(t *testing.T) {
	t.Parallel()
	t.Run("S58", func(t *testing.T) {
		f := fabric.StartSpread(t, fabric.SpreadOptions{Capacity: 24, Frontends: 2, Proxied: []string{"f2"}})
		r, l := reserve(t, f, "fn", 8), newLedger(t, &f.Door, newRecord(t))
		first, second, g := f.Frontends[0], f.Frontends[1], newGate(t)
		refusals := wiretap(t, l, "f2")
		running := l.beginAll(t, 3, "fn:1", g.words())
		g.wait(t, len(running))
		runningHTTP := l.postAll(second, 2, "fn:1", g.words())
		g.wait(t, len(runningHTTP))
		for _, m := range f.Managers {
			m.Pause() // what they offer is claimed and not read
		}
		waiting := l.beginAll(t, 2, "fn:1", "")
		waitingHTTP := l.postAll(first, 1, "fn:1", "")
		eventually(t, "the calls are claimed", func() bool { return claimed(f.Ring("")) == 3 })
		f.Server.Kill()
		for _, m := range f.Managers {
			m.Resume()
		}
		second.Proxy.HoldSubjects(func(subject string) bool { return strings.HasPrefix(subject, "$KV.HEARTH_reservations.") })
		f.Server.Start()
		for _, e := range waiting {
			if got := l.await(withDeadline(t), e); got != refused+"503 Unavailable" {
				t.Errorf("call %s waited when the server was killed: %s", e.tag, got)
			}
		}
		for _, c := range waitingHTTP {
			if got := c.await(t); got != "503" {
				t.Errorf("call %s over HTTP waited when the server was killed: %s", c.tag, got)
			}
		}
		g.open()
		for _, e := range running {
			if got := l.await(withDeadline(t), e); got != fine {
				t.Errorf("call %s ran when the server was killed: %s", e.tag, got)
			}
		}
		for _, c := range runningHTTP {
			if got := c.await(t); got != "200" {
				t.Errorf("call %s over HTTP ran when the server was killed: %s", c.tag, got)
			}
		}
		takes := func(f *fabric.Role) bool { return reasonAt(t, f, r.name) == schema.ReasonReserved }
		eventually(t, "the arc takes calls again", func() bool { return takes(first) })

		before := refusals.wrong.Load()
		eventually(t, "a stale frontend is refused", func() bool {
			late := l.postAll(second, 1, "fn:1", "")[0]
			if got := late.await(t); got != "200" || late.reason != schema.ReasonUnreserved {
				t.Errorf("a call of a stale frontend: %s, %s", got, late.reason)
			}
			return refusals.wrong.Load() > before || t.Failed()
		})
		second.Proxy.Release()
		eventually(t, "the stale frontend has heard", func() bool { return takes(second) })

		// Once more, now under load: whose answer was on its way hears nothing, and no call runs twice.
		work := loaded(4, func(context.Context) { l.call("fn:1", "nap 20", 5*time.Second) })
		defer work.stop()
		work.more(t, 100)
		f.Server.Kill()
		f.Server.Start()
		work.more(t, 100)
		work.stop()
		eventually(t, "the arc takes calls once more", func() bool { return takes(first) && takes(second) })
		quiet(t, f)
		stranded(t, l)
		runs := l.runs(t)
		for _, c := range waitingHTTP {
			if len(runs[c.tag]) != 0 {
				t.Errorf("call %s was refused and ran", c.tag)
			}
		}
		l.settle(t)
	})
}
