package events_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// ahead is a frontend of which one event of f has been claimed ahead of its turn, while a share of others runs.
type ahead struct {
	*bundle
	last         string // payload of the one that waits
	others, gate *gate  // end of the others, and of the one
	before       int    // events that had run
	naks         *atomic.Int64
}

// claimedAhead has the frontend on a connection claim ahead. All that its function does up to then is quick; where the machine was not,
// once more.
func claimedAhead(t *testing.T, through func(b *bundle) *nats.Conn) *ahead {
	const capacity, share = 8, 4 // one of two parts is left to others
	a := &ahead{bundle: fabricWith(t, capacity), naks: new(atomic.Int64)}
	sub, err := a.caller.Subscribe("$JS.ACK.>", func(m *nats.Msg) {
		if strings.HasPrefix(string(m.Data), "-NAK") {
			a.naks.Add(1)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Unsubscribe() })
	if err := a.caller.Flush(); err != nil {
		t.Fatal(err)
	}
	a.f = a.startFrontend(t, through(a.bundle))
	for round := range 5 {
		a.worker.on("f", nil)
		for range 40 {
			a.event(t, "f", `"quick"`)
		}
		a.drained(t)
		a.before = len(a.worker.started("f"))
		delivered := a.delivered(t, "f") + share + 1
		a.last, a.others, a.gate = fmt.Sprintf(`"last of %d"`, round), newGate(t), newGate(t)
		last, others, gate := a.last, a.others, a.gate
		a.worker.on("f", func(c *schema.Call) *schema.FunctionError {
			if string(c.Payload) == last {
				gate.wait()
			} else {
				others.wait()
			}
			return nil
		})
		for range share {
			a.event(t, "f", `"others"`)
		}
		a.event(t, "f", a.last)
		natstest.Eventually(t, patience, func() bool { return len(a.worker.started("f")) == a.before+share }, "the share runs")
		if natstest.Within(2*time.Second, func() bool { return a.delivered(t, "f") >= delivered }) {
			if n := a.runs(); n != 0 {
				t.Fatalf("%s ran %d times and did not wait for its turn", a.last, n)
			}
			return a
		}
		others.release()
		gate.release()
		a.drained(t)
	}
	t.Fatal("nothing is claimed ahead")
	return nil
}

// runs is how often the one that waited was started.
func (a *ahead) runs() (n int) {
	for _, c := range a.worker.started("f") {
		if string(c.Payload) == a.last {
			n++
		}
	}
	return n
}

// once waits until all is done, and fails where the one that waited did not run once.
func (a *ahead) once(t *testing.T) {
	t.Helper()
	a.others.release()
	a.gate.release()
	a.drained(t)
	if n := a.runs(); n != 1 {
		t.Errorf("what was claimed ahead ran %d times", n)
	}
	if n := a.held(t, a.retries()); n != 0 {
		t.Errorf("%d are on RETRIES", n)
	}
}

// delivered is how often an event of a function was given to a poller.
func (b *bundle) delivered(t testing.TB, function string) uint64 {
	t.Helper()
	c, err := b.JetStream(t).Consumer(t.Context(), b.events(), b.Names.EventDurable(subjects.DefaultAccount, function))
	if err != nil {
		t.Fatal(err)
	}
	return c.CachedInfo().Delivered.Consumer
}

// Of a function whose tries are quick as many events are claimed ahead as run at once. No more run for that, and one that waits long is
// given back, so that an idle frontend may run it.
func TestClaimedAhead(t *testing.T) {
	t.Parallel()
	a := claimedAhead(t, func(b *bundle) *nats.Conn { return b.connect(t) })
	a.startFrontend(t, a.connect(t))
	// Before the worker's gates open by themselves.
	natstest.Eventually(t, patience/2, func() bool { return a.runs() == 1 }, "another frontend runs what the first gave back")
	if a.naks.Load() == 0 {
		t.Error("it was not given back")
	}
	a.once(t)
}

// What waits when a frontend stops is given back, and not waited for; what runs is.
func TestStopWhileOneWaits(t *testing.T) {
	t.Parallel()
	a := claimedAhead(t, func(b *bundle) *nats.Conn { return b.connect(t) })
	a.naks.Store(0)
	stopped := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	go func() { stopped <- a.f.Stop(ctx) }()
	natstest.Eventually(t, patience/2, func() bool { return a.naks.Load() == 1 }, "it is given back")
	a.startFrontend(t, a.connect(t))
	natstest.Eventually(t, patience/2, func() bool { return a.runs() == 1 }, "another frontend runs it")
	a.others.release()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	a.once(t)
}

// A frontend that is cut off gives nothing back: by the time the server hears of it the event is another's, from whom it would be taken.
func TestCutOffWhileOneWaits(t *testing.T) {
	t.Parallel()
	var proxy *natstest.Proxy
	var nc *nats.Conn
	a := claimedAhead(t, func(b *bundle) *nats.Conn {
		proxy = natstest.StartProxy(t, b.URL)
		var err error
		if nc, err = nats.Connect(proxy.URL, nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond),
			nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		return nc
	})
	proxy.Refuse()
	a.others.release() // which nobody hears of: the other frontend runs them again
	a.startFrontend(t, a.connect(t))
	natstest.Eventually(t, patience/2, func() bool { return a.runs() == 1 }, "another frontend runs it")
	a.naks.Store(0)
	proxy.Release()
	natstest.Eventually(t, patience/2, func() bool { return nc.IsConnected() }, "the first is back")
	if err := nc.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	if err := a.caller.Flush(); err != nil {
		t.Fatal(err)
	}
	if n := a.naks.Load(); n != 0 {
		t.Errorf("it gave %d events back that another has", n)
	}
	a.once(t)
}
