package manager_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// A claim that comes to a manager with nothing warm for it runs in the warm environment of another.
func TestHandOver(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	nodes := []*node{startNode(t, f, f.Connect(t), "m0"), startNode(t, f, f.Connect(t), "m1")}
	c := newCaller(t, f, "f1")
	settled(t, c, nodes)
	told(t, nodes)
	key := c.deploy("resize")
	nn := subjects.UnreservedArc(subjects.DefaultAccount, "resize", "", subjects.DefaultArcs)
	ranks := subjects.NewRing(0, []string{"m0", "m1"}).Unreserved(nil, nn, 0)
	first, second := nodes[ranks[0]], nodes[ranks[1]]
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := first.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	if got := c.invoke("resize", key).Header.Get(schema.HeaderManager); got != second.ID() {
		t.Fatalf("ran at %s while the first rank is away", got)
	}
	if err := first.Undrain(ctx); err != nil {
		t.Fatal(err)
	}
	settled(t, c, nodes)
	natstest.Eventually(t, patience, func() bool { return first.Knows(second.ID(), "resize") }, "the first rank knows of the environment")
	// A pull of class 0 stands for an idle environment of another function at the first rank.
	th := &theft{t: t, c: c, arc: subjects.UnreservedName(nn)}
	sub, err := c.nc.SubscribeSync(c.nc.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	th.sub = sub
	next := "$JS.API.CONSUMER.MSG.NEXT." + c.names.CallsU() + "." + c.names.UnreservedDurable(nn)
	body := fmt.Sprintf(`{"batch":1,"expires":%d,"group":%q,"priority":0}`, int64(time.Hour), topology.PriorityGroup)
	before := c.waitingPulls(nn)
	if err := c.nc.PublishRequest(next, sub.Subject, []byte(body)); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, patience, func() bool { return c.waitingPulls(nn) > before }, "the pull is open")
	a := c.listen()
	call := c.call("resize", key, a.inbox)
	c.publish(call)
	msg, err := th.sub.NextMsg(patience)
	if err != nil {
		t.Fatal(err)
	}
	first.Deliver(th.arc, msg)
	answer := a.want(1)[0]
	if got := answer.Header.Get(schema.HeaderManager); got != second.ID() || start(answer) != schema.StartWarm {
		t.Errorf("the call is %s at %s, want warm at %s", start(answer), got, second.ID())
	}
	if one, two := first.Counters(), second.Counters(); one.HandedOver != 1 || two.TakenOver != 1 || one.Unpromised != 0 {
		t.Errorf("handed over %d, taken over %d, unpromised %d", one.HandedOver, two.TakenOver, one.Unpromised)
	}
	natstest.Eventually(t, patience, func() bool { return c.stored() == 0 }, "the call is out of the stream")
	if n := first.starts(call.RequestID) + second.starts(call.RequestID); n != 1 {
		t.Errorf("started %d times", n)
	}
}

// stranger is a manager that only tells: its lease, and a status by which it has something idle of function resize.
type stranger struct {
	asked, given atomic.Int64
	promise      atomic.Pointer[func(*nats.Msg)]
}

