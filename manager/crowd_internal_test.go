package manager

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/manager/pool"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// crowded is a manager that does nothing by itself, with members on reserved arcs of a real server: what comes to its inboxes stays in
// the crowd's queue until a test has it taken in.
type crowded struct {
	t    *testing.T
	m    *Manager
	w    *crowdWorker
	js   jetstream.JetStream
	arcs []*arc
	keys []schema.Key
	sent []string // request ids, in order
}

// crowdWorker notes what it is to start, and how many deliveries waited to be taken in then.
type crowdWorker struct {
	Worker
	m *Manager

	mu      sync.Mutex
	calls   []string
	waiting []int
}

func (w *crowdWorker) Start(run *schema.Run) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls, w.waiting = append(w.calls, run.Call.RequestID), append(w.waiting, len(w.m.crowd.came))
}

func (w *crowdWorker) started() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.calls)
}

func newCrowded(t *testing.T, arcs, members, most int) *crowded {
	t.Helper()
	f := natstest.Start(t)
	w := &crowdWorker{}
	m, err := New(f.Connect(t), w, Config{ID: "m1", Names: f.Names, Fabric: natstest.Small(), Capacity: arcs * members})
	if err != nil {
		t.Fatal(err)
	}
	w.m = m
	var end context.CancelFunc
	m.life, end = context.WithCancel(t.Context())
	t.Cleanup(func() { end(); m.tasks.Wait() })
	// Nothing is in doubt: it never stood still, the server hears it, and both have one clock.
	now := m.now()
	m.pulse.last.Store(int64(now + time.Hour))
	m.flow.heard.Store(int64(now + time.Hour))
	clock := &m.clocks.by[0]
	clock.this, clock.has, clock.turned = int64(now)-time.Now().UnixNano(), true, now
	clock.base = clock.this
	m.offering, m.crowd.came = true, make(chan *nats.Msg, most)
	c := &crowded{t: t, m: m, w: w, js: m.js}
	for class := range m.offers.body { // no pull expires: a status in its place would be taken for a delivery
		for n := range m.offers.body[class] {
			m.offers.body[class][n] = bytes.Replace(m.offers.body[class][n], fmt.Append(nil, int64(pullExpires)), fmt.Append(nil, int64(time.Hour)), 1)
		}
	}
	for i := range arcs {
		call := subjects.ArcCall{Reserved: true, Account: "default", Function: fmt.Sprint("f", i), Version: "1", Epoch: uint64(i + 1)}
		if err := topology.EnsureReservedArc(t.Context(), m.js, m.names, 0, call.Account, call.Function, "1", call.Epoch); err != nil {
			t.Fatal(err)
		}
		o := &opening{name: call.ArcName(), account: call.Account, function: call.Function, version: "1", epoch: call.Epoch, order: []string{"m1"}}
		m.openings.byName[o.name] = o
		key := schema.Key{FunctionID: call.Function, Version: "1", CodeSHA256: "ab", ConfigRevision: 1}
		c.keys = append(c.keys, key)
		m.mu.Lock()
		plan := m.pool.SetShare(time.Now(), pool.Home{Key: key, Reservation: call.Epoch},
			pool.Spec{Account: call.Account, Function: call.Function, Arc: o.name}, pool.Share{Members: members})
		for _, mk := range plan.Make {
			m.pool.Parked(time.Now(), mk.Environment, 0)
		}
		c.arcs = append(c.arcs, m.offers.arc(m, o.name))
		m.mu.Unlock()
	}
	c.givesAgain(time.Hour)
	c.offer()
	return c
}

// givesAgain sets after how long the server gives a delivery again that was not acknowledged: not at all, while what came is only looked at.
func (c *crowded) givesAgain(after time.Duration) {
	c.t.Helper()
	for _, a := range c.arcs {
		stream, durable := c.m.names.CallsR(0), c.m.names.ReservedDurable(a.of.epoch)
		consumer, err := c.js.Consumer(c.t.Context(), stream, durable)
		if err != nil {
			c.t.Fatal(err)
		}
		cfg := consumer.CachedInfo().Config
		cfg.AckWait = after
		if _, err := c.js.UpdateConsumer(c.t.Context(), stream, cfg); err != nil {
			c.t.Fatal(err)
		}
	}
}

// offer opens what is to be open, by new inboxes, as the loop does, and withdraws those that were.
func (c *crowded) offer() {
	c.t.Helper()
	c.write(c.pass())
}

