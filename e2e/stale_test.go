package e2e_test

import (
	"context"
	"strings"
	"testing"

	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/e2e/fabric"
)

// TestStaleViews is S42 and more: one of two frontends and one of three managers hear nothing of the ring, of leases and of
// what others tell of themselves, while the ring changes twice. Every call and event runs once, and none is refused. Each manager
// has room for all that there is: one that is full and hears of nobody's room refuses what it catches, which is not in question here.
//
// Broken to see it fail: a controller that judges leases by the time that it is now (package manager): where it was the manager
// that hears nothing, the ring was emptied and every call refused.
func TestStaleViews(t *testing.T) {
	t.Parallel()
	t.Run("S42", func(t *testing.T) {
		f := fabric.StartSpread(t, fabric.SpreadOptions{Managers: 3, Frontends: 2, Capacity: 40, Proxied: []string{"f2", "m2"}})
		f.DeployFn("fn", "--timeout", "60s")
		l := newLedger(t, &f.Door, newRecord(t))
		posts := &posts{ledger: l}
		blind := f.Frontends[1]
		stale := func(subject string) bool {
			return strings.HasPrefix(subject, "hearth.status.") || strings.HasPrefix(subject, "$KV.HEARTH_ring.") ||
				strings.HasPrefix(subject, "$KV.HEARTH_members.") || strings.HasPrefix(subject, "$KV.HEARTH_arcs.")
		}
		blind.Proxy.HoldSubjects(stale)
		f.Manager("m2").Proxy.HoldSubjects(stale)

		loads := []*load{
			loaded(2, func(context.Context) { posts.one(blind, "nap 50") }),
			loaded(1, func(context.Context) { posts.one(f.Frontends[0], "nap 50") }),
			loaded(2, func(context.Context) { l.call("fn", "nap 50", patience) }),
			loaded(1, func(ctx context.Context) { l.handIn(ctx, "fn", "nap 50") }),
		}
		defer func() {
			for _, w := range loads {
				w.stop()
			}
		}()
		more := func() {
			for _, w := range loads {
				w.more(t, 20)
			}
		}
		// Long enough that everything that the two were told has grown too old to count, and under way all the while.
		var long conc.WaitGroup
		for range 2 {
			long.Go(func() { posts.one(blind, "nap 4000") })
		}
		f.Manager("m3").Stop()
		more()
		f.Manager("m3").Start()
		more()
		long.Wait()
		g := newGate(t)
		burst := l.postAll(blind, 20, "fn", g.words())
		g.wait(t, len(burst))
		g.open()
		for _, c := range burst {
			if got := c.await(t); got != "200" {
				t.Errorf("call %s of the burst: %s", c.tag, got)
			}
		}
		more()

		blind.Proxy.Release()
		f.Manager("m2").Proxy.Release()
		more()
		for _, w := range loads {
			w.stop()
		}
		drained(t, l)
		quiet(t, f)
		nobodyCalls(t, f)
		if dead := deadLetters(t, l); len(dead) > 0 {
			t.Errorf("%d dead letters: %+v", len(dead), dead[0])
		}
		l.onlyEnds(t, fine)
		l.settle(t)
		for tag, end := range posts.done {
			if end != "200" {
				t.Errorf("call %s over HTTP: %s", tag, end)
			}
		}
		posts.settle(t)
		runs := l.runs(t)
		for tag := range l.events {
			if len(runs[tag]) != 1 {
				t.Errorf("event %s ran %d times", tag, len(runs[tag]))
			}
		}
	})
}
