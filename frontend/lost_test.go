package frontend_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/frontend"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
)

// A call that left the stream and that no beat names is lost: it may have run, so it is a function error.
func TestLostBeforeItsFirstBeat(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{})
	sub := b.send(t, "echo", nil)
	c := b.claimer(t, "echo").claim(t).ack(t)
	wantLost(t, next(t, sub))
	b.nothingInFlight(t)
	b.wantStory(t, c.call.RequestID, "admitted decided published stored taken lost")
	if got := b.f.Counters().Lost; got != 1 {
		t.Errorf("%d calls counted as lost, want 1", got)
	}
}

// Beats keep a call alive past its start-by and everything else; when they stop it is lost. An HTTP caller hears the
// same as a NATS caller.
func TestLostWhenBeatsStop(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{})
	claims := b.claimer(t, "echo")
	type result struct {
		a   *schema.Answer
		err error
	}
	got := make(chan result, 1)
	claims.pull(t)
	go func() {
		a, err := b.f.Invoke(t.Context(), &schema.Request{Account: "default", Function: "echo", Timeout: time.Second})
		got <- result{a, err}
	}()
	c := claims.next(t).ack(t)
	stop := c.beats(t)
	// Another call that is started and never named marks the time: it is lost after two seconds, the beaten one is not.
	other := b.send(t, "echo", nil)
	claims.claim(t).ack(t)
	wantLost(t, next(t, other))
	if n := b.f.Counters().InFlight; n != 1 {
		t.Errorf("%d calls in flight, want the beaten one", n)
	}
	stop()
	r := <-got
	if r.err != nil {
		t.Fatal(r.err)
	}
	wantLost(t, &nats.Msg{Header: r.a.Header, Data: r.a.Payload})
	b.nothingInFlight(t)
}

// A manager that comes back says for a while which calls have ended, for their answers may be lost. That is no sign of life: a
// call whose answer does not come is lost after two seconds, however long it is said.
func TestLostThoughItsEndIsSaid(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{})
	sub := b.send(t, "echo", nil)
	c := b.claimer(t, "echo").claim(t).ack(t)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(stop)
	wg.Go(func() {
		beat := time.NewTicker(100 * time.Millisecond)
		defer beat.Stop()
		for {
			c.tell(t, "b", &schema.Beat{Manager: "m1", Late: []uint64{c.call.Token}})
			select {
			case <-stop:
				return
			case <-beat.C:
			}
		}
	})
	wantLost(t, next(t, sub))
	b.nothingInFlight(t)
}

// A call that waits in the stream is not lost, however long no beat names it.
func TestWaitingIsNotLost(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{})
	claims := b.claimer(t, "echo")
	waits := b.send(t, "echo", nats.Header{schema.HeaderTimeout: {"30s"}})
	natstest.Eventually(t, patience, func() bool { return b.waiting(t) == 1 }, "the call is not stored")
	marker := b.send(t, "lost", nil)
	wantRefusal(t, next(t, marker), schema.CodeNotFound, "")
	b.deploy(t, record("lost"))
	natstest.Eventually(t, patience, func() bool { _, _, ok := b.f.Function("default", "lost"); return ok }, "not deployed")
	marker = b.send(t, "lost", nil)
	b.claimer(t, "lost").claim(t).ack(t)
	wantLost(t, next(t, marker)) // two seconds and more have passed for both
	c := claims.claim(t).ack(t)
	c.answer(t, []byte("1"), nil)
	if m := next(t, waits); string(m.Data) != "1" {
		t.Errorf("answer %q with %v", m.Data, m.Header)
	}
	c.end(t)
	b.nothingInFlight(t)
}

