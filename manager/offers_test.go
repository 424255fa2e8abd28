package manager_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/manager"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// waitingPulls asks the server how many pulls wait on an arc: the requests, whose batches may be larger.
func (c *caller) waitingPulls(nn int) int {
	c.t.Helper()
	info := c.consumer(nn)
	return info.NumWaiting
}

func (c *caller) consumer(nn int) *jetstream.ConsumerInfo {
	c.t.Helper()
	cons, err := c.js.Consumer(c.t.Context(), c.names.CallsOf(nn), c.names.UnreservedDurable(nn))
	if err != nil {
		c.t.Fatal(err)
	}
	info, err := cons.Info(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	return info
}

// taken waits until the server has put every pull that it was sent for these arcs in its place: a consumer takes them in one by one and
// in order, so that the one which is answered here was the last. No call may wait on these arcs.
func (c *caller) taken(arcs ...int) {
	c.t.Helper()
	sub, err := c.nc.SubscribeSync(c.nc.NewInbox())
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	body := fmt.Appendf(nil, `{"batch":1,"no_wait":true,"group":%q,"priority":9}`, topology.PriorityGroup)
	for _, nn := range arcs {
		next := "$JS.API.CONSUMER.MSG.NEXT." + c.names.CallsOf(nn) + "." + c.names.UnreservedDurable(nn)
		if err := c.nc.PublishRequest(next, sub.Subject, body); err != nil {
			c.t.Fatal(err)
		}
	}
	for range arcs {
		msg, err := sub.NextMsg(patience)
		if err != nil {
			c.t.Fatal(err)
		}
		if status := msg.Header.Get("Status"); status != "404" {
			c.t.Fatalf("a pull that does not wait is answered %v %q", msg.Header, msg.Data)
		}
	}
}

// stored is how many calls the streams of unreserved arcs hold.
func (c *caller) stored() (n uint64) {
	c.t.Helper()
	for stream := range subjects.UnreservedStreams {
		s, err := c.js.Stream(c.t.Context(), c.names.CallsU(stream))
		if err != nil {
			c.t.Fatal(err)
		}
		n += s.CachedInfo().State.Msgs
	}
	return n
}

// gate holds calls until it is opened, and counts those inside.
type gate struct {
	mu     sync.Mutex
	inside int
	open   chan struct{}
}

func newGate() *gate { return &gate{open: make(chan struct{})} }

func (g *gate) pass(*schema.Run) {
	g.mu.Lock()
	g.inside++
	g.mu.Unlock()
	<-g.open
	g.mu.Lock()
	g.inside--
	g.mu.Unlock()
}

func (g *gate) held() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.inside
}

func gated(g *gate) setting {
	return func(_ *manager.Config, w *echoWorker) { w.run = g.pass }
}

// send publishes calls without waiting; their answers come to one subscription. They may wait for a minute until they start: a
// machine that is busy with other things is no shortage.
func (c *caller) send(name string, key schema.Key, n int) *answers {
	c.t.Helper()
	a := c.listen()
	for range n {
		call := c.call(name, key, a.inbox)
		if err := c.nc.Publish(c.subject(call), schema.EncodeCall(nil, call)); err != nil {
			c.t.Fatal(err)
		}
	}
	return a
}

// Idle environments are offered exactly and room by its credit: what stands open at the server is what the manager has.
func TestOffersAreExact(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	g := newGate()
	n := startNode(t, f, f.Connect(t), "m1", capacity(8), gated(g))
	c := newCaller(t, f, "f1")
	key := c.deploy("resize")
	nn := subjects.UnreservedArc(subjects.DefaultAccount, "resize", "", natstest.Arcs)
	other := (nn + 1) % natstest.Arcs
	here, there := c.hearPulls(nn), c.hearPulls(other)
	a := c.send("resize", key, 8)
	natstest.Eventually(t, patience, func() bool { return g.held() == 8 }, "all eight calls run")
	// Room is out: nothing but the catcher stands open on any arc.
	natstest.Eventually(t, patience, func() bool {
		for nn := range natstest.Arcs {
			if c.waitingPulls(nn) > 1 {
				return false
			}
		}
		return true
	}, "only the catcher's pull is open while every environment is busy")
	close(g.open)
	a.want(8)
	natstest.Eventually(t, patience, func() bool { return n.Status().Idle == 8 }, "all eight are idle")
	// Eight idle ones and a credit of room (room 8 over 64 arcs: the least, 4).
	natstest.Eventually(t, patience, func() bool {
		return here.last(0) == 8 && here.last(5) == 4 && here.last(9) == 64 && c.waitingPulls(nn) == 3
	}, "one request for 8 idle environments, one for a credit of 4 and the catcher's are open")
	natstest.Eventually(t, patience, func() bool {
		return there.last(0) == 0 && there.last(5) == 4 && there.last(9) == 64 && c.waitingPulls(other) == 2
	}, "on another arc only the credit and the catcher's are open")
}

