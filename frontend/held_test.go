package frontend_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/frontend"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// payloadOf is a JSON string of n bytes that is not the same everywhere.
func payloadOf(n int) []byte {
	b := bytes.Repeat([]byte("0123456789abcdef~"), n/17+1)[:n]
	b[0], b[n-1] = '"', '"'
	return b
}

// ask asks for the payload of a call, as its claimer does.
func (b *bundle) ask(t testing.TB, frontend string, token uint64) *nats.Msg {
	t.Helper()
	m, err := b.manager.Request(subjects.FrontendInbox(frontend, fmt.Sprintf("f.%016x", token)), nil, patience)
	if err != nil {
		t.Fatalf("ask for the payload of %x: %v", token, err)
	}
	return m
}

// sendPayload is send with a payload.
func (b *bundle) sendPayload(t testing.TB, function string, payload []byte, h nats.Header) *nats.Subscription {
	t.Helper()
	inbox := b.caller.NewInbox()
	sub, err := b.caller.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	m := &nats.Msg{Subject: b.Names.Invoke(subjects.DefaultAccount, function, ""), Reply: inbox, Data: payload, Header: h}
	if err := b.caller.PublishMsg(m); err != nil {
		t.Fatal(err)
	}
	return sub
}

// What is larger than 64 KB stays with the frontend until its call leaves; nothing of it lies in the stream.
func TestHeldPayloads(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{})
	claims := b.claimer(t, "echo")
	for _, size := range []int{schema.MaxCarried - 1, schema.MaxCarried, schema.MaxCarried + 1, 1 << 20, schema.MaxPayload} {
		payload := payloadOf(size)
		sub := b.sendPayload(t, "echo", payload, nil)
		c := claims.claim(t)
		if size <= schema.MaxCarried {
			if !bytes.Equal(c.call.Payload, payload) || c.call.Held != 0 {
				t.Errorf("%d bytes: the envelope has %d and holds %d", size, len(c.call.Payload), c.call.Held)
			}
			if m := b.ask(t, c.call.Frontend, c.call.Token); m.Header.Get(schema.HeaderStatus) != schema.StatusUnknown {
				t.Errorf("%d bytes: asked for what is in the envelope: %v, %d bytes", size, m.Header, len(m.Data))
			}
		} else {
			if len(c.call.Payload) != 0 || c.call.Held != size || len(c.msg.Data) > 4096 {
				t.Errorf("%d bytes: the message has %d, the envelope %d and holds %d", size, len(c.msg.Data), len(c.call.Payload), c.call.Held)
			}
			for range 2 { // a redelivered claim asks again
				if m := b.ask(t, c.call.Frontend, c.call.Token); sha256.Sum256(m.Data) != sha256.Sum256(payload) || len(m.Header) != 0 {
					t.Errorf("%d bytes: got %d with %v", size, len(m.Data), m.Header)
				}
			}
			if got := b.f.Counters().Held; got != int64(size) {
				t.Errorf("%d bytes: %d are counted as held", size, got)
			}
		}
		c.ack(t).answer(t, []byte("1"), nil)
		next(t, sub)
		c.end(t)
		b.nothingInFlight(t)
		if got := b.f.Counters().Held; got != 0 {
			t.Errorf("%d bytes: %d are still held after the call", size, got)
		}
		if m := b.ask(t, c.call.Frontend, c.call.Token); m.Header.Get(schema.HeaderStatus) != schema.StatusUnknown || len(m.Data) != 0 {
			t.Errorf("%d bytes: asked after the end: %v, %d bytes", size, m.Header, len(m.Data))
		}
	}
}

// A token that nobody drew, and what is no token, get no payload; a reply that is no inbox gets nothing at all.
func TestHeldAsksOfStrangers(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{})
	b.sendPayload(t, "echo", payloadOf(100_000), nil)
	c := b.claimer(t, "echo").claim(t)
	if m := b.ask(t, c.call.Frontend, c.call.Token^1); m.Header.Get(schema.HeaderStatus) != schema.StatusUnknown || len(m.Data) != 0 {
		t.Errorf("another token: %v, %d bytes", m.Header, len(m.Data))
	}
	elsewhere, err := b.caller.SubscribeSync("elsewhere")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.caller.Flush(); err != nil {
		t.Fatal(err)
	}
	subject := subjects.FrontendInbox(c.call.Frontend, fmt.Sprintf("f.%016x", c.call.Token))
	for _, reply := range []string{"elsewhere", ""} {
		if err := b.manager.PublishMsg(&nats.Msg{Subject: subject, Reply: reply}); err != nil {
			t.Fatal(err)
		}
	}
	// What was asked after it has been answered: so was, or was not, what came before it.
	if m := b.ask(t, c.call.Frontend, c.call.Token); len(m.Data) != 100_000 {
		t.Errorf("got %d bytes", len(m.Data))
	}
	if err := b.manager.Flush(); err != nil {
		t.Fatal(err)
	}
	if m, err := elsewhere.NextMsg(10 * time.Millisecond); err == nil {
		t.Errorf("a subject that is no inbox got %d bytes", len(m.Data))
	}
	if got := b.f.Counters().Fetched; got != 1 {
		t.Errorf("%d payloads were handed over, want 1", got)
	}
}