// A lost call of an idempotent function is published again with the next attempt number, under its own request id.
func TestIdempotentRunsAgain(t *testing.T) {
	t.Parallel()
	fn := record("twice")
	fn.Latest.Idempotent = true
	b := setup(t, settings{functions: []*schema.FunctionRecord{fn}})
	claims := b.claimer(t, "twice")
	sub := b.send(t, "twice", nats.Header{schema.HeaderTimeout: {"1m"}})
	first := claims.claim(t).ack(t)
	second := claims.claim(t).ack(t)
	if second.call.Attempt != 2 || second.call.RequestID != first.call.RequestID || second.call.Token == first.call.Token {
		t.Errorf("second attempt %+v of %+v", second.call, first.call)
	}
	if string(second.call.Payload) != `{}` || second.call.Reply != sub.Subject {
		t.Errorf("second attempt %+v", second.call)
	}
	first.end(t) // late: it ends nothing
	second.answer(t, []byte("2"), nil)
	if m := next(t, sub); string(m.Data) != "2" || m.Header.Get(schema.HeaderAttempt) != "2" {
		t.Errorf("answer %q with %v", m.Data, m.Header)
	}
	second.end(t)
	b.nothingInFlight(t)
	if c := b.f.Counters(); c.Again != 1 || c.Lost != 0 {
		t.Errorf("counters %+v", c)
	}
	b.wantStory(t, first.call.RequestID, "admitted decided published stored taken again decided published stored ended")
}

// Each attempt of it is routed anew: here both to the reserved arc.
func TestIdempotentRunsAgainOnItsReservedArc(t *testing.T) {
	t.Parallel()
	fn := published("twice")
	fn.Versions[0].Idempotent = true
	b := setup(t, settings{functions: []*schema.FunctionRecord{fn}})
	r := b.reserve(t, "twice", 1)
	b.tells(t, "m2", r.arc(1, 0))
	members := r.claimer(t)
	sub := b.send(t, "twice", one(schema.HeaderTimeout, "1m"))
	first := members.claim(t).ack(t)
	second := members.claim(t).ack(t)
	if second.call.Attempt != 2 || second.call.RequestID != first.call.RequestID {
		t.Errorf("second attempt %+v of %+v", second.call, first.call)
	}
	second.wants(t, schema.ReasonReserved)
	second.answer(t, []byte("2"), nil)
	if m := next(t, sub); string(m.Data) != "2" || m.Header.Get(schema.HeaderAttempt) != "2" {
		t.Errorf("answer %q with %v", m.Data, m.Header)
	}
	second.end(t)
	b.nothingInFlight(t)
	if got := b.f.Counters().Routed[frontendName("twice")]; got != (frontend.Reasons{Reserved: 1}) {
		t.Errorf("one call is counted as %+v", got)
	}
}

// An idempotent function's caller that waits no longer hears that its call is lost.
func TestIdempotentEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	fn := record("twice")
	fn.Latest.Idempotent = true
	b := setup(t, settings{functions: []*schema.FunctionRecord{fn}})
	sub := b.send(t, "twice", nats.Header{schema.HeaderTimeout: {"1s"}})
	b.claimer(t, "twice").claim(t).ack(t)
	wantLost(t, next(t, sub))
	b.nothingInFlight(t)
}

// S58, as far as a frontend decides: the server restarts, its memory stream is another one. A call that waited was not
// started, since every manager speaks again in the same life and names it not: 503. One that a manager names runs on.
func TestServerRestart(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{})
	claims := b.claimer(t, "echo")
	running := b.send(t, "echo", nil)
	c := claims.claim(t).ack(t)
	c.beat(t)
	stop := c.beats(t) // all the time: those of the restart wait in the connection until it is back
	waits := b.send(t, "echo", nats.Header{schema.HeaderTimeout: {"1m"}})
	natstest.Eventually(t, patience, func() bool { return b.waiting(t) == 1 }, "the call is not stored")
	b.Restart(t)
	b.Ensure(t, schema.DefaultFabric())
	wantRefusal(t, next(t, waits), schema.CodeUnavailable, "restarted")
	if n := b.f.Counters().InFlight; n != 1 {
		t.Errorf("%d calls in flight, want the running one", n)
	}
	stop()
	c.answer(t, []byte("1"), nil)
	if m := next(t, running); string(m.Data) != "1" {
		t.Errorf("answer %q with %v", m.Data, m.Header)
	}
	c.end(t)
	b.nothingInFlight(t)
	// And calls go on.
	again := b.send(t, "echo", nil)
	fresh := b.claimer(t, "echo").claim(t).ack(t)
	fresh.answer(t, []byte("2"), nil)
	if m := next(t, again); string(m.Data) != "2" {
		t.Errorf("answer %q with %v", m.Data, m.Header)
	}
	fresh.end(t)
	b.nothingInFlight(t)
}

