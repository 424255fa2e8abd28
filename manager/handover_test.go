package manager_test

import (
	"context"
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

// A claim that comes to a manager with nothing warm for it runs in the warm environment of another.
func TestHandOver(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	tel, spans := tracing(t)
	nodes := []*node{startNode(t, f, f.Connect(t), "m0", tel), startNode(t, f, f.Connect(t), "m1", tel)}
	c := newCaller(t, f, "f1")
	settled(t, c, nodes)
	told(t, nodes)
	key := c.deploy("resize")
	nn := subjects.UnreservedArc(subjects.DefaultAccount, "resize", "", natstest.Arcs)
	ranks := subjects.NewRing(0, []string{"m0", "m1"}).Unreserved(nil, nn, 0)
	first, second := nodes[ranks[0]], nodes[ranks[1]]
	// A promise that does not come within 20 ms is no promise: a machine that is busy with other things may take several tries.
	for try := 1; ; try++ {
		onlyWarmAt(t, c, first, second, nodes, key)
		before := []manager.Counters{first.Counters(), second.Counters()}
		a := c.listen()
		call := c.call("resize", key, a.inbox)
		msg := c.steal(nn, call, a)
		if msg == nil && try < 20 {
			continue // an idle environment's pull had it before the server saw ours
		}
		first.Deliver(subjects.UnreservedName(nn), msg)
		answer := a.want(1)[0]
		natstest.Eventually(t, patience, func() bool { return c.stored() == 0 }, "the call is out of the stream")
		if n := first.starts(call.RequestID) + second.starts(call.RequestID); n != 1 {
			t.Errorf("started %d times", n)
		}
		one, two := first.Counters(), second.Counters()
		if one.Unpromised > before[0].Unpromised && try < 20 {
			continue
		}
		if got := answer.Header.Get(schema.HeaderManager); got != second.ID() || start(answer) != schema.StartWarm {
			t.Errorf("the call is %s at %s, want warm at %s", start(answer), got, second.ID())
		}
		c.wantStory(first.ID(), call.RequestID, "claimed handed_over")
		if words, _ := c.story(second.ID(), call.RequestID); !strings.HasPrefix(words, "claimed environment ") || !strings.HasSuffix(words, " started finished") {
			t.Errorf("%s tells %q", second.ID(), words)
		}
		if over, taken := one.HandedOver-before[0].HandedOver, two.TakenOver-before[1].TakenOver; over != 1 || taken != 1 {
			t.Errorf("handed over %d, taken over %d in try %d, unpromised %d", over, taken, try, one.Unpromised)
		}
		handOverIsSeen(t, spans, call.RequestID, second.ID())
		return
	}
}

// onlyWarmAt has function resize warm at the second rank of its arc alone, with both on the ring and the first knowing of it.
func onlyWarmAt(t *testing.T, c *caller, first, second *node, nodes []*node, key schema.Key) {
	t.Helper()
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
}

// steal publishes a call and takes its delivery by a pull of class 0, which stands for an idle environment of another function
// at the first rank. It gives nil where another had it, who has answered.
func (c *caller) steal(nn int, call *schema.Call, a *answers) *nats.Msg {
	c.t.Helper()
	sub, err := c.nc.SubscribeSync(c.nc.NewInbox())
	if err != nil {
		c.t.Fatal(err)
	}
	next := "$JS.API.CONSUMER.MSG.NEXT." + c.names.CallsOf(nn) + "." + c.names.UnreservedDurable(nn)
	body := fmt.Sprintf(`{"batch":1,"expires":%d,"group":%q,"priority":0}`, int64(time.Hour), topology.PriorityGroup)
	if err := c.nc.PublishRequest(next, sub.Subject, []byte(body)); err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }() // with it the pull ends
	c.taken(nn)
	c.publish(call)
	var msg *nats.Msg
	natstest.Eventually(c.t, patience, func() bool {
		answered, _, err := a.sub.Pending()
		if err != nil {
			c.t.Fatal(err)
		}
		msg, err = sub.NextMsg(time.Millisecond)
		return err == nil || answered > 0
	}, "somebody has the call")
	return msg
}

