package manager_test

import (
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

// opened lets go at the end of the test whatever still is in a gate, so that a failed one ends.
func opened(t testing.TB, g *gate) {
	t.Cleanup(func() {
		select {
		case <-g.open:
		default:
			close(g.open)
		}
	})
}

// told logs what managers did, should the test fail.
func told(t testing.TB, nodes []*node) {
	t.Cleanup(func() {
		for _, n := range nodes {
			if t.Failed() {
				t.Logf("%s: %+v, %+v", n.ID(), n.Counters(), n.Status())
			}
		}
	})
}

// set asks the fabric for a value.
func set(key, value string) setting {
	return func(c *manager.Config, _ *echoWorker) {
		if c.FabricSet == nil {
			c.FabricSet = make(map[string]string)
		}
		c.FabricSet[key] = value
	}
}

// length is the stored length of an arc, 0 if none is.
func (c *caller) length(nn int) int {
	c.t.Helper()
	entry, err := c.bucket(topology.Arcs).Get(c.t.Context(), subjects.UnreservedName(nn))
	if err != nil {
		return 0
	}
	var rec schema.ArcRecord
	if err := schema.Unmarshal(entry.Value(), &rec); err != nil {
		c.t.Fatal(err)
	}
	return rec.Length
}

// refused is the error that an answer is, nil for an answer of the function.
func refused(msg *nats.Msg) error {
	if text := msg.Header.Get(schema.HeaderError); text != "" {
		return schema.ParseErrorHeaders(msg.Header.Get(schema.HeaderErrorCode), text)
	}
	return nil
}

// A burst far beyond an arc of two managers runs whole, for the ring has room for it: the arc grows, nobody is refused, and
// after a while the arc is as long as before (S14).
func TestBurst(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t, many())
	g := newGate()
	var nodes []*node
	places := 40
	if natstest.Raced {
		places = 10
	}
	burst := 5 * places
	for i := range 6 {
		nodes = append(nodes, startNode(t, f, f.Connect(t), fmt.Sprint("m", i), capacity(places), gated(g), set("quiet", "2s")))
	}
	c := newCaller(t, f, "f1")
	opened(t, g)
	told(t, nodes)
	settled(t, c, nodes)
	key := c.deploy("resize")
	a := c.send("resize", key, burst)
	natstest.Eventually(t, patience, func() bool { return g.held() == burst }, "all calls of the burst run")
	nn := subjects.UnreservedArc(subjects.DefaultAccount, "resize", "", c.arcs)
	if got := c.length(nn); got < 5 {
		t.Errorf("the arc has %d managers of %d, and runs %d calls", got, places, burst)
	}
	close(g.open)
	for _, msg := range a.want(burst) {
		if err := refused(msg); err != nil {
			t.Fatal(err)
		}
	}
	natstest.Eventually(t, patience, func() bool { return c.length(nn) == 2 }, "the arc has its first length again")
	warm := 0
	for _, n := range nodes {
		k := n.Counters()
		t.Logf("%s: caught %d, grown %d, shrunk %d, nacks %d, cold %d", n.ID(), k.Caught, k.Grown, k.Shrunk, k.Nacks, k.Cold)
		warm += n.Status().Idle
		if k.TurnedAway > 0 {
			t.Errorf("%s refused %d calls", n.ID(), k.TurnedAway)
		}
	}
	if warm < burst { // one more was made for each claim that another manager has started meanwhile
		t.Errorf("%d warm environments are left, want all %d until they are idle for long", warm, burst)
	}
	// Those of managers that left the arc are still offered.
	again := c.send("resize", key, burst)
	for _, msg := range again.want(burst) {
		if err := refused(msg); err != nil || start(msg) != schema.StartWarm {
			t.Fatalf("%s %v", start(msg), err)
		}
	}
}

// Beyond all capacity calls are told so at once, not when their time to start is over, and what runs is left alone.
func TestBeyondAllCapacity(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t, many())
	g := newGate()
	var nodes []*node
	for i := range 3 {
		nodes = append(nodes, startNode(t, f, f.Connect(t), fmt.Sprint("m", i), capacity(4), gated(g)))
	}
	c := newCaller(t, f, "f1")
	opened(t, g)
	told(t, nodes)
	settled(t, c, nodes)
	key := c.deploy("resize")
	runs := c.send("resize", key, 12)
	natstest.Eventually(t, patience, func() bool { return g.held() == 12 }, "every place is taken")
	a := c.listen()
	const beyond = 50
	for range beyond {
		call := c.call("resize", key, a.inbox)
		call.StartBy = time.Hour
		c.publish(call)
	}
	for _, msg := range a.want(beyond) {
		if err := refused(msg); schema.CodeOf(err) != schema.CodeCapacityExceeded {
			t.Fatalf("%v, want %s", err, schema.CodeCapacityExceeded)
		}
	}
	if got := c.stored(); got != 0 {
		t.Errorf("%d calls are left in the stream", got)
	}
	close(g.open)
	for _, msg := range runs.want(12) {
		if err := refused(msg); err != nil {
			t.Error(err)
		}
	}
	c.invoke("resize", key)
}

// A call that no manager could ever run is told so, with what it takes and what there is, also by a lone manager.
func TestLargerThanAnyManager(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	startNode(t, f, f.Connect(t), "m1", capacity(4))
	c := newCaller(t, f, "f1")
	key := c.deploy("large", func(r *schema.FunctionRecord) { r.Latest.MemoryMB = 1024 })
	a := c.listen()
	call := c.call("large", key, a.inbox)
	call.StartBy = time.Hour
	c.publish(call)
	err := refused(a.want(1)[0])
	if schema.CodeOf(err) != schema.CodeCapacityExceeded || err.(*schema.Error).Message != "an environment of it takes 8 places and no "+
		"manager has more than 4: give the function less memory, or a manager more capacity" {
		t.Error(err)
	}
}

