package e2e_test

import (
	"context"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/e2e/fabric"
	"github.com/hearth-run/hearth/schema"
)

// TestReservedApart are the scenarios of a reservation for which frontends and managers are processes of their own, in a fabric
// whose second frontend hears what its proxy lets pass.
//
// Broken to see them fail:
//
//	S04  a frontend that reserves for a quarter of them: the others were spillover
//	S22  a catcher that gives back what it should move
//	S41  a manager that leaves without waiting for the others' shares ([manager.Manager.Stop]): S fell to eleven of 15
//	S42  a frontend that hears beats of those alone who are on the ring that it sees: calls that ran were ExecutionLost
func TestReservedApart(t *testing.T) {
	t.Parallel()
	f := fabric.StartSpread(t, fabric.SpreadOptions{
		Managers: 3, Frontends: 2, Capacity: 40, Proxied: []string{"f2"}, Set: []string{"t=5", "reclaim=2s"},
	})
	t.Run("S04", func(t *testing.T) { bothFrontends(t, f) })
	t.Run("S22", func(t *testing.T) { oldView(t, f) })
	if os.Getenv("HEARTH_LONG") != "" {
		t.Run("S59", func(t *testing.T) { closedLoop(t, f) })
	}
	t.Run("shard deleted by hand", func(t *testing.T) { shardDeleted(t, f) })
	t.Run("S42", func(t *testing.T) { twoRings(t, f) })
	t.Run("S41", func(t *testing.T) { leavesInOrder(t, f) })
	quiet(t, f)
	nobodyCalls(t, f)
}

// bothFrontends is S04: as many calls as are reserved, half of them through each frontend, find a member each.
func bothFrontends(t *testing.T, f *fabric.Spread) {
	r, l, g := reserve(t, f, "s04", 10), newLedger(t, &f.Door, newRecord(t)), newGate(t)
	if ids := r.members(); len(ids) != 2 {
		t.Fatalf("ten members live at %v", ids)
	}
	defer g.open()
	held := append(l.postAll(f.Frontends[0], 5, "s04:1", g.words()), l.postAll(f.Frontends[1], 5, "s04:1", g.words())...)
	g.wait(t, 10)
	g.open()
	for _, c := range held {
		if got := c.await(t); got != "200" || c.reason != schema.ReasonReserved || c.start != schema.StartWarm {
			t.Errorf("call %s: %s, %s, %s", c.tag, got, c.reason, c.start)
		}
	}
}

// oldView is S22. Ten are reserved and five run beyond them, so that a call goes to a member only where the frontend's view has an
// idle one. The view of the second frontend is kept at three of them, and the first one's calls take these.
func oldView(t *testing.T, f *fabric.Spread) {
	r, l := reserve(t, f, "s22", 10), newLedger(t, &f.Door, newRecord(t))
	first, second := f.Frontends[0], f.Frontends[1]
	status := func(subject string) bool { return strings.HasPrefix(subject, "hearth.status.manager.") }
	old := func() (reasons map[schema.Reason]int) {
		defer second.Proxy.Release()
		g := newGate(t)
		defer g.open()
		held := l.postAll(first, 10, "s22:1", g.words())
		members := g.wait(t, 10)
		r.becomes("ten are busy", func(v *schema.ReservationOutput) bool { return v.Busy == 10 })
		held = append(held, l.postAll(first, 5, "s22:1", g.words())...)
		g.wait(t, 5)
		release(members[:3])
		eventually(t, "both frontends know that three are idle", func() bool {
			return reasonAt(t, first, r.name) == schema.ReasonSpillover && reasonAt(t, second, r.name) == schema.ReasonSpillover
		})
		second.Proxy.HoldSubjects(status)
		held = append(held, l.postAll(first, 3, "s22:1", g.words())...)
		g.wait(t, 3)
		late := l.postAll(second, 3, "s22:1", "")
		for _, c := range late {
			if got := c.await(t); got != "200" {
				t.Errorf("call %s found no idle member: %s", c.tag, got)
			}
		}
		g.open()
		for _, c := range held {
			if got := c.await(t); got != "200" {
				t.Errorf("call %s was held: %s", c.tag, got)
			}
		}
		reasons = map[schema.Reason]int{}
		for _, c := range late {
			reasons[c.reason]++
		}
		runs := l.runs(t)
		for _, c := range append(held, late...) {
			if len(runs[c.tag]) != 1 {
				t.Errorf("call %s ran %d times", c.tag, len(runs[c.tag]))
			}
		}
		return reasons
	}
	// A view that nobody feeds is no view after two seconds, which a slow machine may take for the rest; and one of three calls may
	// have been moved while an offer was being renewed, so that a member is idle: then once more.
	for try := 1; ; try++ {
		reasons := old()
		if reasons[schema.ReasonOverflow] == 3 {
			return
		}
		t.Logf("try %d: reasons %v", try, reasons)
		if try == 3 {
			t.Fatalf("calls of a view that has idle members where none is: reasons %v, want overflow", reasons)
		}
	}
}

