package frontend_test

import (
	"maps"
	"testing"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/hearth-run/hearth/frontend"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// The frontend's two borders: a server span under the caller's, the publication under that, and the publication's
// context in the envelope, for the manager to go on with.
func TestSpans(t *testing.T) {
	t.Parallel()
	exporter := tracetest.NewInMemoryExporter()
	tel, err := telemetry.New(t.Context(), telemetry.Config{Exporter: exporter})
	if err != nil {
		t.Fatal(err)
	}
	b := setup(t, settings{config: func(c *frontend.Config) { c.Telemetry = tel }})
	claims := b.claimer(t, "echo")
	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	b.send(t, "echo", nats.Header{schema.HeaderTraceparent: {"00-" + trace + "-" + parent + "-01"}})
	c := claims.claim(t).ack(t)
	c.end(t)
	b.nothingInFlight(t)
	natstest.Eventually(t, patience, func() bool { return len(exporter.GetSpans()) == 2 }, "not two spans")
	spans := exporter.GetSpans()
	publish, call := spans[0], spans[1]
	if publish.Name == telemetry.SpanCall { // its end is heard on one inbox, the PubAck on another
		publish, call = call, publish
	}
	if publish.Name != telemetry.SpanPublish || call.Name != telemetry.SpanCall {
		t.Fatalf("spans %s, %s", publish.Name, call.Name)
	}
	if call.SpanContext.TraceID().String() != trace || call.Parent.SpanID().String() != parent {
		t.Errorf("the call's span %s is under %s", call.SpanContext.TraceID(), call.Parent.SpanID())
	}
	if publish.Parent.SpanID() != call.SpanContext.SpanID() {
		t.Errorf("the publication is under %s, want the call's %s", publish.Parent.SpanID(), call.SpanContext.SpanID())
	}
	if want := "00-" + trace + "-" + publish.SpanContext.SpanID().String() + "-01"; c.call.Traceparent != want {
		t.Errorf("envelope has %q, want %q", c.call.Traceparent, want)
	}
	found := map[string]string{}
	for _, a := range call.Attributes {
		found[string(a.Key)] = a.Value.String()
	}
	if found[string(telemetry.Reason)] != "unreserved" || found[string(telemetry.InFlight)] != "1" ||
		found[string(telemetry.RequestID)] != c.call.RequestID || found[string(telemetry.Arc)] != c.arc.ArcName() {
		t.Errorf("attributes %v", found)
	}

	// What is refused is seen too, with its code: at the door, and after it.
	exporter.Reset()
	b.request(t, "nobody", nil, nil)
	b.request(t, "echo", nil, nats.Header{schema.HeaderTimeout: {"20ms"}})
	natstest.Eventually(t, patience, func() bool { return len(exporter.GetSpans()) == 3 }, "not three spans")
	want := []string{string(schema.CodeNotFound), string(schema.CodeCapacityExceeded)}
	for _, s := range exporter.GetSpans() {
		if s.Name != telemetry.SpanCall {
			continue
		}
		found := map[string]string{}
		for _, a := range s.Attributes {
			found[string(a.Key)] = a.Value.String()
		}
		if s.Status.Code != codes.Error || len(want) == 0 || found[string(telemetry.Error)] != want[0] {
			t.Errorf("span %+v, want a failure with %v", s, want)
			continue
		}
		want = want[1:]
	}
}

// What was decided on stands on the span of the publication too, and where a moved call went on the call's.
func TestSpansOfReservedArcs(t *testing.T) {
	t.Parallel()
	exporter := tracetest.NewInMemoryExporter()
	tel, err := telemetry.New(t.Context(), telemetry.Config{Exporter: exporter})
	if err != nil {
		t.Fatal(err)
	}
	b := setup(t, settings{
		functions: []*schema.FunctionRecord{published("f")}, config: func(c *frontend.Config) { c.Telemetry = tel },
	})
	r := b.reserve(t, "f", 1)
	b.tells(t, "m2", r.arc(4, 3))
	members, unreserved := r.claimer(t), b.claimer(t, "f")
	b.send(t, "f", one())
	first := members.claim(t).ack(t)
	b.send(t, "f", one())
	moved := unreserved.move(t, members.claim(t))
	// Its PubAck comes before any end.
	moved.end(t)
	natstest.Eventually(t, patience, func() bool { return b.f.Counters().InFlight == 1 }, "the moved call does not end")
	first.end(t)
	b.nothingInFlight(t)
	natstest.Eventually(t, patience, func() bool { return len(exporter.GetSpans()) == 4 }, "not four spans")
	got := map[string][]map[string]string{}
	for _, s := range exporter.GetSpans() {
		found := map[string]string{}
		for _, a := range s.Attributes {
			found[string(a.Key)] = a.Value.String()
		}
		got[s.Name] = append(got[s.Name], found)
	}
	for i, want := range []map[string]string{
		{"hearth.arc": r.name(), "hearth.reason": "reserved", "hearth.limit": "1", "hearth.members": "4", "hearth.busy": "3", "hearth.in_flight": "1"},
		{"hearth.arc": r.name(), "hearth.reason": "spillover", "hearth.limit": "1", "hearth.members": "4", "hearth.busy": "3", "hearth.in_flight": "2"},
	} {
		for key, value := range want {
			if have := got[telemetry.SpanPublish][i][key]; have != value {
				t.Errorf("publication %d: %s is %q, want %q", i, key, have, value)
			}
		}
	}
	if s := got[telemetry.SpanCall][0]; s["hearth.reason"] != "overflow" || s["hearth.arc"] != moved.arc.ArcName() {
		t.Errorf("the moved call's span says %v", s)
	}
	if s := got[telemetry.SpanCall][1]; s["hearth.reason"] != "reserved" || s["hearth.arc"] != r.name() {
		t.Errorf("the reserved call's span says %v", s)
	}
}

// The sub-tenant stands on the call's span and on its publication's, and on none of a function without sub-tenants; a refusal names what its
// caller wrote.
func TestSpansNameTheSubTenant(t *testing.T) {
	t.Parallel()
	exporter := tracetest.NewInMemoryExporter()
	tel, err := telemetry.New(t.Context(), telemetry.Config{Exporter: exporter})
	if err != nil {
		t.Fatal(err)
	}
	shop := record("shop")
	shop.PerTenant = true
	b := setup(t, settings{functions: []*schema.FunctionRecord{shop}, config: func(c *frontend.Config) { c.Telemetry = tel }})
	tenants := func() map[string]string {
		found := map[string]string{}
		for _, s := range exporter.GetSpans() {
			is := attribute.NewSet(s.Attributes...)
			function, _ := is.Value(telemetry.Invoked)
			tenant, named := is.Value(telemetry.Tenant)
			if found[s.Name+" "+function.AsString()] = tenant.AsString(); !named {
				found[s.Name+" "+function.AsString()] = "(none)"
			}
		}
		return found
	}
	const acme = "acme/eu 1"
	number := subjects.UnreservedArc(subjects.DefaultAccount, "shop", acme, natstest.Arcs)
	for function, claims := range map[string]*claimer{
		"shop": b.claimerOf(t, b.Names.CallsOf(number), b.Names.UnreservedDurable(number)), "echo": b.claimer(t, "echo"),
	} {
		h := nats.Header{}
		if function == "shop" {
			h.Set(schema.HeaderTenant, acme)
		}
		b.send(t, function, h)
		claims.claim(t).ack(t).end(t)
		b.nothingInFlight(t)
	}
	b.request(t, "nobody", nil, nats.Header{schema.HeaderTenant: {"other"}})
	want := map[string]string{
		telemetry.SpanCall + " shop": acme, telemetry.SpanPublish + " shop": acme, telemetry.SpanCall + " echo": "(none)",
		telemetry.SpanPublish + " echo": "(none)", telemetry.SpanCall + " nobody": "other",
	}
	natstest.Eventually(t, patience, func() bool { return len(tenants()) == len(want) }, "not all spans end")
	if got := tenants(); !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// A broken trace context breaks no call, and goes nowhere.
func TestBrokenTraceContext(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{})
	claims := b.claimer(t, "echo")
	for _, broken := range []string{"x", "00-00000000000000000000000000000000-b7ad6b7169203331-01", "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"} {
		b.send(t, "echo", nats.Header{schema.HeaderTraceparent: {broken}, schema.HeaderTracestate: {"a=b"}})
		c := claims.claim(t).ack(t)
		if c.call.Traceparent != "" || c.call.Tracestate != "" {
			t.Errorf("%q became %q, %q", broken, c.call.Traceparent, c.call.Tracestate)
		}
		c.end(t)
	}
	b.nothingInFlight(t)
}
