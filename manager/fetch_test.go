package manager_test

import (
	"bytes"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/manager"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// holder stands for a frontend that holds payloads.
type holder struct {
	asked atomic.Int64
	sub   *nats.Subscription
}

// hold answers questions for payloads on a connection of its own with what give says; nil says nothing at all.
func (c *caller) hold(f *natstest.Fabric, frontend string, give func(subject string) *nats.Msg) *holder {
	c.t.Helper()
	nc := f.Connect(c.t)
	h := &holder{}
	var err error
	h.sub, err = nc.Subscribe(subjects.FrontendInbox(frontend, "f.*"), func(m *nats.Msg) {
		h.asked.Add(1)
		if answer := give(m.Subject); answer != nil {
			if err := m.RespondMsg(answer); err != nil {
				c.t.Error(err)
			}
		}
	})
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return h
}

// large is an envelope whose payload of this size is with a frontend.
func (c *caller) large(name string, key schema.Key, reply, frontend string, size int) *schema.Call {
	call := c.call(name, key, reply)
	call.Frontend, call.Payload, call.Held = frontend, nil, size
	return call
}

func (n *node) startsOf(call *schema.Call) int64 {
	if v, ok := n.worker.starts.Load(call.RequestID); ok {
		return v.(*atomic.Int64).Load()
	}
	return 0
}

// A payload is here before its call starts, whether an environment is idle, has to be made, or is about to park.
func TestFetch(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	held := make(chan struct{})
	park := sync.OnceFunc(func() { close(held) })
	n := startNode(t, f, f.Connect(t), "m1", capacity(1), func(_ *manager.Config, w *echoWorker) {
		w.park = func(string) { <-held }
	})
	t.Cleanup(park) // before the node's, which waits for it
	c := newCaller(t, f, "f1")
	key := c.deploy("resize")
	payload := bytes.Repeat([]byte("large "), 1<<20)
	h := c.hold(f, "f9", func(string) *nats.Msg { return &nats.Msg{Data: payload} })
	a := c.listen()
	is := func(m *nats.Msg, start schema.Start) {
		t.Helper()
		if !bytes.Equal(m.Data, payload) || m.Header.Get(schema.HeaderStart) != string(start) {
			t.Errorf("the answer has %d bytes of %d; %v, want start %s", len(m.Data), len(payload), m.Header, start)
		}
	}
	c.publish(c.large("resize", key, a.inbox, "f9", len(payload)))
	is(a.want(1)[0], schema.StartCold)
	// The environment has answered and is about to park, and there is no room for another: the claim gets it, then its
	// payload. Where this machine is too slow the claim is given back meanwhile, and comes again or is told that there is no room.
	c.publish(c.large("resize", key, a.inbox, "f9", len(payload)))
	natstest.Eventually(t, patience, func() bool { return n.Waiting() == 1 || n.Counters().Nacks > 0 }, "the claim waits")
	park()
	if m := a.want(1)[0]; schema.CodeOf(refused(m)) != schema.CodeCapacityExceeded {
		is(m, schema.StartWarm)
	}
	natstest.Eventually(t, patience, func() bool { return n.Status().Idle == 1 }, "the environment is idle")
	c.publish(c.large("resize", key, a.inbox, "f9", len(payload)))
	is(a.want(1)[0], schema.StartWarm)
	if got := n.Counters(); got.Fetched != h.asked.Load() || got.Unfetched != 0 || got.Made != 1 {
		t.Errorf("%d were asked for; %+v", h.asked.Load(), got)
	}
	natstest.Eventually(t, patience, func() bool { return c.stored() == 0 }, "calls are left in the stream")
}

// Whose payload is not to be had is never started, whatever the reason, and starts once it is there: each redelivered
// claim asks again. Environments and other calls are not held up.
func TestFetchWhatIsNotThere(t *testing.T) {
	t.Parallel()
	for name, give := range map[string]func(string) *nats.Msg{
		"no frontend": nil,
		"unknown": func(string) *nats.Msg {
			return &nats.Msg{Header: nats.Header{schema.HeaderStatus: {schema.StatusUnknown}}}
		},
		"too short": func(string) *nats.Msg { return &nats.Msg{Data: make([]byte, 99_999)} },
		"too long":  func(string) *nats.Msg { return &nats.Msg{Data: make([]byte, 100_001)} },
		"nothing":   func(string) *nats.Msg { return &nats.Msg{} },
		"silent":    func(string) *nats.Msg { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := natstest.Start(t)
			n := startNode(t, f, f.Connect(t), "m1", capacity(1))
			c := newCaller(t, f, "f1")
			key := c.deploy("resize")
			var h *holder
			if give != nil {
				h = c.hold(f, "f9", give)
			}
			a := c.listen()
			call := c.large("resize", key, a.inbox, "f9", 100_000)
			c.publish(call)
			natstest.Eventually(t, patience, func() bool { return n.Counters().Unfetched >= 2 }, "the claim is given back and comes again")
			if n.startsOf(call) != 0 || c.stored() != 1 {
				t.Errorf("%d starts, %d calls in the stream", n.startsOf(call), c.stored())
			}
			if got := c.invoke("resize", key); string(got.Data) == "" {
				t.Error("a small call meanwhile got no answer")
			}
			if h != nil {
				if err := h.sub.Unsubscribe(); err != nil {
					t.Fatal(err)
				}
			}
			c.hold(f, "f9", func(string) *nats.Msg { return &nats.Msg{Data: make([]byte, 100_000)} })
			if m := a.want(1)[0]; len(m.Data) != 100_000 || n.startsOf(call) != 1 {
				t.Errorf("the answer has %d bytes after %d starts", len(m.Data), n.startsOf(call))
			}
			natstest.Eventually(t, patience, func() bool { return c.stored() == 0 }, "the call is left in the stream")
		})
	}
}

