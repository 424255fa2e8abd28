package frontend_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/frontend"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// At start-by the frontend deletes the message: deleted is refused, certainly not started, and nobody meets it later.
func TestStartByRefusesWhatNobodyTook(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{})
	sub := b.send(t, "echo", nats.Header{schema.HeaderTimeout: {"100ms"}})
	wantRefusal(t, next(t, sub), schema.CodeCapacityExceeded, "start-by")
	if n := b.waiting(t); n != 0 {
		t.Errorf("%d messages are left", n)
	}
	b.nothingInFlight(t)
	if got := b.f.Counters().Refused[schema.CodeCapacityExceeded]; got != 1 {
		t.Errorf("%d refusals counted, want 1", got)
	}
}

// What fits no manager is told so: waiting longer, or calling again, would not help.
func TestStartByTellsWhatIsTooLarge(t *testing.T) {
	t.Parallel()
	fn := record("large")
	fn.Latest.MemoryMB = 5 * 128 // managers here have 4 places
	b := setup(t, settings{functions: []*schema.FunctionRecord{fn}})
	wantRefusal(t, next(t, b.send(t, "large", nats.Header{schema.HeaderTimeout: {"100ms"}})), schema.CodeCapacityExceeded, "take 5 places and no manager has more than 4")
}

// A call that was started before its start-by is waited for, however long it runs.
func TestStartByWaitsForWhatWasStarted(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{})
	claims := b.claimer(t, "echo")
	claims.pull(t)
	sub := b.send(t, "echo", nats.Header{schema.HeaderTimeout: {"1s"}})
	c := claims.next(t).ack(t)
	// A second call that nobody takes marks the time: it is refused after the first one's start-by has passed.
	wantRefusal(t, next(t, b.send(t, "echo", nats.Header{schema.HeaderTimeout: {"1200ms"}})), schema.CodeCapacityExceeded, "")
	if n := b.f.Counters().InFlight; n != 1 {
		t.Errorf("%d calls in flight, want the started one", n)
	}
	c.answer(t, []byte(`"late"`), nil)
	if m := next(t, sub); string(m.Data) != `"late"` {
		t.Errorf("answer %q with %v", m.Data, m.Header)
	}
	c.end(t)
	b.nothingInFlight(t)
}

// A claim that is not acknowledged has not started: at start-by its call is refused all the same, and the claimer can
// no more win it.
func TestStartByBeatsAClaimThatDoesNotStart(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{})
	claims := b.claimer(t, "echo")
	claims.pull(t)
	sub := b.send(t, "echo", nats.Header{schema.HeaderTimeout: {"1s"}})
	claims.next(t)
	wantRefusal(t, next(t, sub), schema.CodeCapacityExceeded, "start-by")
	if n := b.waiting(t); n != 0 {
		t.Errorf("%d messages are left", n)
	}
	b.nothingInFlight(t)
}

// Full is told at once, by every bound of the stream.
func TestFullIsToldAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{})
	js := b.JetStream(t)
	stream, err := js.Stream(t.Context(), b.streamOf("echo"))
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.MaxMsgsPerSubject = 2
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		b.send(t, "echo", nil)
	}
	wantRefusal(t, next(t, b.send(t, "echo", nil)), schema.CodeCapacityExceeded, "per subject")
	cfg.MaxMsgsPerSubject, cfg.MaxMsgs = -1, 2
	cfg.DiscardNewPerSubject = false
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, next(t, b.send(t, "echo", nil)), schema.CodeCapacityExceeded, "maximum messages")
	if n := b.f.Counters().InFlight; n != 2 {
		t.Errorf("%d calls in flight, want 2", n)
	}
}

