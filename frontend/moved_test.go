package frontend_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/frontend"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

func frontendName(function string) frontend.FunctionName {
	return frontend.FunctionName{Account: subjects.DefaultAccount, Function: function}
}

// sequence is that of a claimed message in its stream.
func (c *claim) sequence(t testing.TB) uint64 {
	t.Helper()
	meta, err := c.msg.Metadata()
	if err != nil {
		t.Fatal(err)
	}
	return meta.Sequence.Stream
}

// lock deletes a claimed message, as a catcher does before it moves the call.
func (c *claim) lock(t testing.TB, r *reservation) {
	t.Helper()
	stream, err := r.js.Stream(t.Context(), r.stream())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.DeleteMsg(t.Context(), c.sequence(t)); err != nil {
		t.Fatal(err)
	}
}

// inbox is an inbox of the call's frontend.
func (c *claim) inbox(kind string) string {
	return subjects.FrontendInbox(c.call.Frontend, fmt.Sprintf("%s.%016x", kind, c.call.Token))
}

// copy publishes a call on its unreserved arc, as a catcher does: the frontend hears the PubAck.
func (c *claim) copy(t testing.TB) {
	t.Helper()
	env := c.call
	env.Reason = schema.ReasonOverflow
	nn := subjects.UnreservedArc(env.Account, env.Function, env.Tenant, natstest.Arcs)
	m := &nats.Msg{
		Subject: c.b.Names.UnreservedCall(nn, env.Account, env.Function, env.Version, env.Tenant), Reply: c.inbox("p"),
		Header: nats.Header{nats.MsgTTLHdr: {"12s"}}, Data: schema.EncodeCall(nil, &env),
	}
	if err := c.b.manager.PublishMsg(m); err != nil {
		t.Fatal(err)
	}
}

// move moves a claim of a reserved arc to the unreserved one and claims it there.
func (c *claimer) move(t testing.TB, was *claim) *claim {
	t.Helper()
	r := &reservation{b: c.b, js: c.b.JetStream(t), record: schema.ReservationRecord{Shard: was.arc.Number}}
	was.lock(t, r)
	was.copy(t)
	got := c.claim(t).ack(t)
	got.wants(t, schema.ReasonOverflow)
	if got.call.Token != was.call.Token {
		t.Errorf("claimed call %x, moved %x", got.call.Token, was.call.Token)
	}
	return got
}

// reservedBundle is a fabric with function f, whose arc is open and has three idle members.
func reservedBundle(t testing.TB) (*bundle, *reservation) {
	t.Helper()
	b := setup(t, settings{functions: []*schema.FunctionRecord{published("f")}})
	r := b.reserve(t, "f", 3)
	b.tells(t, "m2", r.arc(3, 0))
	return b, r
}

