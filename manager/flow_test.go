package manager_test

import (
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/subjects"
)

// Where the network holds back what a manager writes, its acknowledgements do not arrive and the server gives its claims to
// another manager: they must not have started here. DESIGN 3.
func TestHeldBackStartsNothing(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	// The one that will not be heard is the first of the arc, so that calls come to it.
	ids := []string{"m1", "m2"}
	first := subjects.NewRing(0, ids).Unreserved(nil, subjects.UnreservedArc(subjects.DefaultAccount, "resize", "", natstest.Arcs), 0)[0]
	proxy := natstest.StartProxy(t, f.URL)
	nc, err := nats.Connect(proxy.URL, nats.MaxReconnects(-1), nats.Timeout(patience/4))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	t.Cleanup(proxy.Release) // before the manager stops
	held := startNode(t, f, nc, ids[first])
	c := newCaller(t, f, "f1")
	key := c.deploy("resize")
	if m := start(c.invoke("resize", key)); m != "cold" {
		t.Fatalf("the first call is %s", m)
	}
	other := startNode(t, f, f.Connect(t), ids[1-first])
	sure := func() bool { // of the ages of its claims: it starts them without the lock
		before := held.Counters()
		c.invoke("resize", key)
		now := held.Counters()
		return now.Warm > before.Warm && now.LocksWon == before.LocksWon
	}

	// A call that meets a pull which the server still has of the manager that cannot write; pulls end after 2 s, so it may
	// take more than one.
	for try := 1; ; try++ {
		natstest.Eventually(t, patience, sure, "the manager is sure of its claims")
		natstest.Eventually(t, patience, held.Settled, "the manager offers")
		proxy.Hold(natstest.ToServer)
		natstest.Eventually(t, patience, held.Stalled, "the manager notices that it is not heard")
		a := c.listen()
		call := c.call("resize", key, a.inbox)
		call.StartBy = patience
		c.publish(call)
		a.want(1)
		proxy.Release()
		natstest.Eventually(t, patience, func() bool { return !held.Stalled() }, "the manager is heard again")
		if n, m := held.startsOf(call), other.startsOf(call); n != 0 || m != 1 {
			t.Fatalf("started %d times where nobody hears it, %d times at the other manager", n, m)
		}
		if held.Counters().Uncrossed > 0 {
			return
		}
		if try == 20 {
			t.Fatal("no call met the manager that is not heard")
		}
	}
}
