package frontend_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// claim is one call that a claimer has.
type claim struct {
	b    *bundle
	msg  *nats.Msg
	call schema.Call
	arc  subjects.ArcCall
}

// claimer pulls from the arc of a function, one claim at a time, as a manager with one idle environment does.
type claimer struct {
	b       *bundle
	subject string
	sub     *nats.Subscription
}

func (b *bundle) claimer(t testing.TB, function string) *claimer {
	t.Helper()
	nn := subjects.UnreservedArc(subjects.DefaultAccount, function, "", natstest.Arcs)
	return b.claimerOf(t, b.Names.CallsOf(nn), b.Names.UnreservedDurable(nn))
}

// claimerOf is a claimer that pulls from this consumer.
func (b *bundle) claimerOf(t testing.TB, stream, durable string) *claimer {
	t.Helper()
	sub, err := b.manager.SubscribeSync(subjects.ManagerInbox("m1", nats.NewInbox()[7:]))
	if err != nil {
		t.Fatal(err)
	}
	c := &claimer{b, "$JS.API.CONSUMER.MSG.NEXT." + stream + "." + durable, sub}
	t.Cleanup(func() { _ = sub.Unsubscribe() })
	return c
}

// pull opens a pull without waiting for it.
func (c *claimer) pull(t testing.TB) {
	t.Helper()
	body := fmt.Sprintf(`{"batch":1,"expires":%d,"group":%q,"priority":0}`, patience, topology.PriorityGroup)
	if err := c.b.manager.PublishRequest(c.subject, c.sub.Subject, []byte(body)); err != nil {
		t.Fatal(err)
	}
	if err := c.b.manager.Flush(); err != nil {
		t.Fatal(err)
	}
}

// claim pulls and waits for a call.
func (c *claimer) claim(t testing.TB) *claim {
	t.Helper()
	c.pull(t)
	return c.next(t)
}

func (c *claimer) next(t testing.TB) *claim {
	t.Helper()
	msg, err := c.sub.NextMsg(patience)
	if err != nil {
		t.Fatalf("no claim: %v", err)
	}
	out := &claim{b: c.b, msg: msg}
	if err := schema.DecodeCall(msg.Data, &out.call); err != nil {
		t.Fatalf("claimed %s with headers %v: %v", msg.Subject, msg.Header, err)
	}
	var ok bool
	if out.arc, ok = c.b.Names.ParseArc(msg.Subject); !ok {
		t.Fatalf("claimed from %q, no call's subject", msg.Subject)
	}
	return out
}

// ack is the start line.
func (c *claim) ack(t testing.TB) *claim {
	t.Helper()
	if err := c.msg.AckSync(nats.Context(t.Context())); err != nil {
		t.Fatal(err)
	}
	return c
}

// answer sends what a worker sends: payload and headers, straight to the caller.
func (c *claim) answer(t testing.TB, payload []byte, more nats.Header) {
	t.Helper()
	h := nats.Header{
		schema.HeaderRequestID:       {c.call.RequestID},
		schema.HeaderExecutedVersion: {c.call.Version},
		schema.HeaderArc:             {c.arc.ArcName()},
		schema.HeaderReason:          {string(c.call.Reason)},
		schema.HeaderStart:           {string(schema.StartWarm)},
		schema.HeaderRank:            {"0"},
		schema.HeaderManager:         {"m1"},
		schema.HeaderEnvironment:     {"e1"},
		schema.HeaderAttempt:         {fmt.Sprint(c.call.Attempt)},
		schema.HeaderDuration:        {"1ms"},
		schema.HeaderContentType:     {"application/json"},
	}
	for k, v := range more {
		h[k] = v
	}
	if err := c.b.manager.PublishMsg(&nats.Msg{Subject: c.call.Reply, Header: h, Data: payload}); err != nil {
		t.Fatal(err)
	}
}

// end tells the frontend that the call has ended.
func (c *claim) end(t testing.TB) {
	c.tell(t, "e", &schema.Ends{Manager: "m1", Tokens: []uint64{c.call.Token}})
}

// beat tells the frontend that the call runs.
func (c *claim) beat(t testing.TB) {
	c.tell(t, "b", &schema.Beat{Manager: "m1", Tokens: []uint64{c.call.Token}})
}

func (c *claim) tell(t testing.TB, kind string, v any) {
	t.Helper()
	data, err := schema.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.b.manager.Publish(subjects.FrontendInbox(c.call.Frontend, kind), data); err != nil {
		t.Fatal(err)
	}
}

// serve answers every call of a function with what do makes of it, until the test ends.
func (b *bundle) serve(t testing.TB, function string, do func(*schema.Call) ([]byte, nats.Header)) {
	t.Helper()
	c := b.claimer(t, function)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	c.pull(t)
	wg.Go(func() {
		for {
			msg, err := c.sub.NextMsg(20 * time.Millisecond)
			if err == nil && len(msg.Data) > 0 {
				out := &claim{b: b, msg: msg}
				if err := schema.DecodeCall(msg.Data, &out.call); err != nil {
					t.Error(err)
					return
				}
				out.arc, _ = b.Names.ParseArc(msg.Subject)
				if out.call.Held > 0 {
					subject := subjects.FrontendInbox(out.call.Frontend, fmt.Sprintf("f.%016x", out.call.Token))
					payload, err := b.manager.Request(subject, nil, patience)
					if err != nil {
						t.Error(err)
						return
					}
					out.call.Payload = payload.Data
				}
				_ = msg.Ack()
				c.pull(t)
				payload, h := do(&out.call)
				out.answer(t, payload, h)
				out.end(t)
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	t.Cleanup(func() { close(stop); wg.Wait() })
}

func echo(c *schema.Call) ([]byte, nats.Header) { return c.Payload, nil }