// The frontend's own bound.
func TestTooManyInFlight(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{config: func(c *frontend.Config) { c.MaxInFlight = 2 }})
	claims := b.claimer(t, "echo")
	for range 2 {
		b.send(t, "echo", nil)
	}
	wantRefusal(t, next(t, b.send(t, "echo", nil)), schema.CodeThrottled, "2 calls in flight")
	claims.claim(t).ack(t).end(t)
	natstest.Eventually(t, patience, func() bool { return b.f.Counters().InFlight == 1 }, "the end is not taken in")
	sub := b.send(t, "echo", nil)
	claims.claim(t).ack(t).end(t)
	c := claims.claim(t).ack(t)
	c.answer(t, nil, nil)
	next(t, sub)
	c.end(t)
	b.nothingInFlight(t)
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	t.Run("the ring is empty", func(t *testing.T) {
		t.Parallel()
		b := setup(t, settings{deserted: true})
		wantRefusal(t, b.request(t, "echo", nil, nil), schema.CodeUnavailable, "no manager")
	})
	t.Run("whoever was on the ring leaves it", func(t *testing.T) {
		t.Parallel()
		b := setup(t, settings{deserted: true, leaving: []string{"m1"}})
		wantRefusal(t, b.request(t, "echo", nil, nil), schema.CodeUnavailable, "no manager")
		b.nothingInFlight(t)
	})
	t.Run("the stream is gone", func(t *testing.T) {
		t.Parallel()
		b := setup(t, settings{})
		if err := b.JetStream(t).DeleteStream(t.Context(), b.streamOf("echo")); err != nil {
			t.Fatal(err)
		}
		wantRefusal(t, b.request(t, "echo", nil, nil), schema.CodeUnavailable, "stream")
		b.nothingInFlight(t)
	})
}

// A server with a smaller limit than a call's is told of at the door, with its number.
func TestServersOwnPayloadLimit(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{server: []natstest.Option{natstest.Server(func(o *natstest.ServerOptions) { o.MaxPayload = 4096 })}})
	wantRefusal(t, b.request(t, "echo", make([]byte, 4000), nil), schema.CodeTooLarge, "4096")
	b.nothingInFlight(t)
}

// S07: after calls of every kind C is 0 and nothing is left on any arc.
func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{http: true, functions: []*schema.FunctionRecord{record("idle")}})
	b.serve(t, "echo", func(c *schema.Call) ([]byte, nats.Header) {
		if string(c.Payload) == `"fail"` {
			return []byte(`{"errorType":"E","errorMessage":"m"}`), nats.Header{schema.HeaderFunctionError: {schema.FunctionErrorUnhandled}}
		}
		return c.Payload, nil
	})
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			for range 10 {
				switch i % 5 {
				case 0:
					b.request(t, "echo", []byte(`"ok"`), nil)
				case 1:
					b.request(t, "echo", []byte(`"fail"`), nil)
				case 2: // its caller goes before the answer
					ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
					_, err := b.f.Invoke(ctx, &schema.Request{Account: "default", Function: "idle", Timeout: 50 * time.Millisecond})
					cancel()
					if err == nil {
						t.Error("a call that nobody takes was answered")
					}
				case 3:
					_, err := b.f.Invoke(t.Context(), &schema.Request{Account: "default", Function: "idle", Timeout: 20 * time.Millisecond})
					if !errors.Is(err, &schema.Error{Code: schema.CodeCapacityExceeded}) {
						t.Errorf("not refused at start-by: %v", err)
					}
				case 4:
					if _, err := b.f.Invoke(t.Context(), &schema.Request{Account: "default", Function: "echo", Payload: []byte("1")}); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	b.nothingInFlight(t)
	natstest.Eventually(t, patience, func() bool { return b.waiting(t) == 0 }, "messages are left on an arc")
	c := b.f.Counters()
	if c.Calls != 400 || c.Lost != 0 || c.Refused[schema.CodeCapacityExceeded] < 80 {
		t.Errorf("counters %+v", c)
	}
}

// The caller of an HTTP call goes: the call goes on, its answer is dropped, its end is taken in.
func TestCallerGone(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{http: true})
	claims := b.claimer(t, "echo")
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url+"/2015-03-31/functions/echo/invocations", nil)
		if err == nil {
			_, err = http.DefaultClient.Do(req)
		}
		gone <- err
	}()
	c := claims.claim(t).ack(t)
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Fatalf("the caller got %v", err)
	}
	natstest.Eventually(t, patience, func() bool { return b.f.Counters().Gone == 1 }, "the frontend does not notice")
	if n := b.f.Counters().InFlight; n != 1 {
		t.Errorf("%d calls in flight, want 1: it runs", n)
	}
	c.answer(t, []byte("1"), nil)
	natstest.Eventually(t, patience, func() bool { return b.f.Counters().Unclaimed == 1 }, "the answer is not dropped")
	c.end(t)
	b.nothingInFlight(t)
}

