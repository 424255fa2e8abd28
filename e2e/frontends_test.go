package e2e_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hearth-run/hearth/e2e/fabric"
)

// TestFrontendKilled is S52: of twenty calls ten run, and ten wait for environments that are being made, when their frontend
// is killed.
func TestFrontendKilled(t *testing.T) {
	t.Parallel()
	t.Run("S52", func(t *testing.T) {
		const startBy = 5 * time.Second // time to look at what is claimed on a slow machine
		f := fabric.StartSpread(t, fabric.SpreadOptions{Frontends: 2, Capacity: 12, Set: []string{"start-by=" + startBy.String()}})
		f.DeployFn("fn", "--timeout", "60s")
		file := filepath.Join(reachable(t), "go")
		f.DeployFn("slow", "--env", "FN_INIT=wait", "--env", "FN_WAIT="+file)
		l := newLedger(t, &f.Door, newRecord(t))
		victim, other := f.Frontends[0], f.Frontends[1]
		other.Stop() // so that all calls are the victim's

		g := newGate(t)
		running := l.beginAll(t, 10, "fn", g.words())
		g.wait(t, len(running))
		waiting := l.beginAll(t, 10, "slow", "")
		published := time.Now()
		eventually(t, "the calls are claimed", func() bool { return claimed(f.Ring("")) == len(waiting) })
		victim.Kill()

		// Nobody takes calls now, and callers are told so at once: as soon as the server has seen the connection go.
		eventually(t, "a call that no frontend takes is told so", func() bool {
			return l.call("fn", "", 100*time.Millisecond) == refused+"no responders"
		})
		other.Start()
		// The order of events: the start-by, then the environments. A manager that has seen no call of this stream before counts
		// the start-by from the arrival, which is later than the publication by what the call was on its way.
		<-time.After(time.Until(published.Add(startBy + time.Second)))
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		g.open()
		for _, e := range running {
			if got := l.await(withDeadline(t), e); got != fine {
				t.Errorf("call %s ran when its frontend was killed: %s", e.tag, got)
			}
		}
		if e := l.call("fn", "", patience); e != fine {
			t.Errorf("a call to the other frontend: %s", e)
		}
		if e := l.call("slow", "", patience); e != fine {
			t.Errorf("a call of the function whose environments were being made: %s", e)
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