// A marker that was purged, replaced or lost with its stream, a stream that is not there, and a stale record: the call is
// refused by the server and goes to its unreserved arc at once, within its start-by, once.
func TestRefusedByItsReservedArc(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*testing.T, *reservation){
		"the marker is purged": func(t *testing.T, r *reservation) {
			s, err := r.js.Stream(t.Context(), r.stream())
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Purge(t.Context(), jetstream.WithPurgeSubject(r.marker())); err != nil {
				t.Fatal(err)
			}
		},
		"another marker stands": func(t *testing.T, r *reservation) {
			if _, err := r.js.Publish(t.Context(), r.marker(), nil); err != nil {
				t.Fatal(err)
			}
		},
		"the stream is gone": func(t *testing.T, r *reservation) {
			if err := r.js.DeleteStream(t.Context(), r.stream()); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, r := reservedBundle(t)
			unreserved := b.claimer(t, "f")
			spoil(t, r)
			sub := b.send(t, "f", one(schema.HeaderTimeout, "1m"))
			c := unreserved.claim(t).ack(t)
			c.wants(t, schema.ReasonUnreserved)
			if c.call.StartBy <= 0 || c.call.StartBy >= schema.DefaultFabric().StartBy {
				t.Errorf("start-by %v, want what was left of %v", c.call.StartBy, schema.DefaultFabric().StartBy)
			}
			c.answer(t, []byte("1"), nil)
			if m := next(t, sub); string(m.Data) != "1" {
				t.Errorf("answer %q with %v", m.Data, m.Header)
			}
			c.end(t)
			b.nothingInFlight(t)
			b.wantStory(t, c.call.RequestID, "admitted decided published spilled stored ended")
			if got := b.f.Counters(); got.Spilled != 1 || got.Routed[frontendName("f")] != (frontend.Reasons{Unreserved: 1}) {
				t.Errorf("counted %+v", got)
			}
			if !b.f.Doubts("default", "f", "1") {
				t.Error("the next call would try it at once")
			}
			// And one that nobody takes is refused at its start-by, from where it is.
			wantRefusal(t, next(t, b.send(t, "f", one(schema.HeaderTimeout, "100ms"))), schema.CodeCapacityExceeded, "start-by")
			if n := b.waiting(t); n != 0 {
				t.Errorf("%d messages are left", n)
			}
		})
	}
	t.Run("opened anew", func(t *testing.T) {
		t.Parallel()
		b, r := reservedBundle(t)
		if err := r.js.DeleteStream(t.Context(), r.stream()); err != nil {
			t.Fatal(err)
		}
		unreserved := b.claimer(t, "f")
		b.send(t, "f", one())
		unreserved.run(t, schema.ReasonUnreserved)
		r.open(t)
		b.send(t, "f", one())
		r.claimer(t).run(t, schema.ReasonReserved)
		b.nothingInFlight(t)
	})
}

// A reserved arc that is full has more than its members can do: the call is one beyond the reservation, and goes where such
// calls go. 429 is said by the unreserved arc alone.
func TestFullReservedArc(t *testing.T) {
	t.Parallel()
	b, r := reservedBundle(t)
	s, err := r.js.Stream(t.Context(), r.stream())
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	cfg.MaxMsgsPerSubject = 1
	if _, err := r.js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	b.send(t, "f", one())
	natstest.Eventually(t, patience, func() bool { return r.waiting(t) == 1 }, "the call is not stored")
	unreserved := b.claimer(t, "f")
	for range 2 { // the arc is not left alone: its record is right
		b.send(t, "f", one())
		unreserved.run(t, schema.ReasonScale)
	}
	if b.f.Doubts("default", "f", "1") {
		t.Error("the full arc is left alone")
	}
	if got := b.f.Counters().Spilled; got != 2 {
		t.Errorf("%d calls were refused by the reserved arc, want 2", got)
	}
	r.claimer(t).run(t, schema.ReasonReserved)
	b.nothingInFlight(t)
}

// Start-by, claims and ends on a shard are as on an unreserved arc.
func TestStartByOnAShard(t *testing.T) {
	t.Parallel()
	b, r := reservedBundle(t)
	wantRefusal(t, next(t, b.send(t, "f", one(schema.HeaderTimeout, "100ms"))), schema.CodeCapacityExceeded, "start-by")
	if n := r.waiting(t); n != 0 {
		t.Errorf("%d messages are left", n)
	}
	claims := r.claimer(t)
	sub := b.send(t, "f", one(schema.HeaderTimeout, "100ms"))
	c := claims.claim(t).ack(t)
	wantRefusal(t, next(t, b.send(t, "f", one(schema.HeaderTimeout, "300ms"))), schema.CodeCapacityExceeded, "")
	c.answer(t, []byte("1"), nil)
	m := next(t, sub)
	if string(m.Data) != "1" || m.Header.Get(schema.HeaderArc) != r.name() || m.Header.Get(schema.HeaderReason) != "reserved" {
		t.Errorf("answer %q with %v", m.Data, m.Header)
	}
	c.end(t)
	b.nothingInFlight(t)
	// Lost: the error says where it was.
	sub = b.send(t, "f", one())
	claims.claim(t).ack(t)
	lost := next(t, sub)
	wantLost(t, lost)
	if lost.Header.Get(schema.HeaderArc) != r.name() {
		t.Errorf("headers %v, want arc %s", lost.Header, r.name())
	}
}

