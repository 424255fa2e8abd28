package deploy

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// manage enters as the manager, whose answers come to its own inbox.
func (d *door) manage(t *testing.T) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	l := d.logins["manager"]
	nc, err := nats.Connect(d.server.url, l.option(), nats.CustomInboxPrefix("_HM.m1"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return nc, js
}

// The server answers an event with its PubAck, wherever the caller has it go, and asks for nobody's rights. For a client that is
// nowhere in the fabric: it has an account of its own.
func TestPubAcksOfClientsReachNothing(t *testing.T) {
	t.Parallel()
	d := openDoor(t, true)
	_, js := d.manage(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := topology.Ensure(ctx, js, d.names, schema.DefaultFabric()); err != nil {
		t.Fatal(err)
	}
	frontend := d.enter(t, "frontend")
	for _, subject := range []string{d.names.Dead("default", "f"), d.names.RetryDue("default", "f")} {
		if err := frontend.Publish(subject, []byte("an event of somebody else")); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{topology.DeadLetters, topology.Retries} { // what is published without a question is stored a moment later
		for s, err := js.Stream(ctx, d.names.Stream(name)); err != nil || s.CachedInfo().State.Msgs == 0; s, err = js.Stream(ctx, d.names.Stream(name)) {
			if err != nil {
				t.Fatal(err)
			}
		}
	}

	client := d.enter(t, "client")
	event := d.names.Event("default", "f", "")
	for _, reply := range []string{
		"$JS.API.STREAM.MSG.DELETE." + d.names.Stream(topology.DeadLetters), // of which a PubAck is a good body: {"seq": 1}
		"$JS.API.STREAM.PURGE." + d.names.Stream(topology.Retries),          // and 2: everything before it
		"$KV." + d.names.Bucket(topology.Functions) + ".default.f",
		d.names.UnreservedCall(1, "default", "f", "1", ""),
	} {
		if err := client.PublishMsg(&nats.Msg{Subject: event, Reply: reply, Data: []byte(`{}`)}); err != nil {
			t.Fatal(err)
		}
	}
	m, err := client.RequestWithContext(ctx, event, []byte(`{}`)) // after all of them
	if err != nil {
		t.Fatal(err)
	}
	if got, err := schema.ReadAccepted(m.Data); err != nil || got.Sequence != 5 {
		t.Errorf("the PubAck of an event says %+v, %v; want sequence 5", got, err)
	}
	for stream, want := range map[string]uint64{
		d.names.Stream(topology.DeadLetters): 1, d.names.Stream(topology.Retries): 1, d.names.CallsU(0): 0,
		topology.BucketStream(d.names, topology.Functions): 0, d.names.Events(subjects.DefaultAccount): 5,
	} {
		s, err := js.Stream(ctx, stream)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.CachedInfo().State.Msgs; got != want {
			t.Errorf("%s has %d messages, want %d", stream, got, want)
		}
	}
}

// What clients ask is answered in their account, also where nobody listens.
func TestClientsAreAnswered(t *testing.T) {
	t.Parallel()
	d := openDoor(t, true)
	client, frontend := d.enter(t, "client"), d.enter(t, "frontend")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	subject := d.names.Invoke("default", "f", "")
	if _, err := client.RequestWithContext(ctx, subject, nil); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("without a frontend: %v, want %v", err, nats.ErrNoResponders)
	}
	sub, err := frontend.QueueSubscribe(d.names.InvokeAll(), "q", func(m *nats.Msg) {
		if !subjects.ReplyAllowed(m.Reply) {
			t.Errorf("a client's reply arrives as %q, which frontends do not answer", m.Reply)
		}
		_ = m.Respond(m.Data)
	})
	if err == nil {
		err = frontend.FlushWithContext(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	m, err := client.RequestWithContext(ctx, subject, []byte("hello"))
	if err != nil || string(m.Data) != "hello" {
		t.Errorf("answered %v, %v", m, err)
	}
}
