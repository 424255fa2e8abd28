package manager_test

import (
	"context"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/natstest"
)

// A controller whose watch says nothing judges nobody by that, and leaves the office to one that hears: the ring keeps its
// members, and follows those that come and go.
//
// Broken to see it fail: leases judged by the time that it is now ([controller.live]): the ring was emptied. A deaf controller that
// stays ([controller.deaf]): nobody came to the ring.
func TestDeafController(t *testing.T) {
	t.Parallel()
	const tries = 4
	for try := 1; ; try++ {
		changes := 0
		t.Run("", func(t *testing.T) { changes = deafController(t) })
		switch {
		case changes == 1 || t.Failed():
			return
		case try == tries:
			t.Fatalf("the ring changed %d times: it was without managers that live", changes)
		default: // who stood still for as long as its lease lives is off the ring for a moment, and rightly so
			t.Logf("try %d: the ring changed %d times; this machine may be busy with other things", try, changes)
		}
	}
}

// deafController gives how often the ring changed as a manager came to it whose controller is deaf.
func deafController(t *testing.T) (changes int) {
	f := natstest.Start(t)
	c := newCaller(t, f, "f1")
	proxy := natstest.StartProxy(t, f.URL)
	nc, err := nats.Connect(proxy.URL, nats.MaxReconnects(-1), nats.Timeout(patience/4))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	startNode(t, f, nc, "m1")
	startNode(t, f, f.Connect(t), "m2")
	natstest.Eventually(t, patience, c.holds("m1", "m2"), "the ring holds both")

	proxy.HoldSubjects(func(subject string) bool { return strings.HasPrefix(subject, "$KV."+f.Names.Bucket("members")+".") })
	epoch := c.ring().Epoch
	m3 := startNode(t, f, f.Connect(t), "m3")
	natstest.Eventually(t, patience, c.holds("m1", "m2", "m3"), "the ring holds the one that came")
	changes = int(c.ring().Epoch - epoch)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := m3.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, patience, c.holds("m1", "m2"), "the ring is without the one that went")
	return changes
}
