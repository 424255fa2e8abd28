package events_test

import (
	"fmt"
	"testing"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
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