// The end may overtake the answer of an HTTP call: C falls at once, and the answer still reaches its caller.
func TestEndBeforeAnswer(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{})
	claims := b.claimer(t, "echo")
	type result struct {
		a   *schema.Answer
		err error
	}
	got := make(chan result, 1)
	go func() {
		a, err := b.f.Invoke(t.Context(), &schema.Request{Account: "default", Function: "echo", Payload: []byte("1")})
		got <- result{a, err}
	}()
	c := claims.claim(t).ack(t)
	c.end(t)
	c.end(t) // told twice
	c.answer(t, []byte("2"), nil)
	if r := <-got; r.err != nil || string(r.a.Payload) != "2" {
		t.Errorf("got %+v, %v", r.a, r.err)
	}
	b.nothingInFlight(t)
}

// An answer that passes through the frontend is the call's end: no notice of it comes beside. One that claims to be the answer of a
// call whose caller is answered by the worker ends nothing.
func TestAnswerIsTheEnd(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{})
	claims := b.claimer(t, "echo")
	got := make(chan error, 1)
	go func() {
		_, err := b.f.Invoke(t.Context(), &schema.Request{Account: "default", Function: "echo", Payload: []byte("1")})
		got <- err
	}()
	claims.claim(t).ack(t).answer(t, []byte("2"), nil)
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	b.nothingInFlight(t)
	if n := b.f.Counters().Untold; n != 0 {
		t.Errorf("the end was not told by the answer: it was found missing")
	}

	b.send(t, "echo", nil)
	c := claims.claim(t).ack(t)
	strange := subjects.FrontendInbox(b.f.ID(), fmt.Sprintf("%s.%016x", subjects.AnswerKind, c.call.Token))
	if err := b.manager.Publish(strange, []byte("3")); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, patience, func() bool { return b.f.Counters().Unclaimed == 1 }, "the answer that nobody waits for is dropped")
	if n := b.f.Counters().InFlight; n != 1 {
		t.Errorf("%d calls in flight, want 1: its end was not told", n)
	}
	c.end(t)
	b.nothingInFlight(t)
}

// Any bytes may come to an inbox; what is not ours changes nothing.
func TestGarbageInInboxes(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{})
	claims := b.claimer(t, "echo")
	sub := b.send(t, "echo", nil)
	c := claims.claim(t)
	token := fmt.Sprintf("%016x", c.call.Token)
	for _, rest := range []string{
		"e", "b", "i", "x", "p", "a", "e.x", "p.", "p." + token[1:], "p." + token + "0", "p.ffffffffffffffff", "q." + token,
		"a.0000000000000001", "d.0000000000000001", "g.0000000000000001", "p.GGGGGGGGGGGGGGGG", "d." + token, "g." + token, "i",
	} {
		for _, data := range []string{"", "x", "\xdd\xff\xff\xff\xff", `{"error":{}}`, "{}"} {
			if err := b.manager.Publish(subjects.FrontendInbox(b.f.ID(), rest), []byte(data)); err != nil {
				t.Fatal(err)
			}
		}
	}
	c.ack(t).answer(t, []byte("1"), nil)
	if m := next(t, sub); string(m.Data) != "1" {
		t.Errorf("answer %q with %v", m.Data, m.Header)
	}
	c.end(t)
	b.nothingInFlight(t)
}
