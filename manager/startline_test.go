package manager_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/manager"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// theft takes calls off an arc before any manager does, as a manager would that then hangs. The arc is one beyond those
// that the fabric uses, so that the managers offer no room there.
type theft struct {
	t   testing.TB
	c   *caller
	arc string
	sub *nats.Subscription
}

const stolenArc = 63

// fewArcs leaves arcs whose consumers are there unused.
func fewArcs(c *manager.Config, w *echoWorker) { set("arcs", "8")(c, w) }

func (c *caller) thief() *theft {
	c.t.Helper()
	c.arcs = 8
	sub, err := c.nc.SubscribeSync(c.nc.NewInbox())
	if err != nil {
		c.t.Fatal(err)
	}
	next := "$JS.API.CONSUMER.MSG.NEXT." + c.names.CallsOf(stolenArc) + "." + c.names.UnreservedDurable(stolenArc)
	body := fmt.Sprintf(`{"batch":10000,"expires":%d,"group":%q,"priority":0}`, int64(time.Hour), topology.PriorityGroup)
	if err := c.nc.PublishRequest(next, sub.Subject, []byte(body)); err != nil {
		c.t.Fatal(err)
	}
	natstest.Eventually(c.t, patience, func() bool { return c.waitingPulls(stolenArc) == 1 }, "the thief's pull is open")
	return &theft{c.t, c, subjects.UnreservedName(stolenArc), sub}
}

// take publishes a call and gives its delivery, and its sequence; it stays claimed. Idle environments of strangers to the
// arc are offered with class 4, so class 0 wins.
func (th *theft) take(call *schema.Call) (*nats.Msg, uint64) {
	th.t.Helper()
	subject := th.c.names.UnreservedCall(stolenArc, call.Account, call.Function, call.Version, call.Tenant)
	ack, err := th.c.js.Publish(th.t.Context(), subject, schema.EncodeCall(nil, call))
	if err != nil {
		th.t.Fatal(err)
	}
	msg, err := th.sub.NextMsg(patience)
	if err != nil {
		th.t.Fatal(err)
	}
	return msg, ack.Sequence
}

// again is the same delivery, the second time.
func again(msg *nats.Msg) *nats.Msg {
	token := strings.Split(msg.Reply, ".")
	token[4] = "2"
	m := nats.NewMsg(msg.Subject)
	m.Data, m.Reply = msg.Data, strings.Join(token, ".")
	return m
}

func (n *node) starts(id string) int64 {
	v, ok := n.worker.starts.Load(id)
	if !ok {
		return 0
	}
	return v.(*atomic.Int64).Load()
}

// A claim that was delivered before starts at exactly one of those that have it.
func TestRedeliveredStartsOnce(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	nodes := []*node{startNode(t, f, f.Connect(t), "m1", fewArcs), startNode(t, f, f.Connect(t), "m2", fewArcs)}
	c := newCaller(t, f, "f1")
	key := c.deploy("resize")
	th := c.thief()
	a := c.listen()
	rounds := int64(200)
	if natstest.Raced {
		rounds = 50
	}
	for round := range rounds {
		call := c.call("resize", key, a.inbox)
		msg, _ := th.take(call)
		var both sync.WaitGroup
		for _, n := range nodes {
			both.Go(func() { n.Deliver(th.arc, again(msg)) })
		}
		both.Wait()
		a.want(1)
		id := call.RequestID
		if sum := nodes[0].starts(id) + nodes[1].starts(id); sum != 1 {
			t.Fatalf("call %s started %d times", id, sum)
		}
		natstest.Eventually(t, patience, func() bool { // who hears nothing of his lock for 2 s has lost it too
			one, two := nodes[0].Counters(), nodes[1].Counters()
			return one.LocksWon+two.LocksWon == round+1 && one.Uncrossed+two.Uncrossed == round+1
		}, "both managers tried, and one won")
	}
	if c.stored() != 0 {
		t.Errorf("%d calls are left in the stream", c.stored())
	}
}

// A frontend that takes a call out of the stream at its start-by knows that it will not start, and a manager that was
// given it meanwhile does not start it.
func TestFrontendTakesBack(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	n := startNode(t, f, f.Connect(t), "m1", fewArcs)
	c := newCaller(t, f, "f1")
	key := c.deploy("resize")
	th := c.thief()
	stream, err := c.js.Stream(t.Context(), c.names.CallsOf(stolenArc))
	if err != nil {
		t.Fatal(err)
	}
	call := c.call("resize", key, c.listen().inbox)
	msg, seq := th.take(call)
	if err := stream.DeleteMsg(t.Context(), seq); err != nil {
		t.Fatal(err)
	}
	n.Deliver(th.arc, again(msg))
	natstest.Eventually(t, patience, func() bool { return n.Counters().LocksLost == 1 }, "the manager loses the lock")
	natstest.Eventually(t, patience, func() bool { return n.Status().Idle == 1 }, "the environment made for it goes idle")
	if n.starts(call.RequestID) != 0 {
		t.Error("the call started")
	}
}

