package manager_test

import (
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/manager"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// asker is a frontend that asks for calls of events and hears what it is told of them.
type asker struct {
	t  testing.TB
	nc *nats.Conn
	c  *caller

	mu    sync.Mutex
	beats map[uint64]int
	ends  map[uint64]int
}

func newAsker(t testing.TB, f *natstest.Fabric, c *caller) *asker {
	t.Helper()
	a := &asker{t: t, nc: f.Connect(t), c: c, beats: map[uint64]int{}, ends: map[uint64]int{}}
	_, err := a.nc.Subscribe(subjects.FrontendInbox("f2", "b"), func(msg *nats.Msg) {
		var b schema.Beat
		if err := schema.Unmarshal(msg.Data, &b); err != nil {
			t.Errorf("read a beat: %v", err)
		}
		a.count(a.beats, b.Tokens)
	})
	if err == nil {
		_, err = a.nc.Subscribe(subjects.FrontendInbox("f2", "e"), func(msg *nats.Msg) {
			var e schema.Ends
			if err := schema.Unmarshal(msg.Data, &e); err != nil {
				t.Errorf("read ends: %v", err)
			}
			a.count(a.ends, e.Tokens)
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := a.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *asker) count(in map[uint64]int, tokens []uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, token := range tokens {
		in[token]++
	}
}

func (a *asker) of(in map[uint64]int, token uint64) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return in[token]
}

// ask asks for an event and gives where its answer goes.
func (a *asker) ask(event string, token uint64) *nats.Subscription {
	a.t.Helper()
	inbox := a.nc.NewInbox()
	sub, err := a.nc.SubscribeSync(inbox)
	if err != nil {
		a.t.Fatal(err)
	}
	b, err := schema.Marshal(&schema.Ask{V: schema.Version, Event: event, Frontend: "f2", Token: token, Reply: inbox})
	if err != nil {
		a.t.Fatal(err)
	}
	if err := a.nc.Publish(a.c.names.StatusAsk(), b); err != nil {
		a.t.Fatal(err)
	}
	return sub
}

// A call of an event that runs, or waits for an environment, goes to the frontend that asks for it: beats, end and answer.
// Anything else is asked for in vain.
func TestAskedForAnEvent(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	c := newCaller(t, f, "f1")
	a := newAsker(t, f, c)
	key := c.deploy("held")
	open := make(chan struct{})
	inits := make(chan struct{})
	n := startNode(t, f, f.Connect(t), "m1", func(_ *manager.Config, w *echoWorker) {
		w.init = func(*schema.Binding) *schema.FunctionError { <-inits; return nil }
		w.run = func(*schema.Run) { <-open }
	})
	opened := sync.OnceFunc(func() { close(open) })
	begun := sync.OnceFunc(func() { close(inits) })
	t.Cleanup(func() { begun(); opened() })

	call := c.call("held", key, c.nc.NewInbox())
	call.Event = "default/x/1/0"
	first, err := c.nc.SubscribeSync(call.Reply)
	if err != nil {
		t.Fatal(err)
	}
	c.publish(call)
	natstest.Eventually(t, patience, func() bool { return n.Counters().Made == 1 }, "an environment is made for it")
	waiting := a.ask(call.Event, 71)
	a.ask("default/x/1/1", 72) // another try
	natstest.Eventually(t, patience, func() bool { return a.of(a.beats, 71) >= 3 }, "beats name the call that waits")
	begun()
	natstest.Eventually(t, patience, func() bool { return n.Counters().Cold == 1 }, "it runs")
	running := a.ask(call.Event, 73) // asked for again, by its next poller
	natstest.Eventually(t, patience, func() bool { return a.of(a.beats, 73) >= 2 }, "beats name the call that runs")
	opened()
	msg, err := running.NextMsg(patience)
	if err != nil || string(msg.Data) != string(call.Payload) {
		t.Fatalf("the answer is %v, %v", msg, err)
	}
	natstest.Eventually(t, patience, func() bool { return a.of(a.ends, 73) == 1 }, "its end is told")
	a.ask(call.Event, 74) // it has ended
	if err := a.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, sub := range []*nats.Subscription{first, waiting} {
		if n, _, err := sub.Pending(); err != nil || n > 0 {
			t.Errorf("%d answers to one who has it no more: %v", n, err)
		}
	}
	for _, token := range []uint64{72, 74} {
		if a.of(a.beats, token) > 0 {
			t.Errorf("the call of token %d is not there and was given", token)
		}
	}
	c.wantStory("m1", call.RequestID, "claimed waits redirected environment acked started redirected finished")
	if got := n.Counters().Redirected; got != 2 {
		t.Errorf("given away %d times", got)
	}
}