// S22, the frontend's half: a catcher moves a call; its start-by goes with it.
func TestMovedCall(t *testing.T) {
	t.Parallel()
	t.Run("start-by after the move", func(t *testing.T) {
		t.Parallel()
		b, r := reservedBundle(t)
		sub := b.send(t, "f", one(schema.HeaderTimeout, "500ms"))
		c := r.claimer(t).claim(t)
		c.lock(t, r)
		c.copy(t)
		wantRefusal(t, next(t, sub), schema.CodeCapacityExceeded, "start-by")
		b.empty(t)
		b.nothingInFlight(t)
		b.wantStory(t, c.call.RequestID, "admitted decided published stored overflow refused")
		if got := b.f.Counters().Routed[frontendName("f")]; got != (frontend.Reasons{Overflow: 1}) {
			t.Errorf("counted %+v", got)
		}
	})
	t.Run("start-by before the move is known", func(t *testing.T) {
		t.Parallel()
		b, r := reservedBundle(t)
		sub := b.send(t, "f", one(schema.HeaderTimeout, "100ms"))
		c := r.claimer(t).claim(t)
		c.lock(t, r)
		// Another call that nobody takes marks the time: the first one's start-by has passed, and its message was not there.
		wantRefusal(t, next(t, b.send(t, "echo", nats.Header{schema.HeaderTimeout: {"300ms"}})), schema.CodeCapacityExceeded, "")
		c.copy(t)
		wantRefusal(t, next(t, sub), schema.CodeCapacityExceeded, "start-by")
		b.empty(t)
		b.nothingInFlight(t)
	})
	t.Run("what is told late of the shard changes nothing", func(t *testing.T) {
		t.Parallel()
		b, r := reservedBundle(t)
		unreserved := b.claimer(t, "f")
		sub := b.send(t, "f", one(schema.HeaderTimeout, "500ms"))
		c := r.claimer(t).claim(t)
		c.lock(t, r)
		c.copy(t)
		moved := unreserved.claim(t) // the copy is stored; its PubAck is with the frontend before what follows
		natstest.Eventually(t, patience, func() bool { return b.waiting(t) == 1 }, "the copy is not stored")
		for kind, body := range map[string]string{
			"p": fmt.Sprintf(`{"stream":%q,"seq":%d}`, r.stream(), c.sequence(t)),
			"D": `{"success":true}`,
			"G": `{"error":{"code":404,"err_code":10037,"description":"no message found"}}`,
		} {
			if err := b.manager.Publish(c.inbox(kind), []byte(body)); err != nil {
				t.Fatal(err)
			}
		}
		// The claim is not started: the start-by finds the copy, and deletes it where it is.
		wantRefusal(t, next(t, sub), schema.CodeCapacityExceeded, "start-by")
		b.empty(t)
		b.nothingInFlight(t)
		if moved.call.Reason != schema.ReasonOverflow {
			t.Errorf("claimed for %q", moved.call.Reason)
		}
	})
	t.Run("it waits for longer than a lost one would", func(t *testing.T) {
		t.Parallel()
		b, r := reservedBundle(t)
		unreserved := b.claimer(t, "f")
		sub := b.send(t, "f", one(schema.HeaderTimeout, "30s"))
		c := r.claimer(t).claim(t)
		c.lock(t, r)
		c.copy(t)
		natstest.Eventually(t, patience, func() bool { return b.waiting(t) == 1 }, "the copy is not stored")
		// A call that was started and is never named marks the time.
		lost := b.send(t, "f", one())
		r.claimer(t).claim(t).ack(t)
		wantLost(t, next(t, lost))
		got := unreserved.claim(t).ack(t)
		got.answer(t, []byte("1"), nil)
		if m := next(t, sub); string(m.Data) != "1" {
			t.Errorf("answer %q with %v", m.Data, m.Header)
		}
		got.end(t)
		b.nothingInFlight(t)
	})
	t.Run("the unreserved arc is full", func(t *testing.T) {
		t.Parallel()
		b, r := reservedBundle(t)
		s, err := r.js.Stream(t.Context(), b.streamOf("f"))
		if err != nil {
			t.Fatal(err)
		}
		cfg := s.CachedInfo().Config
		cfg.MaxMsgsPerSubject = 1
		if _, err := r.js.UpdateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		subs := [2]*nats.Subscription{b.send(t, "f", one()), b.send(t, "f", one())}
		claims := r.claimer(t)
		for range subs {
			c := claims.claim(t)
			c.lock(t, r)
			c.copy(t)
		}
		natstest.Eventually(t, patience, func() bool { return b.f.Counters().InFlight == 1 }, "the one that found no place is not refused")
		for _, sub := range subs {
			if m, err := sub.NextMsg(50 * time.Millisecond); err == nil {
				wantRefusal(t, m, schema.CodeCapacityExceeded, "per subject")
			}
		}
	})
}