// Held bytes are bounded: beyond, 429 with a hint, by every door, and room comes back with the ends of calls.
func TestHeldBytesAreBounded(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{config: func(c *frontend.Config) { c.MaxHeld = 300_000 }})
	claims := b.claimer(t, "echo")
	first := b.sendPayload(t, "echo", payloadOf(200_000), nil)
	c := claims.claim(t)
	wantRefusal(t, next(t, b.sendPayload(t, "echo", payloadOf(100_001), nil)), schema.CodeThrottled, "together at most 300000 bytes")
	_, err := b.f.Invoke(t.Context(), &schema.Request{Account: "default", Function: "echo", Payload: payloadOf(100_001)})
	if schema.CodeOf(err) != schema.CodeThrottled || schema.CodeOf(err).Row().Hint == 0 {
		t.Errorf("by a door in the process: %v, want it throttled with a hint", err)
	}
	small := b.sendPayload(t, "echo", payloadOf(schema.MaxCarried), nil) // does not count
	s := claims.claim(t).ack(t)
	s.answer(t, []byte("2"), nil)
	next(t, small)
	s.end(t)
	c.ack(t).answer(t, []byte("1"), nil)
	next(t, first)
	c.end(t)
	b.nothingInFlight(t)
	b.sendPayload(t, "echo", payloadOf(300_000), nil)
	if c := claims.claim(t); c.call.Held != 300_000 {
		t.Errorf("with room again the claim holds %d", c.call.Held)
	}
}

// A call that runs needs its payload no more, so its bytes are let go at its first beat; those of an idempotent one stay,
// for its next attempt.
func TestHeldUntilItRuns(t *testing.T) {
	t.Parallel()
	fn := record("twice")
	fn.Latest.Idempotent = true
	b := setup(t, settings{functions: []*schema.FunctionRecord{fn}})
	b.sendPayload(t, "echo", payloadOf(100_000), nil)
	b.claimer(t, "echo").claim(t).ack(t).beat(t)
	natstest.Eventually(t, patience, func() bool { return b.f.Counters().Held == 0 }, "the payload of a call that runs is held")

	payload := payloadOf(200_000)
	claims := b.claimer(t, "twice")
	sub := b.sendPayload(t, "twice", payload, nats.Header{schema.HeaderTimeout: {"1m"}})
	first := claims.claim(t).ack(t)
	first.beat(t) // and never again: its manager has gone
	second := claims.claim(t)
	if second.call.Attempt != 2 || second.call.Held != len(payload) {
		t.Errorf("second attempt %+v", second.call)
	}
	if m := b.ask(t, first.call.Frontend, first.call.Token); len(m.Data) != 0 {
		t.Errorf("the first attempt's token still yields %d bytes", len(m.Data))
	}
	if m := b.ask(t, second.call.Frontend, second.call.Token); !bytes.Equal(m.Data, payload) {
		t.Errorf("the second attempt's payload has %d bytes", len(m.Data))
	}
	second.ack(t).answer(t, []byte("2"), nil)
	next(t, sub)
	second.end(t)
	natstest.Eventually(t, patience, func() bool { return b.f.Counters().Held == 0 }, "the payload is held after the end")
}

// A large call that left the stream and that nobody names is found out as soon as any other.
func TestHeldIsLookedAt(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{})
	sub := b.sendPayload(t, "echo", payloadOf(schema.MaxPayload), nats.Header{schema.HeaderTimeout: {"1m"}})
	began := time.Now()
	b.claimer(t, "echo").claim(t).ack(t)
	wantLost(t, next(t, sub))
	if took := time.Since(began); took > schema.DefaultFabric().StartBy {
		t.Errorf("it took %v, the whole start-by and more", took)
	}
	b.nothingInFlight(t)
}

// A server whose messages are smaller than the payload is told of at the door, with its own limit.
func TestHeldFitsTheServer(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{server: []natstest.Option{natstest.Server(func(o *natstest.ServerOptions) { o.MaxPayload = 256 << 10 })}})
	_, err := b.f.Invoke(t.Context(), &schema.Request{Account: "default", Function: "echo", Payload: payloadOf(256<<10 + 1)})
	if schema.CodeOf(err) != schema.CodeTooLarge || err == nil || !bytes.Contains([]byte(err.Error()), []byte("takes 262144")) {
		t.Errorf("got %v, want the server's limit", err)
	}
	sub := b.sendPayload(t, "echo", payloadOf(255<<10), nil)
	c := b.claimer(t, "echo").claim(t)
	if m := b.ask(t, c.call.Frontend, c.call.Token); len(m.Data) != 255<<10 {
		t.Errorf("got %d bytes", len(m.Data))
	}
	c.ack(t).answer(t, []byte("1"), nil)
	next(t, sub)
	c.end(t)
	b.nothingInFlight(t)
}
