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

// A steady closed loop leaves nothing behind: no call in the stream, no environment busy, and every end told.
func TestClosedLoop(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t, many())
	var nodes []*node
	for i := range 3 {
		nodes = append(nodes, startNode(t, f, f.Connect(t), fmt.Sprint("m", i), asksLate))
	}
	c := newCaller(t, f, "f1")
	key := c.deploy("resize")
	const callers = 4
	calls := int64(natstest.Fewer(2000, 400))
	var wg sync.WaitGroup
	failed := make(chan error, calls)
	for range callers {
		wg.Go(func() {
			for range calls / callers {
				if err := c.tryInvoke("resize", key); err != nil {
					failed <- err
				}
			}
		})
	}
	wg.Wait()
	close(failed)
	calls -= unstarted(t, nodes, failed)
	if t.Failed() {
		for _, n := range nodes {
			t.Logf("%s: %+v %+v", n.ID(), n.Counters(), n.Status())
		}
		t.Fatalf("%d calls are left in the stream", c.stored())
	}
	seen := make(map[uint64]bool)
	deadline := time.After(patience)
	for int64(len(seen)) < calls {
		select {
		case token := <-c.ended:
			if seen[token] {
				t.Errorf("the end of call %d was told twice", token)
			}
			seen[token] = true
		case <-deadline:
			t.Fatalf("the ends of %d of %d calls were told", len(seen), calls)
		}
	}
	natstest.Eventually(t, patience, func() bool { return c.stored() == 0 }, "no call is left in the stream")
	var cold, warm int64
	for _, n := range nodes {
		natstest.Eventually(t, patience, func() bool { // one that was made for a call which found another may still start
			s := n.Status()
			return s.Busy == 0 && s.Starting == 0
		}, n.ID()+" has no environment that is busy or starts")
		k := n.Counters()
		cold += k.Cold
		warm += k.Warm
	}
	if cold+warm != calls {
		t.Errorf("%d cold and %d warm starts of %d calls", cold, warm, calls)
	}
	t.Logf("%d cold of %d", cold, calls)
}

// A frontend hears every half second which of its calls run for longer than that.
func TestBeats(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	g := newGate()
	n := startNode(t, f, f.Connect(t), "m1", gated(g))
	c := newCaller(t, f, "f1")
	beats := make(chan schema.Beat, 64)
	if _, err := c.nc.Subscribe(subjects.FrontendInbox("f1", "b"), func(msg *nats.Msg) {
		var b schema.Beat
		if err := schema.Unmarshal(msg.Data, &b); err != nil {
			t.Errorf("read a beat: %v", err)
		}
		beats <- b
	}); err != nil {
		t.Fatal(err)
	}
	key := c.deploy("resize")
	a := c.send("resize", key, 3)
	number := uint64(0)
	deadline := time.After(patience)
	next := func() schema.Beat {
		select {
		case b := <-beats:
			return b
		case <-deadline:
			t.Fatal("no beat that names the three calls")
			return schema.Beat{}
		}
	}
	for range 3 {
		b := next()
		for len(b.Tokens) < 3 {
			b = next() // the first may come when only some run for long enough
		}
		if b.Manager != "m1" || b.Incarnation != n.Incarnation() || b.Number <= number {
			t.Errorf("beat %+v after number %d", b, number)
		}
		number = b.Number
	}
	close(g.open)
	a.want(3)
}

// After the NATS server has restarted, and lost what lay in memory, the managers set up again and offer anew; what ran
// goes on running.
func TestServerRestart(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	g := newGate()
	var nodes []*node
	for i := range 2 {
		nodes = append(nodes, startNode(t, f, f.ConnectTCP(t), fmt.Sprint("m", i), func(_ *manager.Config, w *echoWorker) {
			w.run = func(run *schema.Run) {
				if run.Call.Function == "held" {
					g.pass(run)
				}
			}
		}))
	}
	before := newCaller(t, f, "f1")
	key, held := before.deploy("resize"), before.deploy("held")
	before.invoke("resize", key)
	before.send("held", held, 1)
	natstest.Eventually(t, patience, func() bool { return g.held() == 1 }, "the held call runs")
	f.Restart(t)
	c := newCaller(t, f, "f1")
	natstest.Eventually(t, patience, func() bool {
		for stream := range subjects.UnreservedStreams {
			if _, err := c.js.Stream(t.Context(), c.names.CallsU(stream)); err != nil {
				return false
			}
		}
		return true
	}, "the managers made the streams again")
	natstest.Eventually(t, patience, c.holds("m0", "m1"), "both are on the ring")
	natstest.Eventually(t, patience, func() bool { return start(c.invoke("resize", key)) == schema.StartWarm },
		"idle environments are offered again")
	close(g.open)
	natstest.Eventually(t, patience, func() bool {
		busy := 0
		for _, n := range nodes {
			busy += n.Status().Busy
		}
		return busy == 0
	}, "the call that ran through the restart ends")
}