// stranger puts one onto the ring beside m0, until the test ends.
func (c *caller) stranger(f *natstest.Fabric, n *node) *stranger {
	c.t.Helper()
	nc := f.Connect(c.t)
	s := &stranger{}
	if _, err := nc.Subscribe(c.names.ManagerClaim("m9"), func(msg *nats.Msg) {
		if msg.Reply == "" {
			s.given.Add(1)
			return
		}
		s.asked.Add(1)
		if answer := s.promise.Load(); answer != nil {
			(*answer)(msg)
		}
	}); err != nil {
		c.t.Fatal(err)
	}
	nn := subjects.UnreservedArc(subjects.DefaultAccount, "resize", "", subjects.DefaultArcs)
	number := uint64(0)
	tell := func() {
		number++
		lease, err := schema.Marshal(schema.MemberRecord{V: schema.Version, ID: "m9", Incarnation: "9", State: schema.MemberActive, Reads: 1})
		if err != nil {
			c.t.Error(err)
			return
		}
		_, _ = c.bucket(topology.Members).Put(context.Background(), schema.MemberPrefix+"m9", lease) // again in a moment
		status, err := schema.Marshal(schema.ManagerStatus{
			V: schema.Version, ID: "m9", Incarnation: "9", Number: number, State: schema.MemberActive, Capacity: 4,
			Arcs: []schema.ArcStatus{{
				Arc: subjects.UnreservedName(nn), Account: subjects.DefaultAccount, Function: "resize", Version: schema.Latest, Ready: 1, Idle: 1,
			}},
		})
		if err != nil {
			c.t.Error(err)
			return
		}
		_ = nc.Publish(c.names.ManagerStatus("m9"), status) // again in a moment
	}
	natstest.Eventually(c.t, patience, func() bool {
		tell()
		return slices.Contains(c.ring().Members, "m9") && n.Knows("m9", "resize")
	}, "the stranger is on the ring and known")
	return s
}

func answers9(nc *nats.Conn, number uint64) *func(*nats.Msg) {
	f := func(msg *nats.Msg) {
		if b, err := schema.Marshal(schema.Promise{V: schema.Version, Number: number}); err == nil {
			_ = nc.Publish(msg.Reply, b)
		}
	}
	return &f
}

// Without a promise the claimer goes on by itself; one that promised and died costs the call a redelivery, and it runs once.
func TestHandOverFails(t *testing.T) {
	t.Parallel()
	for name, number := range map[string]uint64{"refused": 0, "silent": 1, "dies": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := natstest.Start(t)
			n := startNode(t, f, f.Connect(t), "m0")
			c := newCaller(t, f, "f1")
			told(t, []*node{n})
			key := c.deploy("resize")
			s := c.stranger(f, n)
			if name != "silent" {
				s.promise.Store(answers9(c.nc, number))
			}
			a := c.listen()
			call := c.call("resize", key, a.inbox)
			call.StartBy = time.Minute
			c.publish(call)
			if got := a.want(1)[0]; refused(got) != nil || got.Header.Get(schema.HeaderManager) != "m0" {
				t.Fatalf("answer %v", got.Header)
			}
			if s.asked.Load() != 1 {
				t.Errorf("asked %d times, want once", s.asked.Load())
			}
			k := n.Counters()
			if name == "dies" {
				if k.HandedOver != 1 || s.given.Load() != 1 || k.LocksWon != 1 {
					t.Errorf("handed over %d, given %d, locks %d", k.HandedOver, s.given.Load(), k.LocksWon)
				}
			} else if k.HandedOver != 0 || k.Unpromised != 1 || s.given.Load() != 0 {
				t.Errorf("handed over %d, unpromised %d, given %d", k.HandedOver, k.Unpromised, s.given.Load())
			}
			if n.starts(call.RequestID) != 1 {
				t.Errorf("started %d times", n.starts(call.RequestID))
			}
		})
	}
}

// A promise for which nothing comes ends, and the environment serves again.
func TestPromiseLapses(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	n := startNode(t, f, f.Connect(t), "m0")
	c := newCaller(t, f, "f1")
	key := c.deploy("resize")
	c.invoke("resize", key)
	natstest.Eventually(t, patience, func() bool { return n.Status().Idle == 1 }, "its environment is idle")
	body, err := schema.Marshal(schema.ManagerClaim{V: schema.Version, Ask: &schema.PromiseAsk{
		FunctionID: key.FunctionID, Version: key.Version, CodeSHA256: key.CodeSHA256, ConfigRevision: key.ConfigRevision,
	}})
	if err != nil {
		t.Fatal(err)
	}
	ask := func() uint64 {
		msg, err := c.nc.Request(c.names.ManagerClaim("m0"), body, patience)
		if err != nil {
			t.Fatal(err)
		}
		var p schema.Promise
		if err := schema.Unmarshal(msg.Data, &p); err != nil {
			t.Fatal(err)
		}
		return p.Number
	}
	first := uint64(0)
	natstest.Eventually(t, patience, func() bool { first = ask(); return first != 0 }, "it is promised")
	natstest.Eventually(t, patience, func() bool { return n.Status().Idle == 1 }, "it is idle again")
	if got := start(c.invoke("resize", key)); got != schema.StartWarm {
		t.Errorf("the next call is %s", got)
	}
}