// pass is a look of the loop at all arcs that has every pull sent anew.
func (c *crowded) pass() pass {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	return c.m.offers.pass(c.m, time.Now(), true, true)
}

// write is what the loop does of a look.
func (c *crowded) write(p pass) {
	c.t.Helper()
	for _, add := range p.adds {
		c.m.send(add)
	}
	for _, i := range p.old {
		c.m.withdraw(i)
	}
	if err := c.m.nc.Flush(); err != nil {
		c.t.Fatal(err)
	}
}

// inboxes are those that are listened to.
func (c *crowded) inboxes() (all []*inbox) {
	for _, a := range c.arcs {
		if g := a.sides[idle].gen; g != nil && !slices.Contains(all, g.at) {
			all = append(all, g.at)
		}
	}
	return all
}

// call publishes calls, to one arc after the other.
func (c *crowded) call(n int) {
	c.t.Helper()
	for range n {
		at := len(c.sent) % len(c.arcs)
		call := schema.Call{
			Key: c.keys[at], RequestID: fmt.Sprintf("r-%03d", len(c.sent)), Account: "default", Function: c.arcs[at].of.function, Frontend: "f1",
			Token: uint64(len(c.sent) + 1), Reply: c.m.nc.NewInbox(), Reason: schema.ReasonReserved, Attempt: 1, StartBy: time.Minute, Timeout: time.Second,
		}
		if _, err := c.js.Publish(c.t.Context(), c.arcs[at].calls, schema.EncodeCall(nil, &call)); err != nil {
			c.t.Fatal(err)
		}
		c.sent = append(c.sent, call.RequestID)
	}
}

// waiting waits until so many deliveries wait to be taken in.
func (c *crowded) waiting(n int) {
	c.t.Helper()
	natstest.Eventually(c.t, time.Minute, func() bool { return len(c.m.crowd.came) == n }, fmt.Sprint(n, " deliveries wait to be taken in"))
}

// takeIn has what waits taken in, as when the manager stops: the loop is told to end before it begins.
func (c *crowded) takeIn() {
	ctx, end := context.WithCancel(c.t.Context())
	end()
	c.m.crowdLoop(ctx)
}

