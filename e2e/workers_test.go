package e2e_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/e2e/fabric"
	"github.com/hearth-run/hearth/schema"
)

// TestWorkers is a manager with no environment of its own and two workers that are processes of their own, through what becomes
// of them: calls cold and warm, large ones, logs; a worker that is killed under load, one that stops in order, and the manager
// killed and started again.
//
// Broken to see it fail: the manager answers nothing of a session that ended ([fleet.Fleet]): calls that ran there time out.
func TestWorkers(t *testing.T) {
	t.Parallel()
	f := fabric.StartSpread(t, fabric.SpreadOptions{Managers: 1, Workers: 2, Capacity: 10})
	m1 := f.Managers[0]
	capacity := func(n int) {
		t.Helper()
		eventually(t, "the ring shows the workers' places", func() bool {
			all := f.Ring("").Managers
			return len(all) == 1 && all[0].Capacity == n
		})
	}
	capacity(20)
	f.DeployFn("fn", "--timeout", "60s")
	l := newLedger(t, &f.Door, newRecord(t))

	t.Run("calls", func(t *testing.T) {
		c := f.Admin()
		if a := invoke(t, c, "fn", `""`); a.Start != schema.StartCold || a.Manager != m1.ID {
			t.Errorf("the first call: start %s, manager %s", a.Start, a.Manager)
		}
		if a := invoke(t, c, "fn", `""`); a.Start != schema.StartWarm {
			t.Errorf("the second call: start %s", a.Start)
		}
		large := `"` + strings.Repeat("x", 6<<20-2) + `"`
		a, err := c.Invoke(withDeadline(t), client.Call{Function: "fn", Payload: []byte(large)})
		if err != nil || !bytes.Equal(a.Payload, []byte(large)) {
			t.Errorf("6 MB: %d bytes came back, %v", len(a.Payload), err)
		}
		a, err = c.Invoke(withDeadline(t), client.Call{Function: "fn", Payload: []byte(`"say hello world"`), Log: true})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(a.Log, []byte("world")) || !bytes.Contains(a.Log, []byte("REPORT RequestId: "+a.RequestID)) {
			t.Errorf("its tail: %q", a.Log)
		}
		eventually(t, "its lines are stored", func() bool {
			out := f.MustCLI("logs", "fn", "--request", a.RequestID)
			return strings.Contains(out, "hello") && strings.Contains(out, "REPORT")
		})
	})

	t.Run("a worker is killed", func(t *testing.T) {
		work := loaded(3, func(context.Context) { l.call("fn", "nap 20", patience) })
		g := newGate(t)
		held := l.beginAll(t, 6, "fn", g.words()) // more than one worker's: both have some
		g.wait(t, len(held))
		work.more(t, 50)
		f.Workers[0].Kill()
		work.more(t, 50)
		capacity(10)
		g.open()
		ends := map[end]int{}
		for _, e := range held {
			ends[l.await(withDeadline(t), e)]++
		}
		if ends[fine]+ends[lost] != len(held) || ends[lost] == 0 || ends[fine] == 0 {
			t.Errorf("held calls: %v, want those of the killed worker lost and the others fine", ends)
		}
		work.stop()
		f.Workers[0].Start()
		capacity(20)
	})

	t.Run("a worker stops", func(t *testing.T) {
		before := l.tally()[lost]
		work := loaded(4, func(context.Context) { l.call("fn", "nap 20", patience) })
		work.more(t, 50)
		f.Workers[1].Stop()
		work.more(t, 50)
		capacity(10)
		f.Workers[1].Start()
		capacity(20)
		work.more(t, 50)
		work.stop()
		if n := l.tally()[lost] - before; n != 0 {
			t.Errorf("%d calls were lost by a stop in order", n)
		}
		l.onlyEnds(t, fine, lost)
	})

	t.Run("the manager is killed", func(t *testing.T) {
		g := newGate(t)
		held := l.beginAll(t, 2, "fn", g.words())
		g.wait(t, len(held))
		m1.Kill()
		for _, e := range held {
			if got := l.await(withDeadline(t), e); got != lost {
				t.Errorf("a call whose manager was killed: %s", got)
			}
		}
		m1.Start()
		capacity(20)
		for i := range 5 {
			if e := l.call("fn", "", patience); e != fine {
				t.Errorf("call %d after it: %s", i, e)
			}
		}
		g.open()
		eventually(t, "nothing of the manager before is left", func() bool {
			e := f.Ring("").Managers[0].Environments
			return e.Busy == 0 && e.Starting == 0
		})
	})
}