// A call that needs room finds it where an environment of another function is idle, and not before.
func TestEvictsForRoom(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	g := newGate()
	n := startNode(t, f, f.Connect(t), "m1", capacity(1), func(_ *manager.Config, w *echoWorker) {
		w.run = func(run *schema.Run) {
			if run.Call.Function == "slow" {
				g.pass(run)
			}
		}
	})
	c := newCaller(t, f, "f1")
	opened(t, g)
	slow, quick := c.deploy("slow"), c.deploy("quick")
	first := c.send("slow", slow, 1)
	natstest.Eventually(t, patience, func() bool { return g.held() == 1 }, "the slow call runs")
	if err := refused(c.send("quick", quick, 1).want(1)[0]); schema.CodeOf(err) != schema.CodeCapacityExceeded {
		t.Errorf("the quick call while the slow one runs: %v", err)
	}
	close(g.open)
	first.want(1)
	natstest.Eventually(t, patience, func() bool { return n.Status().Idle == 1 }, "the slow call's environment is idle")
	if got := start(c.invoke("quick", quick)); got != schema.StartCold {
		t.Errorf("the quick call is %s, want cold: the slow one's environment was evicted for it", got)
	}
}

// Taking offers back under load loses no call.
func TestWithdrawalLosesNothing(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t, many())
	var nodes []*node
	for i := range 3 {
		nodes = append(nodes, startNode(t, f, f.Connect(t), fmt.Sprint("m", i), capacity(3), asksLate))
	}
	c := newCaller(t, f, "f1")
	// Four functions share nine places, so that room runs out, comes back, and idle environments are evicted all the time.
	const callers = 8
	calls := natstest.Fewer(150, 40)
	keys := make([]schema.Key, 4)
	for i := range keys {
		keys[i] = c.deploy(fmt.Sprint("fn", i))
	}
	var wg sync.WaitGroup
	failed := make(chan error, callers*calls)
	for w := range callers {
		wg.Go(func() {
			for i := range calls {
				fn := (w + i) % len(keys)
				if err := c.tryInvoke(fmt.Sprint("fn", fn), keys[fn]); err != nil {
					failed <- err
				}
			}
		})
	}
	wg.Wait()
	close(failed)
	unstarted(t, nodes, failed)
	withdrawn := int64(0)
	for _, n := range nodes {
		withdrawn += n.Counters().Withdrawals
	}
	if withdrawn == 0 {
		t.Error("nothing was withdrawn: the test met no shortage")
	}
	natstest.Eventually(t, patience, func() bool { return c.stored() == 0 }, "no call is left in the stream")
}

// A manager that stops takes its offers back: the others serve on, and nothing is left claimed.
func TestStopWithdraws(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	c := newCaller(t, f, "f1")
	key := c.deploy("resize")
	nodes := []*node{startNode(t, f, f.Connect(t), "m1"), startNode(t, f, f.Connect(t), "m2")}
	first := c.invoke("resize", key)
	for _, n := range nodes {
		if n.ID() == first.Header.Get(schema.HeaderManager) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := n.Stop(ctx); err != nil {
				t.Fatal(err)
			}
			if n.worker.live() != 0 {
				t.Errorf("%d environments are left", n.worker.live())
			}
		}
	}
	began := time.Now()
	second := c.invoke("resize", key)
	if second.Header.Get(schema.HeaderManager) == first.Header.Get(schema.HeaderManager) {
		t.Error("the call ran at the manager that stopped")
	}
	t.Logf("served by the other after %v", time.Since(began))
}
