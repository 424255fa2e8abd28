package manager_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/manager"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// A limit that is set below what runs is kept soon, also while the function is called all the time: what is too many at each manager
// ends with its call. Members of reservations and other functions stay.
func TestLimitBelowWhatRuns(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	g := newGate()
	var nodes []*node
	for i := range 2 {
		nodes = append(nodes, startNode(t, f, f.Connect(t), fmt.Sprint("m", i), gated(g)))
	}
	c := newCaller(t, f, "f1")
	opened(t, g)
	settled(t, c, nodes)
	key, other := c.deploy("resize"), c.deploy("other")
	first := c.send("resize", key, 8)
	beside := c.send("other", other, 1)
	natstest.Eventually(t, patience, func() bool { return g.held() == 9 }, "eight run, and one of the other")
	close(g.open)
	first.want(8)
	beside.want(1)
	ctx, cancel := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	defer callers.Wait()
	defer cancel()
	for range 8 {
		callers.Go(func() {
			for ctx.Err() == nil {
				_ = c.tryInvoke("resize", key) // beyond the limit it is throttled
			}
		})
	}
	c.deploy("resize", limited(3))
	natstest.Eventually(t, patience, func() bool {
		there := 0
		for _, n := range nodes {
			for _, a := range n.Status().Arcs {
				if a.Function == "resize" {
					there += a.Ready + a.Starting
				}
			}
		}
		return there <= 3 && c.holdings("f.default.resize").Others("") <= 3
	}, "three are left")
	cancel()
	callers.Wait()
	if got := start(c.invoke("other", other)); got != schema.StartWarm {
		t.Errorf("a call of the other function is %s", got)
	}
}

// What a cap says goes when the function goes, so that one of the same name begins with nothing, and is not kept for ever.
func TestLimitOfANameUsedAgain(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	n := startNode(t, f, f.Connect(t), "m1")
	c := newCaller(t, f, "f1")
	key := c.deploy("resize", limited(2))
	c.invoke("resize", key)
	if held := c.holdings("f.default.resize").Others(""); held != 1 {
		t.Fatalf("%d held", held)
	}
	functions := c.bucket(topology.Functions)
	if err := functions.Delete(t.Context(), subjects.Escape(subjects.DefaultAccount)+"."+subjects.Escape("resize")); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, patience, func() bool { return len(c.holdings("f.default.resize").Held) == 0 }, "nothing is held")
	limits, err := c.js.Stream(t.Context(), topology.BucketStream(c.names, topology.Limits))
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"f.default.resize", "g.default.resize"} {
		msg, err := limits.GetLastMsgForSubject(t.Context(), "$KV."+c.names.Bucket(topology.Limits)+"."+key)
		if err != nil || msg.Header.Get("Nats-TTL") == "" {
			t.Errorf("key %s stays for ever: %v %v", key, msg, err)
		}
	}
	natstest.Eventually(t, patience, func() bool { caps, _ := n.Caps(); return caps == 0 }, "its caps are forgotten")
	n.PassWindows()
	natstest.Eventually(t, patience, func() bool { _, windows := n.Caps(); return windows == 0 }, "its window of growth is forgotten")
}

// life is a manager's lease that the test keeps in its place, until stop.
func (c *caller) life(id, incarnation string) (stop func()) {
	c.t.Helper()
	value, err := schema.Marshal(schema.MemberRecord{
		V: schema.Version, ID: id, Incarnation: incarnation, State: schema.MemberDraining, Capacity: 1, Reads: schema.Version,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	leases := c.bucket(topology.Members)
	ctx, cancel := context.WithCancel(context.Background())
	var loop sync.WaitGroup
	put := func() {
		if _, err := leases.Put(ctx, schema.MemberPrefix+subjects.Escape(id), value); err != nil && ctx.Err() == nil &&
			!errors.Is(err, nats.ErrConnectionClosed) {
			c.t.Errorf("keep the lease of %s: %v", id, err)
		}
	}
	put()
	loop.Go(func() {
		tick := time.NewTicker(topology.LeaseTTL / 10)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				put()
			}
		}
	})
	stop = sync.OnceFunc(func() { cancel(); loop.Wait() })
	c.t.Cleanup(stop)
	return stop
}

