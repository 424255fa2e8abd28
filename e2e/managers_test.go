package e2e_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hearth-run/hearth/e2e/fabric"
	"github.com/hearth-run/hearth/schema"
)

// patience of callers whose call has to outlast the loss of a process: longer than that takes to be noticed on a slow
// machine, and no promise about speed.
const patience = 40 * time.Second

// TestManagerKilled is S50 without reservations (with one: [TestReservedManagerKilled]): of two managers one is killed, and the
// other restarted in order, under calls and events.
//
// Broken to see it fail: an event whose run is lost counts as done ([events.Pollers]): those that were held do not run again.
func TestManagerKilled(t *testing.T) {
	t.Parallel()
	t.Run("S50", func(t *testing.T) {
		f := fabric.StartSpread(t, fabric.SpreadOptions{Capacity: 24})
		f.DeployFn("fn", "--timeout", "60s")
		l := newLedger(t, &f.Door, newRecord(t))
		g, eventGate := newGate(t), newGate(t)

		// Some calls run at the manager that will be killed, and some wait there for an environment that is being made.
		started := l.beginAll(t, 4, "fn", g.words())
		g.wait(t, len(started))
		victim := f.Manager(busiest(t, f, 4))
		file := filepath.Join(reachable(t), "go")
		slow := functionOf(t, f, victim.ID, "--env", "FN_INIT=wait", "--env", "FN_WAIT="+file)
		unstarted := l.beginAll(t, 2, slow, "")
		eventually(t, "environments are being made at "+victim.ID, func() bool { return managerOf(t, f, victim.ID).Environments.Starting == 2 })
		var held []string // where the calls are: the victim is the first on their arc
		for range 3 {
			held = append(held, l.mustPublish(t, "fn", eventGate.words()))
		}
		eventGate.wait(t, len(held))
		work := loaded(4, func(context.Context) { l.call("fn", "nap 20", patience) })
		defer work.stop()
		events := loaded(3, func(ctx context.Context) { l.handIn(ctx, "fn", "nap 20") })
		defer events.stop()
		work.more(t, 100)

		victim.Kill()
		for i := range 20 {
			if e := l.call("fn", "", patience); e != fine {
				t.Errorf("new call %d: %s", i, e)
			}
		}
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, e := range unstarted {
			if got := l.await(withDeadline(t), e); got != fine {
				t.Errorf("call %s had been claimed and not started: %s", e.tag, got)
			}
		}
		for _, e := range started {
			if got := l.await(withDeadline(t), e); got != lost {
				t.Errorf("call %s ran when its manager was killed: %s", e.tag, got)
			}
		}
		eventGate.wait(t, len(held))
		eventGate.open()
		work.more(t, 100)
		victim.Start()
		f.Other(victim).Stop()
		work.more(t, 100)
		f.Other(victim).Start()
		l.accepts(t, 50)
		events.stop()
		work.stop()
		if e := l.call("fn", "", patience); e != fine {
			t.Errorf("a call after the restart: %s", e)
		}
		drained(t, l)
		quiet(t, f)
		if dead := deadLetters(t, l); len(dead) > 0 {
			t.Errorf("%d dead letters: %+v", len(dead), dead[0])
		}
		l.onlyEnds(t, fine, lost)
		l.settle(t)
		runs := l.runs(t)
		for _, tag := range held {
			if n := len(runs[tag]); n != 2 {
				t.Errorf("event %s ran when its manager was killed: %d runs, want another one", tag, n)
			}
		}
	})
}

// TestManagerStandsStill is S57: a manager stands still with claims unread, and goes on later.
//
// Broken to see it fail: no claim in doubt, neither by its age nor by the pulse ([manager.Manager.begin]): each ran twice.
func TestManagerStandsStill(t *testing.T) {
	t.Parallel()
	t.Run("S57", func(t *testing.T) {
		f := fabric.StartSpread(t, fabric.SpreadOptions{Capacity: 12})
		f.DeployFn("fn", "--timeout", "60s")
		l := newLedger(t, &f.Door, newRecord(t))
		g := newGate(t)
		warm := l.beginAll(t, 4, "fn", g.words())
		g.wait(t, len(warm))
		victim := f.Manager(busiest(t, f, 4))
		g.open()
		for _, e := range warm {
			if got := l.await(withDeadline(t), e); got != fine {
				t.Fatalf("call %s: %s", e.tag, got)
			}
		}

		victim.Pause()
		stood := time.Now()
		unread := l.beginAll(t, 4, "fn", "")
		eventually(t, "the calls are claimed", func() bool { return claimed(f.Ring("")) == len(unread) })
		for _, e := range unread {
			if got := l.await(withDeadline(t), e); got != fine {
				t.Errorf("call %s lay unread at a manager that stood still: %s", e.tag, got)
			}
		}
		if os.Getenv("HEARTH_LONG") != "" {
			<-time.After(time.Until(stood.Add(10 * time.Second)))
		}
		victim.Resume()
		eventually(t, victim.ID+" is back on the ring", func() bool { return managerOf(t, f, victim.ID).State == "active" })
		for i := range 20 {
			if e := l.call("fn", "", patience); e != fine {
				t.Errorf("call %d after it went on: %s", i, e)
			}
		}
		quiet(t, f)
		l.settle(t)
	})
}

// beginAll publishes so many calls at once.
func (l *ledger) beginAll(t testing.TB, n int, function, words string) []*entry {
	t.Helper()
	entries := make([]*entry, n)
	for i := range entries {
		if entries[i] = l.begin(function, words, patience); entries[i] == nil {
			t.Fatalf("call %d of %s could not be sent", i, function)
		}
	}
	return entries
}

// onlyEnds fails the test if a call ended in any other way.
func (l *ledger) onlyEnds(t testing.TB, allowed ...end) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.calls {
		switch {
		case len(e.answers) == 0:
			t.Errorf("call %s (%s) got no answer", e.tag, e.words)
		case !slices.Contains(allowed, e.answers[0]):
			t.Errorf("call %s (%s), sent at %s, ended by %s %q", e.tag, e.words, e.sent.UTC().Format(time.StampMicro), e.answers[0], e.texts)
		}
	}
}

// busiest is the manager that has most of so many busy environments.
func busiest(t testing.TB, f looks, n int) (id string) {
	t.Helper()
	eventually(t, fmt.Sprint(n, " environments are busy"), func() bool {
		busy, most := 0, 0
		for _, m := range f.Ring("").Managers {
			busy += m.Environments.Busy
			if m.Environments.Busy > most {
				id, most = m.ID, m.Environments.Busy
			}
		}
		return busy == n
	})
	return id
}

// managerOf is what the ring tells of a manager; the zero value if it is not there.
func managerOf(t testing.TB, f looks, id string) (m schema.RingManager) {
	t.Helper()
	for _, m := range f.Ring("").Managers {
		if m.ID == id {
			return m
		}
	}
	return m
}

func claimed(r *schema.RingOutput) (n int) {
	for _, a := range r.Arcs {
		n += a.Claimed
	}
	return n
}

// functionOf deploys a function on whose arc this manager is the first.
func functionOf(t testing.TB, f *fabric.Spread, manager string, flags ...string) string {
	t.Helper()
	for i := range 40 {
		name := fmt.Sprintf("of-%s-%d", manager, i)
		f.DeployFn(name, flags...)
		if r := f.Ring(name); len(r.Arcs) == 1 && r.Arcs[0].Ranks[0] == manager {
			return name
		}
	}
	t.Fatalf("manager %s is first on no arc", manager)
	return ""
}
