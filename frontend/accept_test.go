package frontend_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// events changes the stream of events, unless change is nil, and hears what is published to it.
func (b *bundle) events(t *testing.T, change func(*jetstream.StreamConfig)) *nats.Subscription {
	t.Helper()
	if change != nil {
		cfg := topology.Events(b.Names, subjects.DefaultAccount)
		change(&cfg)
		if _, err := b.JetStream(t).UpdateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	sub, err := b.caller.SubscribeSync(b.Names.EventsOf(subjects.DefaultAccount))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.caller.Flush(); err != nil {
		t.Fatal(err)
	}
	return sub
}

// The same id twice is one event; for another function, or another sub-tenant, it is another.
func TestEventIDsAreScoped(t *testing.T) {
	t.Parallel()
	tenants := record("tenants")
	tenants.PerTenant = true
	b := setup(t, settings{functions: []*schema.FunctionRecord{record("other"), tenants}})
	b.events(t, nil)
	accept := func(function, tenant, id string) schema.Accepted {
		t.Helper()
		got, err := b.f.Accept(t.Context(), &schema.Request{
			Account: subjects.DefaultAccount, Function: function, Tenant: tenant, TenantBySubject: tenant != "", Payload: []byte("{}"),
		}, id)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	first := accept("echo", "", "7")
	if first.Duplicate || first.RequestID == "" || first.Sequence == 0 {
		t.Errorf("first: %+v", first)
	}
	if again := accept("echo", "", "7"); !again.Duplicate || again.RequestID != "" || again.Sequence != first.Sequence {
		t.Errorf("again: %+v, first was %+v", again, first)
	}
	for _, c := range [][3]string{{"echo", "", ""}, {"other", "", "7"}, {"tenants", "a", "b/7"}, {"tenants", "a/b", "7"}, {"tenants", "a=2Fb", "7"}} {
		if got := accept(c[0], c[1], c[2]); got.Duplicate {
			t.Errorf("%q is a duplicate", c)
		}
	}
}

// What is not accepted is refused with its code, and said to be so.
func TestEventsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{http: true})
	published := b.events(t, func(c *jetstream.StreamConfig) { c.MaxBytes = 2048 })
	event := func(payload []byte, id string, change func(*schema.Request)) error {
		r := &schema.Request{Account: subjects.DefaultAccount, Function: "echo", Payload: payload}
		if change != nil {
			change(r)
		}
		_, err := b.f.Accept(t.Context(), r, id)
		return err
	}
	for _, c := range []struct {
		name string
		err  error
		code schema.Code
		says string
	}{
		{"too large", event(make([]byte, schema.MaxEventPayload+1), "", nil), schema.CodeTooLarge, "1048577 byte payload"},
		{"full", event(make([]byte, 4096), "", nil), schema.CodeCapacityExceeded, "hearth events"},
		{"unknown", event(nil, "", func(r *schema.Request) { r.Function = "nobody" }), schema.CodeNotFound, "nobody"},
		{"id too long", event(nil, strings.Repeat("x", 257), nil), schema.CodeInvalidParameter, schema.HeaderMsgID},
		{"id of two lines", event(nil, "a\r\nNats-Rollup: all", nil), schema.CodeInvalidParameter, schema.HeaderMsgID},
	} {
		if schema.CodeOf(c.err) != c.code || !strings.Contains(c.err.Error(), c.says) {
			t.Errorf("%s: %v, want %s with %q", c.name, c.err, c.code, c.says)
		}
	}
	headers := http.Header{"X-Amz-Invocation-Type": {"Event"}}
	if resp := b.post(t, echoPath, `"`+strings.Repeat("x", 4096)+`"`, headers); resp.StatusCode != 429 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("a full stream: %s, %s", resp.Status, bodyOf(t, resp))
	}
	if err := published.Unsubscribe(); err != nil { // whoever listens is taken for somebody who answers
		t.Fatal(err)
	}
	if err := b.JetStream(t).DeleteStream(t.Context(), b.Names.Events(subjects.DefaultAccount)); err != nil {
		t.Fatal(err)
	}
	if err := event([]byte("{}"), "", nil); schema.CodeOf(err) != schema.CodeUnavailable {
		t.Errorf("no stream: %v", err)
	}
	if resp := b.post(t, echoPath, "{}", headers); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("no stream: %s, %s", resp.Status, bodyOf(t, resp))
	}
	if !bytes.Contains([]byte(bodyOf(t, b.post(t, echoPath, "{}", headers))), []byte("stream of events")) {
		t.Error("it does not say what is missing")
	}
}