// A claim that waits for a slow init stays in hands for longer than the server would leave an untended one.
func TestWaitsThroughSlowInit(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	initialise := make(chan struct{})
	g := newGate() // all three run at once: else what came free first would take the claim of another, as it should
	n := startNode(t, f, f.Connect(t), "m1", func(_ *manager.Config, w *echoWorker) {
		w.run = g.pass
		w.init = func(*schema.Binding) *schema.FunctionError {
			<-initialise
			return nil
		}
	})
	c := newCaller(t, f, "f1")
	key := c.deploy("slow")
	began := time.Now()
	a := c.send("slow", key, 3)
	natstest.Eventually(t, patience, func() bool { return time.Since(began) > topology.AckWait+topology.AckWait/2 }, "AckWait passes")
	nn := subjects.UnreservedArc(subjects.DefaultAccount, "slow", "", natstest.Arcs)
	if info := c.consumer(nn); info.NumRedelivered != 0 || info.NumAckPending != 3 {
		t.Errorf("%d redelivered, %d claimed; want 0 and 3", info.NumRedelivered, info.NumAckPending)
	}
	close(initialise)
	natstest.Eventually(t, patience, func() bool { return g.held() == 3 }, "all three run")
	close(g.open)
	for _, msg := range a.want(3) {
		if start(msg) != schema.StartCold {
			t.Errorf("a call is %s", start(msg))
		}
	}
	if k := n.Counters(); k.Cold != 3 || k.Dropped != 0 || c.stored() != 0 {
		t.Errorf("counters %+v, %d calls left", k, c.stored())
	}
}

// A connection that breaks and comes back costs no call and leaves the offers exact; what runs is named to its frontend.
func TestReconnect(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	g := newGate()
	nc := f.ConnectTCP(t)
	n := startNode(t, f, nc, "m1", func(_ *manager.Config, w *echoWorker) {
		w.run = func(run *schema.Run) {
			if run.Call.Function == "held" {
				g.pass(run)
			}
		}
	})
	c := newCaller(t, f, "f1")
	key, held := c.deploy("resize"), c.deploy("held")
	c.invoke("resize", key) // token 1; it has ended before anybody listens
	type named struct {
		token uint64
		late  bool
	}
	hears := make(chan named, 1024)
	if _, err := c.nc.Subscribe(subjects.FrontendInbox("f1", "b"), func(msg *nats.Msg) {
		var b schema.Beat
		if err := schema.Unmarshal(msg.Data, &b); err != nil {
			t.Errorf("read a beat: %v", err)
		}
		for late, tokens := range [][]uint64{b.Tokens, b.Late} {
			for _, token := range tokens {
				select {
				case hears <- named{token, late == 1}:
				default:
				}
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
	a := c.send("held", held, 1)
	natstest.Eventually(t, patience, func() bool { return g.held() == 1 }, "the held call runs")
	if err := nc.ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	seen := make(map[named]bool)
	deadline := time.After(patience)
	for !seen[named{2, false}] || !seen[named{1, true}] { // the one that has ended too: its answer may have got lost
		select {
		case one := <-hears:
			seen[one] = true
		case <-deadline:
			t.Fatalf("beats named %v", seen)
		}
	}
	if seen[named{1, false}] {
		t.Error("the call that has ended is named like one that runs")
	}
	if got := start(c.invoke("resize", key)); got != schema.StartWarm {
		t.Errorf("the call after the reconnect is %s", got)
	}
	close(g.open)
	a.want(1)
	nn := subjects.UnreservedArc(subjects.DefaultAccount, "resize", "", natstest.Arcs)
	p := c.hearPulls(nn)
	natstest.Eventually(t, patience, func() bool {
		return p.last(0) == 1 && p.last(5) == 4 && p.last(9) == 64 && c.waitingPulls(nn) == 3 && n.Status().Busy == 0
	}, "one idle environment, the credit and the catcher are offered, once")
	if c.stored() != 0 {
		t.Errorf("%d calls are left in the stream", c.stored())
	}
}

// When the fabric gets fewer arcs, calls that still come by the others are served, and the environments that are there.
func TestFewerArcs(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	n := startNode(t, f, f.Connect(t), "m1")
	c := newCaller(t, f, "f1")
	name := ""
	for i := range 100 {
		name = "fn" + string(rune('a'+i%26)) + string(rune('a'+i/26))
		if subjects.UnreservedArc(subjects.DefaultAccount, name, "", natstest.Arcs) >= 8 {
			break
		}
	}
	key := c.deploy(name)
	c.invoke(name, key)
	kv := c.bucket(topology.Ring)
	numbers := natstest.Small()
	numbers.Arcs = 8
	b, err := schema.Marshal(numbers)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), schema.FabricKey, b); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, patience, func() bool {
		s := n.Status()
		return len(s.Arcs) == 1 && s.Arcs[0].Arc == subjects.UnreservedName(subjects.UnreservedArc(subjects.DefaultAccount, name, "", 8))
	}, "the environment is offered on its new arc")
	if got := start(c.invoke(name, key)); got != schema.StartWarm {
		t.Errorf("a call by the old arc is %s, want warm", got)
	}
	c.arcs = 8
	if got := start(c.invoke(name, key)); got != schema.StartWarm {
		t.Errorf("a call by the new arc is %s, want warm", got)
	}
}