// stranger is a manager that only tells: its lease, and a status by which it has something idle of function resize.
type stranger struct {
	asked, given atomic.Int64
	promise      atomic.Pointer[func(*nats.Msg)]
}

// stranger puts one onto the ring beside m0. It tells of itself until it is asked for something.
func (c *caller) stranger(f *natstest.Fabric, n *node) *stranger {
	c.t.Helper()
	nc := f.Connect(c.t)
	s := &stranger{}
	asked := make(chan struct{})
	once := sync.OnceFunc(func() { close(asked) })
	if _, err := nc.Subscribe(c.names.ManagerClaim("m9"), func(msg *nats.Msg) {
		if msg.Reply == "" {
			s.given.Add(1)
			return
		}
		s.asked.Add(1)
		once()
		if answer := s.promise.Load(); answer != nil {
			(*answer)(msg)
		}
	}); err != nil {
		c.t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		c.t.Fatal(err)
	}
	nn := subjects.UnreservedArc(subjects.DefaultAccount, "resize", "", natstest.Arcs)
	lease, err := schema.Marshal(schema.MemberRecord{V: schema.Version, ID: "m9", Incarnation: "9", State: schema.MemberActive, Reads: 1})
	if err != nil {
		c.t.Fatal(err)
	}
	members := c.bucket(topology.Members)
	var telling sync.WaitGroup
	telling.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for number := uint64(1); ; number++ {
			_, _ = members.Put(context.Background(), schema.MemberPrefix+"m9", lease) // again in a moment
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
			select {
			case <-asked:
				return
			case <-tick.C:
			}
		}
	})
	c.t.Cleanup(func() { once(); telling.Wait() })
	natstest.Eventually(c.t, patience, func() bool {
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
			for try := 1; ; try++ {
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
				c.publish(call)
				if got := a.want(1)[0]; refused(got) != nil || got.Header.Get(schema.HeaderManager) != "m0" {
					t.Fatalf("answer %v", got.Header)
				}
				if k := n.Counters(); k.Unpromised+k.HandedOver == 0 && try < 20 {
					continue // the stranger's status came late: this machine is busy with other things
				}
				natstest.Eventually(t, patience, func() bool { return s.asked.Load() > 0 }, "the stranger is asked")
				if s.asked.Load() != 1 {
					t.Errorf("asked %d times, want once", s.asked.Load())
				}
				if n.starts(call.RequestID) != 1 {
					t.Errorf("started %d times", n.starts(call.RequestID))
				}
				k := n.Counters()
				if name == "dies" {
					if k.Unpromised > 0 && try < 20 {
						continue // the promise took longer than 20 ms: this machine is busy with other things
					}
					if k.HandedOver != 1 || s.given.Load() != 1 || k.LocksWon != 1 {
						t.Errorf("handed over %d, given %d, locks %d", k.HandedOver, s.given.Load(), k.LocksWon)
					}
				} else if k.HandedOver != 0 || k.Unpromised != 1 || s.given.Load() != 0 {
					t.Errorf("handed over %d, unpromised %d, given %d", k.HandedOver, k.Unpromised, s.given.Load())
				}
				return
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
	nn := subjects.UnreservedArc(subjects.DefaultAccount, "resize", "", natstest.Arcs)
	ack := fmt.Sprintf("$JS.ACK.%s.%s.1.5.5.1.0", c.names.CallsOf(nn), c.names.UnreservedDurable(nn))
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
		"ack of another arc":         {Claim: &schema.HandedClaim{Subject: subject, Ack: fmt.Sprintf("$JS.ACK.%s.u-%d.1.5.5.1.0", c.names.CallsOf(nn+1), nn+1), Call: good}},
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