// A call whose frontend died between claim and fetch never starts: it ends by its time to live, and its environment is free.
func TestFetchEndsByTimeToLive(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	n := startNode(t, f, f.Connect(t), "m1", capacity(1))
	c := newCaller(t, f, "f1")
	key := c.deploy("resize")
	died := make(chan struct{})
	frontend := f.Connect(t)
	_, err := frontend.Subscribe(subjects.FrontendInbox("f9", "f.*"), func(*nats.Msg) {
		close(died) // once: a closed connection hears no more
		frontend.Close()
	})
	if err == nil {
		err = frontend.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	call := c.large("resize", key, c.listen().inbox, "f9", 100_000)
	msg := &nats.Msg{Subject: c.subject(call), Data: schema.EncodeCall(nil, call), Header: nats.Header{nats.MsgTTLHdr: {"3s"}}}
	if _, err := c.js.PublishMsg(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
	select {
	case <-died:
	case <-time.After(patience):
		t.Fatal("nobody asked for the payload")
	}
	natstest.Eventually(t, patience, func() bool { return c.stored() == 0 }, "the message outlives its time to live")
	if n.startsOf(call) != 0 || n.Counters().Unfetched == 0 {
		t.Errorf("%d starts; %+v", n.startsOf(call), n.Counters())
	}
	c.invoke("resize", key)
}

// One frontend that hangs takes no turn from another's calls, and no environment.
func TestFetchFromAFrontendThatHangs(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	n := startNode(t, f, f.Connect(t), "m1", capacity(4))
	c := newCaller(t, f, "f1")
	key := c.deploy("resize")
	hangs := c.hold(f, "f8", func(string) *nats.Msg { return nil })
	c.hold(f, "f9", func(string) *nats.Msg { return &nats.Msg{Data: make([]byte, 100_000)} })
	a := c.listen()
	var stuck []*schema.Call
	for range 3 { // the credit of room leaves one for the other
		call := c.large("resize", key, a.inbox, "f8", 100_000)
		c.publish(call)
		stuck = append(stuck, call)
	}
	natstest.Eventually(t, patience, func() bool { return hangs.asked.Load() >= 3 }, "the hanging frontend is asked")
	for range 10 {
		c.publish(c.large("resize", key, a.inbox, "f9", 100_000))
		a.want(1)
	}
	if got := n.Counters(); got.Fetched != 10 {
		t.Errorf("%+v, want 10 payloads fetched while the others hang", got)
	}
	for _, call := range stuck {
		if n.startsOf(call) != 0 {
			t.Errorf("%s started without its payload", call.RequestID)
		}
	}
}

// Many of the largest at once come through one connection, which does not break.
func TestFetchManyOfTheLargest(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	nc := f.ConnectTCP(t)
	n := startNode(t, f, nc, "m1", capacity(24))
	c := newCaller(t, f, "f1")
	key := c.deploy("resize")
	payload := make([]byte, schema.MaxPayload)
	var open, most atomic.Int64
	c.hold(f, "f9", func(string) *nats.Msg {
		most.Store(max(most.Load(), open.Add(1)))
		return &nats.Msg{Data: payload}
	})
	n.worker.run = func(*schema.Run) { open.Add(-1) }
	a := c.listen()
	if err := a.sub.SetPendingLimits(-1, -1); err != nil {
		t.Fatal(err)
	}
	sent := make(map[string]bool)
	calls := natstest.Fewer(24, 4)
	for range calls {
		call := c.large("resize", key, a.inbox, "f9", len(payload))
		sent[call.RequestID] = true
		c.publish(call)
	}
	for _, m := range a.want(calls) {
		if len(m.Data) != len(payload) || !sent[m.Header.Get(schema.HeaderRequestID)] {
			t.Errorf("answer of %d bytes with %v", len(m.Data), m.Header)
		}
		delete(sent, m.Header.Get(schema.HeaderRequestID))
	}
	if s := nc.Stats(); s.Reconnects != 0 || nc.LastError() != nil {
		t.Errorf("the connection broke %d times: %v", s.Reconnects, nc.LastError())
	}
	natstest.Eventually(t, patience, func() bool { return c.stored() == 0 }, "calls are left in the stream")
}
