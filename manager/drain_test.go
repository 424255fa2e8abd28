package manager_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/manager"
	"github.com/hearth-run/hearth/schema"
)

// order asks a manager for something as a frontend does.
func (c *caller) order(id string, body []byte) *nats.Msg {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	msg, err := c.nc.RequestWithContext(ctx, c.names.ManagerControl(id), body)
	if err != nil {
		c.t.Fatal(err)
	}
	return msg
}

// drain orders something and gives the answer.
func (c *caller) drain(id string, op schema.ControlOp) schema.DrainOutput {
	c.t.Helper()
	body, err := schema.Marshal(schema.Control{V: schema.Version, Op: op})
	if err != nil {
		c.t.Fatal(err)
	}
	msg := c.order(id, body)
	if text := msg.Header.Get(schema.HeaderError); text != "" {
		c.t.Fatalf("%s %s: %s", op, id, text)
	}
	var out schema.DrainOutput
	if err := schema.Unmarshal(msg.Data, &out); err != nil {
		c.t.Fatal(err)
	}
	return out
}

// A drained manager lets its calls finish, gives back what has not started, offers nothing and stays; let back, it serves.
func TestDrainAndBack(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	g := newGate()
	initialise := make(chan struct{})
	held := func(_ *manager.Config, w *echoWorker) {
		w.run = func(run *schema.Run) {
			if run.Call.Function == "held" {
				g.pass(run)
			}
		}
		w.init = func(b *schema.Binding) *schema.FunctionError {
			if b.FunctionID == "id-slow" {
				<-initialise
			}
			return nil
		}
	}
	n := startNode(t, f, f.Connect(t), "m1", held)
	c := newCaller(t, f, "f1")
	key, slow := c.deploy("held"), c.deploy("slow")
	runs := c.send("held", key, 2)
	natstest.Eventually(t, patience, func() bool { return g.held() == 2 }, "two calls run")
	waits := c.send("slow", slow, 1)
	natstest.Eventually(t, patience, func() bool { return n.Waiting() == 1 }, "one claim waits for its environment")
	natstest.Eventually(t, patience, func() bool { // a manager that stood still for as long as its lease lives is off the ring for a moment
		out := c.drain("m1", schema.ControlState)
		return out.State == schema.MemberActive && out.Busy == 2 && out.Waiting == 1 && out.OnRing
	}, "before it drains it is on the ring, with two calls and one that waits")
	if out := c.drain("m1", schema.ControlDrain); out.State != schema.MemberDraining || out.Busy != 2 || out.Waiting != 0 {
		t.Errorf("drains: %+v", out)
	}
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		done <- n.Drain(ctx) // again, and waits
	}()
	natstest.Eventually(t, patience, func() bool { return !c.drain("m1", schema.ControlState).OnRing }, "it is off the ring")
	natstest.Eventually(t, patience, func() bool { return slices.Equal(c.ring().Leaving, []string{"m1"}) }, "the ring says that it leaves")
	natstest.Eventually(t, patience, func() bool { return c.stored() == 1 }, "of the calls that one is in the stream which was given back")
	select {
	case err := <-done:
		t.Fatalf("drained while calls ran: %v", err)
	default:
	}
	close(initialise)
	close(g.open)
	runs.want(2)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if n.worker.live() != 0 || n.State() != schema.MemberDraining {
		t.Errorf("drained: %d environments, state %s", n.worker.live(), n.State())
	}
	natstest.Eventually(t, patience, func() bool {
		for nn := range c.arcs {
			if c.waitingPulls(nn) > 0 {
				return false
			}
		}
		return true
	}, "nothing is offered")
	began := time.Now()
	natstest.Eventually(t, patience, func() bool { return time.Since(began) > 3*time.Second }, "longer than a lease lives")
	natstest.Eventually(t, patience, func() bool { return slices.Equal(c.ring().Leaving, []string{"m1"}) }, "a drained manager keeps its lease")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := n.Undrain(ctx); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, patience, func() bool {
		ring := c.ring()
		return slices.Equal(ring.Members, []string{"m1"}) && len(ring.Leaving) == 0
	}, "it is let back")
	waits.want(1) // it waited in the stream
	c.invoke("held", key)
}

// A drain that is taken back says so, and leaves the warm environments of what still ran.
func TestUndrainWhileDraining(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	g := newGate()
	n := startNode(t, f, f.Connect(t), "m1", gated(g))
	c := newCaller(t, f, "f1")
	key := c.deploy("resize")
	runs := c.send("resize", key, 1)
	natstest.Eventually(t, patience, func() bool { return g.held() == 1 }, "a call runs")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- n.Drain(ctx) }()
	natstest.Eventually(t, patience, func() bool { return len(c.ring().Leaving) == 1 }, "it leaves the ring")
	if err := n.Undrain(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-done; schema.CodeOf(err) != schema.CodeConflict {
		t.Errorf("drain: %v, want %s", err, schema.CodeConflict)
	}
	close(g.open)
	runs.want(1)
	if got := start(c.invoke("resize", key)); got != schema.StartWarm {
		t.Errorf("the next call is %s", got)
	}
}

// What is no order, or comes from where no node of the fabric is answered, changes nothing.
func TestBadOrders(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	n := startNode(t, f, f.Connect(t), "m1")
	c := newCaller(t, f, "f1")
	for name, body := range map[string][]byte{
		"nothing": nil, "hostile": {0xdd, 0xff, 0xff, 0xff, 0xff}, "of a version to come": {0x82, 0xa1, 'v', 0x7f, 0xa2, 'o', 'p', 0xa5, 'd', 'r', 'a', 'i', 'n'},
	} {
		msg := c.order("m1", body)
		if err := schema.ParseErrorHeaders(msg.Header.Get(schema.HeaderErrorCode), msg.Header.Get(schema.HeaderError)); schema.CodeOf(err) != schema.CodeInvalidRequest {
			t.Errorf("%s: %v", name, err)
		}
	}
	body, err := schema.Marshal(schema.Control{V: schema.Version, Op: "explode"})
	if err != nil {
		t.Fatal(err)
	}
	msg := c.order("m1", body)
	if err := schema.ParseErrorHeaders(msg.Header.Get(schema.HeaderErrorCode), msg.Header.Get(schema.HeaderError)); schema.CodeOf(err) != schema.CodeInvalidParameter {
		t.Errorf("an unknown order: %v", err)
	}
	body, err = schema.Marshal(schema.Control{V: schema.Version, Op: schema.ControlDrain})
	if err != nil {
		t.Fatal(err)
	}
	before := n.Counters().Garbage
	for _, reply := range []string{"", "$JS.API.STREAM.DELETE.X", "hearth.m.m1.ctl"} {
		if err := c.nc.PublishMsg(&nats.Msg{Subject: c.names.ManagerControl("m1"), Reply: reply, Data: body}); err != nil {
			t.Fatal(err)
		}
	}
	natstest.Eventually(t, patience, func() bool { return n.Counters().Garbage == before+3 }, "all three are counted")
	if n.State() != schema.MemberActive {
		t.Errorf("state %s", n.State())
	}
}