// stored is how many calls lie in the stream.
func (c *crowded) stored() uint64 {
	s, err := c.js.Stream(c.t.Context(), c.m.names.CallsR(0))
	if err != nil {
		c.t.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

// What came to the inboxes of many arcs is taken in by one goroutine in the order in which it came, also what came to inboxes that
// were drained since and what waits when the loop is told to end; and calls of different arcs are acknowledged together.
func TestCrowdTakesInAll(t *testing.T) {
	t.Parallel()
	const arcs, calls = 3, lineupMost + 2
	c := newCrowded(t, arcs, calls/arcs, 64)
	acks, err := c.m.nc.SubscribeSync("$JS.ACK.>")
	if err != nil {
		t.Fatal(err)
	}
	for n := range calls { // the consumers of two arcs do not deliver in the order in which calls were stored
		c.call(1)
		c.waiting(n + 1)
	}
	drained := c.inboxes()
	if len(drained) == 0 {
		t.Fatal("nothing is offered")
	}
	for _, i := range drained {
		c.m.withdraw(i)
	}
	natstest.Eventually(t, time.Minute, func() bool {
		return !slices.ContainsFunc(drained, func(i *inbox) bool { return i.sub.IsValid() })
	}, "the inboxes are closed")
	c.takeIn()
	if got := c.w.started(); !slices.Equal(got, c.sent) {
		t.Errorf("started %v,\nwant %v", got, c.sent)
	}
	var order []string
	for range calls {
		ack, err := acks.NextMsg(10 * time.Second)
		if err != nil {
			t.Fatalf("after %d acknowledgements: %v", len(order), err)
		}
		parsed, _ := subjects.ParseAck(ack.Subject)
		order = append(order, fmt.Sprintf("r-%03d", parsed.StreamSeq-c.first()))
	}
	if !slices.Equal(order, c.sent) {
		t.Errorf("acknowledged %v,\nwant %v", order, c.sent)
	}
	if n := c.w.waiting[0]; n != calls-lineupMost {
		t.Errorf("%d deliveries waited when the first call started, want %d: so many are acknowledged together", n, calls-lineupMost)
	}
	natstest.Eventually(t, time.Minute, func() bool { return c.stored() == 0 }, "no call is left")
	if n := c.m.Counters().Garbage; n != 0 {
		t.Errorf("%d were taken for garbage", n)
	}
}

// first is the sequence of the first call.
func (c *crowded) first() uint64 {
	s, err := c.js.Stream(c.t.Context(), c.m.names.CallsR(0))
	if err != nil {
		c.t.Fatal(err)
	}
	return s.CachedInfo().State.LastSeq - uint64(len(c.sent)) + 1
}

// The queue has a bound, at which nothing waits: the connection goes on, and what found no place is given again after ackWait. Each
// call starts once.
func TestCrowdIsBounded(t *testing.T) {
	t.Parallel()
	const calls, most = 8, 3
	c := newCrowded(t, 2, calls, most)
	beside, err := c.m.nc.SubscribeSync("beside")
	if err != nil {
		t.Fatal(err)
	}
	c.call(calls)
	if err := c.m.nc.Publish("beside", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := beside.NextMsg(10 * time.Second); err != nil {
		t.Fatalf("what else comes by the connection: %v", err)
	}
	dropped := 0
	natstest.Eventually(t, time.Minute, func() bool {
		dropped = 0
		for _, i := range c.inboxes() {
			n, err := i.sub.Dropped()
			if err != nil {
				t.Fatal(err)
			}
			dropped += n
		}
		return dropped == calls-most
	}, "what had no place is dropped")
	ctx, end := context.WithCancel(t.Context())
	var loop sync.WaitGroup
	loop.Go(func() { c.m.crowdLoop(ctx) })
	defer loop.Wait()
	defer end()
	natstest.Eventually(t, time.Minute, func() bool { return c.stored() == calls-most }, "what had a place is acknowledged")
	c.givesAgain(ackWait)
	renewed := time.Time{}
	natstest.Eventually(t, time.Minute, func() bool {
		if time.Since(renewed) > renewEvery { // what was dropped had used pulls up
			renewed = time.Now()
			c.offer()
		}
		return len(c.w.started()) == calls && c.stored() == 0
	}, "all have started")
	got := c.w.started()
	slices.Sort(got)
	if !slices.Equal(got, c.sent) {
		t.Errorf("started %v, want each once", got)
	}
}

// A drained inbox is known for as long as something of it may come, and then forgotten: what comes after that is nobody's, and holds
// nothing up.
func TestCrowdForgetsInboxes(t *testing.T) {
	t.Parallel()
	c := newCrowded(t, 1, 4, 16)
	old := make([]*nats.Subscription, 100)
	for i := range old {
		old[i] = new(nats.Subscription)
		c.m.crowd.add(old[i], c.inboxes()[0])
		c.m.crowd.leaves(old[i], time.Duration(i)*time.Second)
	}
	c.m.crowd.leaves(new(nats.Subscription), time.Hour) // of an inbox that was never listened to
	last := time.Duration(len(old)-1) * time.Second
	for i, sub := range old {
		known := last-time.Duration(i)*time.Second <= crowdKept
		if got := c.m.crowd.inbox(sub) != nil; got != known {
			t.Errorf("inbox %d, drained %v before the last: known %v, want %v", i, last-time.Duration(i)*time.Second, got, known)
		}
	}
	if n := len(c.m.crowd.left); n != int(crowdKept/time.Second)+1 {
		t.Errorf("%d are noted", n)
	}
	c.call(2)
	c.waiting(2)
	c.m.crowd.came <- &nats.Msg{Sub: old[0], Subject: "x"}
	c.takeIn()
	if got := c.w.started(); !slices.Equal(got, c.sent) || c.m.Counters().Garbage != 1 {
		t.Errorf("started %v and %d garbage, want %v and one", got, c.m.Counters().Garbage, c.sent)
	}
}

// What counts as open is not the server's before it is written, and whoever waits until a manager has settled waits for that: tests have
// calls come in order after it.
func TestSettledWhenWritten(t *testing.T) {
	t.Parallel()
	c := newCrowded(t, 1, 1, 8)
	if !c.m.Settled() {
		t.Error("not settled when all is written")
	}
	p := c.pass()
	if len(p.adds) == 0 || c.m.Settled() {
		t.Errorf("settled with %d pulls still to be written", len(p.adds))
	}
	c.write(p)
	if !c.m.Settled() {
		t.Error("not settled when all is written again")
	}
}