// The fabric's cap on environments is told as a throttle; what needs no new environment runs.
func TestMaxEnvironments(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	g := newGate()
	n := startNode(t, f, f.Connect(t), "m1", capacity(4), set("max-environments", "3"), gated(g))
	c := newCaller(t, f, "f1")
	opened(t, g)
	key := c.deploy("resize")
	runs := c.send("resize", key, 3)
	natstest.Eventually(t, patience, func() bool { return g.held() == 3 }, "three calls run")
	if err := refused(c.send("resize", key, 1).want(1)[0]); schema.CodeOf(err) != schema.CodeThrottled {
		t.Errorf("%v, want %s", err, schema.CodeThrottled)
	}
	close(g.open)
	runs.want(3)
	if got := start(c.invoke("resize", key)); got != schema.StartWarm {
		t.Errorf("a call that needs none is %s", got)
	}
	if made := n.Counters().Made; made != 3 {
		t.Errorf("%d environments were made", made)
	}
}

// What is caught where something is warm runs in it at once, and goes back where nothing is.
func TestCaughtRunsInWhatIsWarm(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	n := startNode(t, f, f.Connect(t), "m1", fewArcs)
	c := newCaller(t, f, "f1")
	key := c.deploy("resize")
	th := c.thief()
	a := c.listen()
	first, _ := th.take(c.call("resize", key, a.inbox))
	n.DeliverCaught(th.arc, first)
	natstest.Eventually(t, patience, func() bool { return n.Counters().Nacks == 1 }, "what finds nothing warm is given back")
	back, err := th.sub.NextMsg(patience)
	if err != nil {
		t.Fatal(err)
	}
	n.Deliver(th.arc, back)
	a.want(1)
	natstest.Eventually(t, patience, func() bool { return n.Status().Idle == 1 }, "its environment is idle")
	second, _ := th.take(c.call("resize", key, a.inbox))
	n.DeliverCaught(th.arc, second)
	if got := start(a.want(1)[0]); got != schema.StartWarm {
		t.Errorf("the second is %s", got)
	}
	if k := n.Counters(); k.Nacks != 1 || k.Caught != 2 {
		t.Errorf("%d given back of %d caught, want the first alone", k.Nacks, k.Caught)
	}
	natstest.Eventually(t, patience, func() bool { return c.stored() == 0 }, "no call is left in the stream")
}

// With as many callers as there are places but one, of functions that evict one another, everybody is served: what is about
// to be free is no shortage.
func TestNearlyFullRefusesNobody(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t, many())
	var nodes []*node
	for i := range 3 {
		nodes = append(nodes, startNode(t, f, f.Connect(t), fmt.Sprint("m", i), capacity(3), asksLate))
	}
	c := newCaller(t, f, "f1")
	settled(t, c, nodes)
	const callers, calls = 8, 60
	keys := make([]schema.Key, 4)
	for i := range keys {
		keys[i] = c.deploy(fmt.Sprint("fn", i))
	}
	var wg sync.WaitGroup
	failed := make(chan error, callers*calls)
	for w := range callers {
		wg.Go(func() {
			for i := range calls {
				fn := (w*3 + i) % len(keys)
				if err := c.tryInvoke(fmt.Sprint("fn", fn), keys[fn]); err != nil {
					failed <- err
				}
			}
		})
	}
	wg.Wait()
	close(failed)
	unstarted(t, nodes, failed)
	for _, n := range nodes {
		k := n.Counters()
		t.Logf("%s: caught %d, grown %d, nacks %d, refused %d, cold %d, warm %d", n.ID(), k.Caught, k.Grown, k.Nacks, k.TurnedAway, k.Cold, k.Warm)
	}
}

// A call that needs more room than the first rank has goes to one that has it.
func TestRoomFurtherOn(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	g := newGate()
	var nodes []*node
	for i := range 2 {
		nodes = append(nodes, startNode(t, f, f.Connect(t), fmt.Sprint("m", i), capacity(8), gated(g)))
	}
	c := newCaller(t, f, "f1")
	opened(t, g)
	told(t, nodes)
	settled(t, c, nodes)
	name, small := "large", c.deploy("small")
	key := c.deploy(name, func(r *schema.FunctionRecord) { r.Latest.MemoryMB = 8 * 128 })
	nn := subjects.UnreservedArc(subjects.DefaultAccount, name, "", natstest.Arcs)
	first := subjects.NewRing(0, []string{"m0", "m1"}).Unreserved(nil, nn, 0)[0]
	// The small function takes a place of the arc's first manager and stays.
	held := c.call("small", small, c.nc.NewInbox())
	body := schema.EncodeCall(nil, held)
	if err := c.nc.Publish(c.names.UnreservedCall(nn, held.Account, held.Function, held.Version, ""), body); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, patience, func() bool { return nodes[first].Status().Busy == 1 }, "the first rank runs a small call")
	a := c.send(name, key, 1)
	natstest.Eventually(t, patience, func() bool { return g.held() == 2 }, "the large call runs")
	close(g.open)
	if got := a.want(1)[0].Header.Get(schema.HeaderManager); got != nodes[1-first].ID() {
		t.Errorf("the large call ran at %s", got)
	}
}