// The same of calls in a shard, which nobody need ever make again: what waited there was not started. The record still says
// that the arc is open: calls are refused by it and take their unreserved arc, until it is opened anew.
func TestServerRestartLosesAShard(t *testing.T) {
	t.Parallel()
	b, r := reservedBundle(t)
	members := r.claimer(t)
	sub := b.send(t, "f", one(schema.HeaderTimeout, "1m"))
	c := members.claim(t).ack(t)
	c.beat(t)
	waits := b.send(t, "f", one(schema.HeaderTimeout, "1m"))
	natstest.Eventually(t, patience, func() bool { return r.waiting(t) == 1 }, "the call is not stored")
	b.Restart(t)
	b.Ensure(t, schema.DefaultFabric())
	stop := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(stop)
	wg.Go(func() {
		beat := time.NewTicker(100 * time.Millisecond)
		defer beat.Stop()
		for {
			c.beat(t)
			select {
			case <-stop:
				return
			case <-beat.C:
			}
		}
	})
	unreserved := b.claimer(t, "f")
	stale := b.send(t, "f", one(schema.HeaderTimeout, "1m"))
	first := unreserved.claim(t).ack(t)
	first.wants(t, schema.ReasonUnreserved)
	first.answer(t, []byte("2"), nil)
	if m := next(t, stale); string(m.Data) != "2" {
		t.Errorf("answer %q with %v", m.Data, m.Header)
	}
	first.end(t)
	wantRefusal(t, next(t, waits), schema.CodeUnavailable, "restarted")
	r.open(t)
	b.send(t, "f", one(schema.HeaderTimeout, "1m"))
	r.claimer(t).run(t, schema.ReasonReserved)
	c.answer(t, []byte("1"), nil)
	if m := next(t, sub); string(m.Data) != "1" {
		t.Errorf("answer %q with %v", m.Data, m.Header)
	}
	c.end(t)
	b.nothingInFlight(t)
}

// While the server is away calls are refused at once by a frontend that sees it; nothing hangs, nothing panics.
func TestServerAway(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{})
	b.Stop()
	natstest.Eventually(t, patience, func() bool {
		// What was sent before the frontend noticed may have been taken: it waits.
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := b.f.Invoke(ctx, &schema.Request{Account: "default", Function: "echo"})
		return schema.CodeOf(err) == schema.CodeUnavailable
	}, "calls are not refused")
}

// A frontend says in its status how often it has come back: managers, which may have been there all the time, tell it again
// what they told while it was away.
func TestStatusCountsReconnects(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{})
	sub, err := b.caller.SubscribeSync(b.Names.FrontendStatus(b.f.ID()))
	if err != nil {
		t.Fatal(err)
	}
	reconnects := func() uint64 {
		var s schema.FrontendStatus
		if err := schema.Unmarshal(next(t, sub).Data, &s); err != nil {
			t.Fatal(err)
		}
		return s.Reconnects
	}
	if n := reconnects(); n != 0 {
		t.Errorf("it has come back %d times, it says", n)
	}
	b.Restart(t)
	natstest.Eventually(t, patience, func() bool { return reconnects() > 0 }, "it says that it has come back") // nats.go counts tries that failed late
}

// beats has a claim beat until stop is called.
func (c *claim) beats(t testing.TB) (stop func()) {
	end := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		beat := time.NewTicker(100 * time.Millisecond)
		defer beat.Stop()
		for {
			c.beat(t)
			select {
			case <-end:
				return
			case <-beat.C:
			}
		}
	})
	return func() { close(end); wg.Wait() }
}

// One stream of unreserved arcs is deleted and made again under a call that waits in it, and this frontend is not cut off: the call is told
// that it did not start, as after a restart of the server.
func TestStreamMadeAgain(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{})
	running := b.send(t, "echo", nil)
	c := b.claimer(t, "echo").claim(t).ack(t)
	stop := c.beats(t) // the manager speaks
	waits := b.send(t, "echo", nats.Header{schema.HeaderTimeout: {"1m"}})
	natstest.Eventually(t, patience, func() bool { return b.waiting(t) == 1 }, "the call is not stored")
	if err := b.JetStream(t).DeleteStream(t.Context(), b.streamOf("echo")); err != nil {
		t.Fatal(err)
	}
	b.Ensure(t, schema.DefaultFabric())
	wantRefusal(t, next(t, waits), schema.CodeUnavailable, "deleted it")
	stop()
	c.answer(t, []byte("1"), nil)
	next(t, running)
	c.end(t)
	b.nothingInFlight(t)
}