// behindProxy is a manager whose answers from JetStream the proxy can hold back, a call that it was given for the second time, and where
// the call's answer comes.
type behindProxy struct {
	*node
	proxy *natstest.Proxy
	c     *caller
	a     *answers
	call  *schema.Call
}

// locks has the manager try to lock a call, and holds the answer back.
func locks(t *testing.T) *behindProxy {
	t.Helper()
	f := natstest.Start(t)
	b := &behindProxy{proxy: natstest.StartProxy(t, f.URL)}
	nc, err := nats.Connect(b.proxy.URL, nats.CustomInboxPrefix("_LOCK"), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	t.Cleanup(b.proxy.Release) // before the manager stops
	b.node = startNode(t, f, nc, "m1", fewArcs)
	b.c = newCaller(t, f, "f1")
	key := b.c.deploy("resize")
	th := b.c.thief()
	b.a = b.c.listen()
	b.call = b.c.call("resize", key, b.a.inbox)
	b.call.StartBy = time.Hour
	msg, _ := th.take(b.call)
	b.c.invoke("resize", key) // all that it asks for is known, and something is idle
	b.proxy.HoldSubjects(func(subject string) bool { return strings.HasPrefix(subject, "_LOCK.") })
	b.Deliver(th.arc, again(msg))
	natstest.Eventually(t, patience, func() bool { return b.c.stored() == 0 }, "the call leaves the stream")
	return b
}

// Where the server takes long to answer for the lock, whoever has won it still starts the call: given up, it would be in no stream and
// nobody would run it.
func TestLockAnsweredLate(t *testing.T) {
	t.Parallel()
	b := locks(t)
	statuses, err := b.c.nc.SubscribeSync(b.c.names.ManagerStatus("m1"))
	if err != nil {
		t.Fatal(err)
	}
	beats, err := b.c.nc.SubscribeSync(subjects.FrontendInbox(b.call.Frontend, "b"))
	if err != nil {
		t.Fatal(err)
	}
	for whole := 0; whole < 12; { // longer than a lock is waited for at least: they come twice a second, and where something changed
		m, err := statuses.NextMsg(patience)
		if err != nil {
			t.Fatal(err)
		}
		var status schema.ManagerStatus
		if err := schema.Unmarshal(m.Data, &status); err != nil {
			t.Fatal(err)
		}
		if !status.Partial {
			whole++
		}
	}
	if b.starts(b.call.RequestID) != 0 {
		t.Error("the call started before it was known whose it is")
	}
	for named := false; !named; { // so that its frontend does not take it for lost meanwhile
		m, err := beats.NextMsg(patience)
		if err != nil {
			t.Fatal("no beat says that the lock is under way: ", err)
		}
		var beat schema.Beat
		if err := schema.Unmarshal(m.Data, &beat); err != nil {
			t.Fatal(err)
		}
		named = slices.Contains(beat.Locks, b.call.Token)
	}
	b.proxy.Release()
	b.a.want(1)
}

// Where the connection broke on which a lock was asked for, the answer may be lost: what waits for it lets go of its environment.
func TestLockAskedOfABrokenConnection(t *testing.T) {
	t.Parallel()
	b := locks(t)
	b.proxy.Cut()
	natstest.Eventually(t, patience, func() bool { return b.Counters().Uncrossed == 1 }, "the manager waits on, or started it")
	b.proxy.Release()
	natstest.Eventually(t, patience, func() bool { return b.Status().Idle > 0 }, "its environment is idle again")
	if b.starts(b.call.RequestID) != 0 {
		t.Error("the call started")
	}
}

// After the process stood still every claim takes the lock.
func TestStandstillLocks(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	n := startNode(t, f, f.Connect(t), "m1")
	c := newCaller(t, f, "f1")
	key := c.deploy("resize")
	natstest.Eventually(t, patience, func() bool { // ages are known after a second of calls
		before := n.Counters()
		c.invoke("resize", key)
		return n.Counters().LocksWon == before.LocksWon
	}, "calls cross the start line by their acknowledgement")
	before := n.Counters().LocksWon
	n.StandStill()
	c.invoke("resize", key)
	if got := n.Counters().LocksWon; got != before+1 {
		t.Errorf("%d locks after a standstill, want %d", got, before+1)
	}
}

// While its connection is down a manager starts nothing.
func TestDisconnectedStartsNothing(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	nc := f.ConnectTCP(t)
	n := startNode(t, f, nc, "m1", fewArcs)
	c := newCaller(t, f, "f1")
	th := c.thief()
	key := c.deploy("resize")
	c.invoke("resize", key)
	var stolen []*nats.Msg
	a := c.listen()
	for range 10 {
		msg, _ := th.take(c.call("resize", key, a.inbox))
		stolen = append(stolen, msg)
	}
	natstest.Eventually(t, patience, func() bool { return n.Status().Idle == 1 }, "the environment is idle")
	nc.Close()
	before := n.Counters()
	for i, msg := range stolen {
		if i%2 == 1 {
			msg = again(msg)
		}
		n.Deliver(th.arc, msg)
	}
	natstest.Eventually(t, patience, func() bool { return n.Counters().Uncrossed == before.Uncrossed+10 }, "all ten are let go")
	after := n.Counters()
	if after.Warm != before.Warm || after.Cold != before.Cold {
		t.Errorf("started %d calls while disconnected", after.Warm+after.Cold-before.Warm-before.Cold)
	}
	natstest.Eventually(t, patience, func() bool { return n.Status().Busy == 0 }, "no environment is left busy")
	if c.stored() != 10 {
		t.Errorf("%d calls are in the stream, want all ten for others", c.stored())
	}
}

// Past its start-by a call never runs, whether it waited in the stream or at the manager.
func TestPastStartBy(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	hold := make(chan struct{})
	n := startNode(t, f, f.Connect(t), "m1", fewArcs, func(_ *manager.Config, w *echoWorker) {
		w.init = func(b *schema.Binding) *schema.FunctionError {
			if b.FunctionID == "id-slow" {
				<-hold
			}
			return nil
		}
	})
	c := newCaller(t, f, "f1")
	th := c.thief()
	key, slow := c.deploy("resize"), c.deploy("slow")
	natstest.Eventually(t, patience, func() bool {
		before := n.Counters()
		c.invoke("resize", key)
		return n.Counters().LocksWon == before.LocksWon
	}, "the ages of calls are known")

	a := c.listen()
	waits := c.call("slow", slow, a.inbox)
	waits.StartBy = 2 * time.Second // time to be claimed before it on a slow machine
	c.publish(waits)
	natstest.Eventually(t, patience, func() bool { return n.Counters().Dropped == 1 }, "the claim that waits is dropped")
	close(hold)
	natstest.Eventually(t, patience, func() bool { return n.Status().Idle == 2 }, "the environment made for it goes idle")

	late := c.call("resize", key, a.inbox)
	late.StartBy = 300 * time.Millisecond
	msg, _ := th.take(late)
	published := time.Now()
	natstest.Eventually(t, patience, func() bool { return time.Since(published) > 2*late.StartBy }, "its start-by passes")
	n.Deliver(th.arc, msg)
	if got := n.Counters().Dropped; got != 2 {
		t.Errorf("%d claims dropped, want 2", got)
	}
	if n.starts(waits.RequestID)+n.starts(late.RequestID) != 0 {
		t.Error("a call started past its start-by")
	}
	if c.stored() != 2 {
		t.Errorf("%d calls are in the stream, want both left for the frontend to take out", c.stored())
	}
}

// What is no call of the fabric is terminated and counted, and serving goes on.
func TestGarbage(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	n := startNode(t, f, f.Connect(t), "m1")
	c := newCaller(t, f, "f1")
	key := c.deploy("resize")
	good := c.call("resize", key, c.nc.NewInbox())
	subject := c.subject(good)
	change := func(f func(*schema.Call)) []byte {
		call := *good
		f(&call)
		return schema.EncodeCall(nil, &call)
	}
	garbage := map[string][]byte{
		subject: []byte("garbage"),
		c.names.UnreservedCall(1, "a", "b", "c", ""): schema.EncodeCall(nil, good),
		f.Names.Prefix() + ".arc.u.5.a.b":            schema.EncodeCall(nil, good),
		f.Names.Prefix() + ".arc.u.7.a.b.c.d.e.f":    nil,
	}
	more := [][]byte{
		{0xdd, 0xff, 0xff, 0xff, 0xff},
		change(func(c *schema.Call) { c.Reply = "$JS.API.STREAM.DELETE.X" }),
		change(func(c *schema.Call) { c.Reply = "" }),
		change(func(c *schema.Call) { c.Account = "other" }),
		change(func(c *schema.Call) { c.Tenant = "other" }),
		change(func(c *schema.Call) { c.FunctionID = "" }),
	}
	want := int64(len(garbage) + len(more))
	for subject, body := range garbage {
		if _, err := c.js.Publish(t.Context(), subject, body); err != nil {
			t.Fatalf("publish to %s: %v", subject, err)
		}
	}
	for _, body := range more {
		if _, err := c.js.Publish(t.Context(), subject, body); err != nil {
			t.Fatal(err)
		}
	}
	natstest.Eventually(t, patience, func() bool { return n.Counters().Garbage == want && c.stored() == 0 }, "all garbage is gone")
	if msg := c.invoke("resize", key); start(msg) != schema.StartCold {
		t.Errorf("the call after it is %s", start(msg))
	}
}
