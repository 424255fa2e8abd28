package e2e_test

import (
	"testing"
	"time"

	"github.com/hearth-run/hearth/e2e/fabric"
)

// TestFrontendKilled is S52: of twenty calls ten run and ten wait when their frontend is killed.
//
// Broken to see it fail: claims past their start-by are not dropped ([manager.Manager.deliver]): waiting calls run when the
// gate opens.
func TestFrontendKilled(t *testing.T) {
	t.Parallel()
	t.Run("S52", func(t *testing.T) {
		const startBy = 2 * time.Second
		f := fabric.StartSpread(t, fabric.SpreadOptions{Frontends: 2, Capacity: 5, Set: []string{"start-by=" + startBy.String()}})
		f.DeployFn("fn", "--timeout", "60s")
		l := newLedger(t, &f.Door, newRecord(t))
		victim, other := f.Frontends[0], f.Frontends[1]
		other.Stop() // so that all calls are the victim's

		g := newGate(t)
		running := l.beginAll(t, 10, "fn", g.words())
		g.wait(t, len(running))
		waiting := l.beginAll(t, 10, "fn", "")
		published := time.Now()
		eventually(t, "the calls wait on their arc", func() bool { return onArcs(readRing(t, f)) >= len(waiting) })
		victim.Kill()

		// Nobody takes calls now, and callers are told so at once.
		if e := l.call("fn", "", patience); e != refused+"no responders" {
			t.Errorf("a call that no frontend takes: %s", e)
		}
		other.Start()
		<-time.After(time.Until(published.Add(startBy))) // the order of events: the start-by, then the gate
		g.open()
		for _, e := range running {
			if got := l.await(withDeadline(t), e); got != fine {
				t.Errorf("call %s ran when its frontend was killed: %s", e.tag, got)
			}
		}
		if e := l.call("fn", "", patience); e != fine {
			t.Errorf("a call to the other frontend: %s", e)
		}
		victim.Start()
		quiet(t, f)
		runs := l.runs(t)
		for _, e := range waiting {
			if n := len(runs[e.tag]); n > 0 {
				t.Errorf("call %s started after its start-by, %d times", e.tag, n)
			}
		}
		l.settle(t)
	})
}

// onArcs is how many messages there are on all arcs.
func onArcs(r ring) (n int) {
	for _, a := range r.Arcs {
		n += a.Pending + a.Claimed
	}
	return n
}
