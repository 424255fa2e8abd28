package client_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

func TestSend(t *testing.T) {
	t.Parallel()
	f, c := fabric(t)
	nc := f.Connect(t)
	heard, err := nc.SubscribeSync(f.Names.EventsOf(subjects.DefaultAccount))
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	event := client.Event{Function: "f", Qualifier: "live", Tenant: "a/b", Payload: []byte(`{"n":1}`), ID: "7", ClientContext: []byte("{\n}")}
	first, err := c.Send(t.Context(), event)
	if err != nil || first.Duplicate || first.Sequence == 0 || len(first.RequestID) != 36 {
		t.Fatalf("%+v, %v", first, err)
	}
	again, err := c.Send(t.Context(), event)
	if err != nil || !again.Duplicate || again.Sequence != first.Sequence || again.RequestID != "" {
		t.Errorf("sent again: %+v, %v", again, err)
	}
	event.Tenant = "a"
	if other, err := c.Send(t.Context(), event); err != nil || other.Duplicate {
		t.Errorf("of another sub-tenant: %+v, %v", other, err)
	}
	m, err := heard.NextMsg(patience)
	if err != nil {
		t.Fatal(err)
	}
	if m.Subject != f.Names.Event(subjects.DefaultAccount, "f", "a/b") || string(m.Data) != `{"n":1}` {
		t.Errorf("sent %s on %s", m.Data, m.Subject)
	}
	for name, want := range map[string]string{
		schema.HeaderQualifier: "live", schema.HeaderRequestID: first.RequestID, schema.HeaderClientContext: "{}", schema.HeaderTimeout: "", schema.HeaderTenant: "",
	} {
		if got := m.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

// What is not accepted says so, and by which code.
func TestSendRefused(t *testing.T) {
	t.Parallel()
	f, c := fabric(t)
	cfg := topology.Events(f.Names, subjects.DefaultAccount)
	cfg.MaxBytes = 1024
	if _, err := f.JetStream(t).UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	refused := func(e client.Event, code schema.Code, says string) {
		t.Helper()
		if got, err := c.Send(t.Context(), e); schema.CodeOf(err) != code || !strings.Contains(err.Error(), says) || got != (schema.Accepted{}) {
			t.Errorf("%+v, %v; want %s with %q", got, err, code, says)
		}
	}
	refused(client.Event{Function: "f", Payload: make([]byte, 2048)}, schema.CodeCapacityExceeded, "full")
	refused(client.Event{Function: "f", Payload: make([]byte, schema.MaxEventPayload+1)}, schema.CodeTooLarge, "limit 1048576")
	refused(client.Event{}, schema.CodeInvalidParameter, "Function")
	refused(client.Event{Function: "f", ID: "a b"}, schema.CodeInvalidParameter, schema.HeaderMsgID)
	if err := f.JetStream(t).DeleteStream(t.Context(), f.Names.Events(subjects.DefaultAccount)); err != nil {
		t.Fatal(err)
	}
	refused(client.Event{Function: "f"}, schema.CodeUnavailable, "nobody serves fabric")
}

// A listener that is no stream accepts nothing, whatever it answers.
func TestSendToNoStream(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t, natstest.Bare())
	nc := f.Connect(t)
	if _, err := nc.Subscribe(f.Names.EventsOf(subjects.DefaultAccount), func(m *nats.Msg) { _ = m.Respond([]byte("thanks")) }); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if got, err := client.New(f.Connect(t), f.Names).Send(t.Context(), client.Event{Function: "f"}); schema.CodeOf(err) != schema.CodeUnavailable {
		t.Errorf("%+v, %v", got, err)
	}
}

// The operations on events against the real service: configuration, counts, and dead letters in more than one request.
func TestEventOperations(t *testing.T) {
	t.Parallel()
	f, c := fabric(t)
	ctx := t.Context()
	sum, err := c.PutCode(ctx, packed(t, "one"))
	if err != nil {
		t.Fatal(err)
	}
	runtime, none, age := "provided", 0, 60
	if _, err := c.CreateFunction(ctx, schema.FunctionInput{FunctionName: "f", Runtime: &runtime, Code: &schema.FunctionCode{Sha256: sum}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.EventConfig(ctx, "f"); schema.CodeOf(err) != schema.CodeNotFound {
		t.Errorf("nothing set: %v", err)
	}
	if _, err := c.PutEventConfig(ctx, schema.EventConfigInput{FunctionName: "f", MaximumRetryAttempts: &none}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.UpdateEventConfig(ctx, schema.EventConfigInput{FunctionName: "f", MaximumEventAgeInSeconds: &age}); err != nil {
		t.Fatal(err)
	}
	got, err := c.EventConfig(ctx, "f")
	if err != nil || got.MaximumRetryAttempts == nil || *got.MaximumRetryAttempts != 0 || got.MaximumEventAgeInSeconds == nil || *got.MaximumEventAgeInSeconds != 60 {
		t.Errorf("%+v, %v", got, err)
	}
	if err := c.DeleteEventConfig(ctx, "f"); err != nil {
		t.Error(err)
	}

	const letters = 1203 // more than one request may name, and than one does of all
	js := f.JetStream(t)
	ids := make([]string, 0, letters)
	for i := range letters {
		data, err := schema.Marshal(&schema.DeadLetter{V: schema.Version, Reason: schema.DeadRetriesExhausted, Event: schema.Event{
			V: schema.Version, ID: fmt.Sprint(i), Account: subjects.DefaultAccount, Function: "f", Payload: []byte("{}"),
		}})
		if err != nil {
			t.Fatal(err)
		}
		ack, err := js.Publish(ctx, f.Names.Dead(subjects.DefaultAccount, "f"), data)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, fmt.Sprint(ack.Sequence))
	}
	n := 0
	for item, err := range c.DeadLetters(ctx, "f") {
		if err != nil || item.ID != ids[n] {
			t.Fatalf("%d: %+v, %v", n, item, err)
		}
		n++
	}
	if n != letters {
		t.Errorf("%d of %d are listed", n, letters)
	}
	if one, err := c.DeadLetter(ctx, ids[7]); err != nil || one.ID != ids[7] {
		t.Errorf("%+v, %v", one, err)
	}
	if _, err := c.DeadLetter(ctx, "99999"); schema.CodeOf(err) != schema.CodeNotFound {
		t.Error(err)
	}
	if done, err := c.DeleteDeadLetters(ctx, schema.DeadLettersInput{Ids: append([]string{"99999"}, ids[:1001]...)}); err != nil || done.Done != 1001 || len(done.Missing) != 1 {
		t.Errorf("%+v, %v", done, err)
	}
	if done, err := c.RedriveDeadLetters(ctx, schema.DeadLettersInput{FunctionName: "f"}); err != nil || done.Done != letters-1001 {
		t.Errorf("%+v, %v", done, err)
	}
	out, err := c.Events(ctx, "f", "")
	if err != nil || out.Waiting != letters-1001 || out.DeadLetters != 0 || len(out.Events) != 50 || out.NextMarker == "" {
		t.Errorf("%+v, %v", out, err)
	}
	if _, err := c.RedriveDeadLetters(ctx, schema.DeadLettersInput{}); schema.CodeOf(err) != schema.CodeInvalidParameter {
		t.Errorf("none named: %v", err)
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := c.Send(canceled, client.Event{Function: "f"}); schema.CodeOf(err) != schema.CodeNoAnswer {
		t.Errorf("given up: %v", err)
	}
}
