package events_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

func TestEventsRun(t *testing.T) {
	t.Parallel()
	b := setup(t, "g")
	const n = 300
	for i := range n {
		b.event(t, "f", fmt.Sprint(i))
	}
	b.event(t, "g", `{"a":1}`, schema.HeaderRequestID, "0b1fe5b4-9e7e-4b1c-8a4e-2f6f3a1b6c11")
	b.drained(t)
	seen := map[string]bool{}
	for _, c := range b.worker.started("f") {
		if seen[string(c.Payload)] {
			t.Errorf("event %s ran twice", c.Payload)
		}
		seen[string(c.Payload)] = true
	}
	if len(seen) != n {
		t.Errorf("%d of %d events ran", len(seen), n)
	}
	if g := b.worker.started("g"); len(g) != 1 || g[0].RequestID != "0b1fe5b4-9e7e-4b1c-8a4e-2f6f3a1b6c11" || string(g[0].Payload) != `{"a":1}` {
		t.Errorf("g had %+v", g)
	}
	natstest.Eventually(t, patience, func() bool { return b.f.Counters().InFlight == 0 }, "no call is in flight")
}

// Of a function whose tries are quick as many events are claimed ahead as run at once. No more run for that, and where they are quick no
// longer those that wait are given back, so that an idle frontend may run them.
func TestClaimedAhead(t *testing.T) {
	t.Parallel()
	const capacity, share = 8, 4 // one of two parts is left to others
	b := setupWith(t, capacity, nil)
	const quick, slow = 40, share + 1
	for range quick {
		b.event(t, "f", `{}`)
	}
	b.drained(t)
	hold := b.worker.hold(t, "f")
	for i := range slow {
		b.event(t, "f", fmt.Sprint(i))
	}
	begun := func(event int) bool {
		return slices.ContainsFunc(b.worker.started("f"), func(c *schema.Call) bool { return string(c.Payload) == fmt.Sprint(event) })
	}
	natstest.Eventually(t, patience, func() bool {
		return len(b.worker.started("f")) == quick+share && b.delivered(t, "f") == quick+slow
	}, "the share runs, one is claimed ahead")
	if begun(share) {
		t.Errorf("event %d did not wait for its turn", share)
	}
	b.startFrontend(t, b.connect(t))
	// Before the worker's gate opens by itself.
	natstest.Eventually(t, patience/2, func() bool { return begun(share) }, "another frontend runs what the first gave back")
	hold.release()
	b.drained(t)
	if n := len(b.worker.started("f")); n != quick+slow {
		t.Errorf("%d events ran %d times", quick+slow, n)
	}
}

// delivered is how often an event of a function was given to a poller.
func (b *bundle) delivered(t testing.TB, function string) uint64 {
	t.Helper()
	c, err := b.JetStream(t).Consumer(t.Context(), b.events(), b.Names.EventDurable(subjects.DefaultAccount, function))
	if err != nil {
		t.Fatal(err)
	}
	return c.CachedInfo().Delivered.Consumer
}