// A manager whose lease ended makes nothing under a cap, for others may have got its permits; when it is back it counts anew, and what
// is too many by then goes.
func TestPermitsOfALostLease(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	n := startNode(t, f, f.Connect(t), "m1")
	c := newCaller(t, f, "f1")
	key, other := c.deploy("resize", limited(3)), c.deploy("other", limited(3))
	for range 2 {
		a := c.send("resize", key, 2)
		a.want(2)
	}
	natstest.Eventually(t, patience, func() bool { return n.Status().Idle > 0 }, "something is idle")
	idle := n.Status().Idle
	c.life("m2", "another")
	back := c.life("m1", "thief")
	natstest.Eventually(t, patience, func() bool { return !n.Leased() }, "its lease has surely ended by its own clock")
	limits := c.bucket(topology.Limits)
	value, err := schema.Marshal(schema.LimitRecord{V: schema.Version, Held: map[string]schema.Holding{"m2": {Incarnation: "another", N: 3}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := limits.Put(t.Context(), "f.default.resize", value); err != nil {
		t.Fatal(err)
	}
	made := n.Counters().Made
	done := n.TakePermit("other", other)
	select {
	case err := <-done:
		t.Fatalf("a permit was given without a lease: %v", err)
	case <-time.After(topology.LeaseTTL / 4): // long enough for a grant, which takes a millisecond
	}
	back()
	if err := <-done; err != nil {
		t.Errorf("with the lease back: %v", err)
	}
	natstest.Eventually(t, patience, func() bool { return n.Status().Idle == 0 }, fmt.Sprintf("the %d idle ones that are too many are gone", idle))
	natstest.Eventually(t, patience, func() bool {
		rec := c.holdings("f.default.resize")
		return rec.Held["m2"].N == 3 && rec.Held["m1"].N == 0
	}, "the other's permits stand")
	if got := n.Counters().Made; got != made {
		t.Errorf("%d made", got-made)
	}
}

// What is denied for want of a permit is no failed init: the reservation does not fail, and has its members as soon as there are
// permits.
func TestMembersWaitForPermits(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	g := newGate()
	n := startNode(t, f, f.Connect(t), "m1", gated(g))
	c := newCaller(t, f, "f1")
	opened(t, g)
	key := c.deployReserved("resize", limited(4))
	latest := key
	latest.Version = schema.Latest
	runs := c.send("resize", latest, 4)
	natstest.Eventually(t, patience, func() bool { return g.held() == 4 }, "four run, as many as may")
	arc := subjects.ArcCall{Reserved: true, Account: subjects.DefaultAccount, Function: "resize", Version: "1", Epoch: 7}
	status := func() (a schema.ArcStatus) {
		for _, s := range n.Status().Arcs {
			if s.Arc == arc.ArcName() {
				a = s
			}
		}
		return a
	}
	asked := n.MakeMembers(arc, key, 4)
	natstest.Eventually(t, patience, func() bool { return n.Denied(asked) }, "no member may be made")
	if a := status(); a.Share != 4 || a.Failed != "" || a.Unable {
		t.Errorf("%+v", a)
	}
	close(g.open)
	runs.want(4)
	natstest.Eventually(t, patience, func() bool { return status().Ready == 4 }, "all are ready")
	if held := c.holdings("f.default.resize").Others(""); held > 4 {
		t.Errorf("%d are held", held)
	}
}

// A call that a cap of its function throttles drives no idle environment of another function out: what it would take the place of is
// idle again. With a permit it takes that place.
func TestThrottledCallEvictsNobody(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	n := startNode(t, f, f.Connect(t), "m1", func(c *manager.Config, _ *echoWorker) { c.Capacity = 1 })
	c := newCaller(t, f, "f1")
	settled(t, c, []*node{n})
	key, other := c.deploy("resize", limited(0)), c.deploy("other")
	c.invoke("other", other)
	for range 3 {
		if ran, refusals := c.send("resize", key, 1).throttled(1, schema.ThrottleFunctionConcurrency); ran != 0 || refusals != 1 {
			t.Errorf("%d ran and %d were throttled, want none and one", ran, refusals)
		}
		natstest.Eventually(t, patience, func() bool { return n.Status().Idle == 1 && n.Settled() }, "what was set aside is idle again")
		if got := start(c.invoke("other", other)); got != schema.StartWarm {
			t.Errorf("a call of the other function is %s", got)
		}
	}
	c.deploy("resize", limited(1))
	if got := start(c.invoke("resize", key)); got != schema.StartCold {
		t.Errorf("a call with a permit is %s", got)
	}
	if got := start(c.invoke("other", other)); got != schema.StartCold {
		t.Errorf("a call of the other function, whose environment made room, is %s", got)
	}
}