// empty checks that no message is left on an unreserved arc: what is refused at its start-by has been deleted before.
func (b *bundle) empty(t testing.TB) {
	t.Helper()
	if n := b.waiting(t); n != 0 {
		t.Errorf("%d messages are left", n)
	}
}

// The stream of a shard is deleted under its calls: who waits in it, and who was on the way and hears nothing at all, is told soon that
// nobody took the call, long before its start-by.
func TestShardDeletedUnderCalls(t *testing.T) {
	t.Parallel()
	// As the queue of a stream that is being deleted: whoever publishes is heard, and answered nothing.
	swallowed := func(t testing.TB, b *bundle, r *reservation, known func()) *nats.Subscription {
		if err := r.js.DeleteStream(t.Context(), r.stream()); err != nil {
			t.Fatal(err)
		}
		known()
		at, err := b.manager.SubscribeSync(b.Names.ReservedAll(r.record.Shard))
		if err != nil {
			t.Fatal(err)
		}
		if err := b.manager.Flush(); err != nil {
			t.Fatal(err)
		}
		sub := b.send(t, "f", one(schema.HeaderTimeout, "10m"))
		if _, err := at.NextMsg(patience); err != nil {
			t.Fatal(err)
		}
		return sub
	}
	for name, sent := range map[string]func(testing.TB, *bundle, *reservation) *nats.Subscription{
		"stored": func(t testing.TB, b *bundle, r *reservation) *nats.Subscription {
			sub := b.send(t, "f", one(schema.HeaderTimeout, "10m"))
			natstest.Eventually(t, patience, func() bool { return r.waiting(t) == 1 }, "the call is not stored")
			if err := r.js.DeleteStream(t.Context(), r.stream()); err != nil {
				t.Fatal(err)
			}
			return sub
		},
		"on the way": func(t testing.TB, b *bundle, r *reservation) *nats.Subscription {
			return swallowed(t, b, r, func() {})
		},
		"sent when its end was known": func(t testing.TB, b *bundle, r *reservation) *nats.Subscription {
			return swallowed(t, b, r, func() {
				b.send(t, "f", one())
				b.claimer(t, "f").run(t, schema.ReasonUnreserved)
				natstest.Eventually(t, patience, func() bool { return b.f.TriesGone("default", "f", "1") }, "it is not found to be gone, and tried all the same")
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, settings{
				functions: []*schema.FunctionRecord{published("f")}, fabric: func(f *schema.Fabric) { f.StartBy = 10 * time.Minute },
			})
			r := b.reserve(t, "f", 3)
			b.tells(t, "m2", r.arc(3, 0))
			wantRefusal(t, next(t, sent(t, b, r)), schema.CodeUnavailable, "deleted")
			b.nothingInFlight(t)
		})
	}
}