// twoRings is S42: while the second frontend hears nothing of the ring, a manager leaves it, and comes back to it.
func twoRings(t *testing.T, f *fabric.Spread) {
	r, l := reserve(t, f, "s42", 15), newLedger(t, &f.Door, newRecord(t))
	p := &posts{ledger: l}
	second, third := f.Frontends[1], f.Manager("m3")
	var held atomic.Int64
	deaf := func() {
		held.Store(0)
		second.Proxy.HoldSubjects(func(subject string) bool {
			if !strings.HasPrefix(subject, "$KV.HEARTH_ring.") {
				return false
			}
			held.Add(1)
			return true
		})
	}
	defer second.Proxy.Release()
	work := []*load{
		loaded(2, func(context.Context) { p.call(f.Frontends[0], "s42:1", "nap 20") }),
		loaded(2, func(context.Context) { p.call(second, "s42:1", "nap 20") }),
	}
	defer func() {
		for _, w := range work {
			w.stop()
		}
	}()
	more := func() {
		t.Helper()
		if held.Load() == 0 {
			t.Error("the second frontend missed nothing of the ring")
		}
		for _, w := range work {
			w.more(t, 125)
		}
	}
	deaf()
	third.Stop()
	more()
	second.Proxy.Release()
	p.call(second, "s42:1", "") // what it hears comes behind what was held
	deaf()
	third.Start()
	r.becomes("the third manager holds its share again", func(v *schema.ReservationOutput) bool {
		for _, m := range v.Arc {
			if m.Manager == third.ID {
				return m.Share == 5 && m.Members >= 5
			}
		}
		return false
	})
	// On every member one, also on those of the manager that the second frontend does not see, and longer than it waits for beats.
	var long conc.WaitGroup
	for range 15 {
		long.Go(func() { p.call(second, "s42:1", "nap 6000") })
	}
	more()
	long.Wait()
	second.Proxy.Release()
	for _, w := range work {
		w.stop()
	}
	runs := l.runs(t)
	for tag, end := range p.done {
		if end != "200" || len(runs[tag]) != 1 {
			t.Errorf("call %s: %s, %d runs", tag, end, len(runs[tag]))
		}
	}
}

// leavesInOrder is S41: a manager stops under load, with calls that run there. Its members go when the others' are ready.
func leavesInOrder(t *testing.T, f *fabric.Spread) {
	const limit = 15
	r, l := reserve(t, f, "s41", limit), newLedger(t, &f.Door, newRecord(t))
	third, g := f.Manager("m3"), newGate(t)
	s := sample(t, l, r.name)
	s.becomes("all members are told of", func() bool { return s.sum() >= limit })
	// Calls pack onto the first managers: of the one that leaves some members are busy then, and others are idle.
	var held []*entry
	for managerOf(t, f, third.ID).Environments.Busy == 0 {
		held = append(held, l.beginAll(t, 1, "s41:1", g.words())...)
		g.wait(t, 1)
		busiest(t, f, len(held))
	}
	work := loaded(3, func(context.Context) { l.call("s41:1", "nap 20", patience) })
	defer work.stop()
	work.more(t, 50)
	if s.at(third.ID) != 5 {
		t.Errorf("%s holds %d of %d members", third.ID, s.at(third.ID), limit)
	}
	var stopped conc.WaitGroup
	defer stopped.Wait()
	defer g.open()
	stopped.Go(third.Stop)
	s.becomes("the others hold all members", func() bool { return s.sum()-s.at(third.ID) >= limit })
	work.more(t, 50)
	g.open()
	stopped.Wait()
	s.gone(third.ID)
	work.more(t, 50)
	work.stop()
	for _, e := range held {
		if got := l.await(withDeadline(t), e); got != fine {
			t.Errorf("call %s ran when %s left: %s", e.tag, third.ID, got)
		}
	}
	if least := s.least(); least < limit {
		t.Errorf("S fell to %d, L is %d", least, limit)
	}
	l.onlyEnds(t, fine)
	l.settle(t)
	third.Start()
}

// reasonAt is why a frontend sends a call of a version 1 where it does.
func reasonAt(t testing.TB, f *fabric.Role, function string) schema.Reason {
	t.Helper()
	req, err := http.NewRequestWithContext(withDeadline(t), http.MethodPost,
		f.HTTP+"/2015-03-31/functions/"+function+":1/invocations", strings.NewReader(`""`))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("a call through %s: %s", f.ID, resp.Status)
	}
	return schema.Reason(resp.Header.Get(schema.HeaderReason))
}