// What is handed over is input: nothing that is not a claim of this fabric is run, acknowledged or answered.
func TestForgedClaims(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	n := startNode(t, f, f.Connect(t), "m0")
	c := newCaller(t, f, "f1")
	key := c.deploy("resize")
	call := c.call("resize", key, c.nc.NewInbox())
	subject := c.subject(call)
	nn := subjects.UnreservedArc(subjects.DefaultAccount, "resize", "", subjects.DefaultArcs)
	ack := fmt.Sprintf("$JS.ACK.%s.%s.1.5.5.1.0", c.names.CallsU(), c.names.UnreservedDurable(nn))
	change := func(f func(*schema.Call)) []byte {
		call := *call
		f(&call)
		return schema.EncodeCall(nil, &call)
	}
	good := change(func(*schema.Call) {})
	forged := map[string]*schema.ManagerClaim{
		"nothing":                    {},
		"both":                       {Ask: &schema.PromiseAsk{}, Claim: &schema.HandedClaim{Subject: subject, Ack: ack, Call: good}},
		"ack of another stream":      {Claim: &schema.HandedClaim{Subject: subject, Ack: "$JS.ACK.ORDERS.u-1.1.5.5.1.0", Call: good}},
		"ack that is no ack":         {Claim: &schema.HandedClaim{Subject: subject, Ack: "$JS.API.STREAM.DELETE.X", Call: good}},
		"ack of another arc":         {Claim: &schema.HandedClaim{Subject: subject, Ack: fmt.Sprintf("$JS.ACK.%s.u-%d.1.5.5.1.0", c.names.CallsU(), (nn+1)%64), Call: good}},
		"subject of another call":    {Claim: &schema.HandedClaim{Subject: c.names.UnreservedCall(nn, "default", "other", "$LATEST", ""), Ack: ack, Call: good}},
		"subject that is none":       {Claim: &schema.HandedClaim{Subject: "hearth.m.m0.ctl", Ack: ack, Call: good}},
		"a reply to JetStream":       {Claim: &schema.HandedClaim{Subject: subject, Ack: ack, Call: change(func(c *schema.Call) { c.Reply = "$JS.API.STREAM.DELETE.X" })}},
		"an envelope that is none":   {Claim: &schema.HandedClaim{Subject: subject, Ack: ack, Call: []byte{0xdd, 0xff, 0xff, 0xff, 0xff}}},
		"a negative age":             {Claim: &schema.HandedClaim{Subject: subject, Ack: ack, Call: good, Age: -time.Hour}},
		"an ask without inbox to it": {Ask: &schema.PromiseAsk{FunctionID: key.FunctionID}},
	}
	for name, rec := range forged {
		rec.V = schema.Version
		body, err := schema.Marshal(rec)
		if err != nil {
			t.Fatal(err)
		}
		before := n.Counters().Garbage
		if err := c.nc.Publish(c.names.ManagerClaim("m0"), body); err != nil {
			t.Fatal(err)
		}
		natstest.Eventually(t, patience, func() bool { return n.Counters().Garbage == before+1 }, name+" is left aside")
	}
	if err := c.nc.Publish(c.names.ManagerClaim("m0"), []byte{0xdd, 0xff, 0xff, 0xff, 0xff}); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, patience, func() bool { return n.Counters().Garbage == int64(len(forged))+1 }, "hostile bytes are left aside")
	if n.Counters().TakenOver != 0 || n.worker.live() != 0 {
		t.Errorf("taken over %d, %d environments", n.Counters().TakenOver, n.worker.live())
	}
}
