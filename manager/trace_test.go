package manager_test

import (
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/manager"
	"github.com/hearth-run/hearth/schema"
)

// tracing is a change of a node's configuration by which its spans come here.
func tracing(t *testing.T) (func(*manager.Config, *echoWorker), *tracetest.InMemoryExporter) {
	t.Helper()
	spans := tracetest.NewInMemoryExporter()
	tel, err := telemetry.New(t.Context(), telemetry.Config{Exporter: spans})
	if err != nil {
		t.Fatal(err)
	}
	return func(c *manager.Config, _ *echoWorker) { c.Telemetry = tel }, spans
}

// handOverIsSeen: the claim that was handed over names to whom, and is the parent of the claim there.
func handOverIsSeen(t *testing.T, spans *tracetest.InMemoryExporter, request, to string) {
	t.Helper()
	claims := make(map[string]tracetest.SpanStub)
	natstest.Eventually(t, patience, func() bool {
		for _, s := range spans.GetSpans() {
			is := attribute.NewSet(s.Attributes...)
			id, _ := is.Value(telemetry.RequestID)
			outcome, _ := is.Value(telemetry.Outcome)
			if id.AsString() == request {
				claims[outcome.AsString()] = s
			}
		}
		return len(claims) >= 2
	}, "both claims are recorded")
	here, there := claims[telemetry.OutcomeHandedOver], claims[telemetry.OutcomeStarted]
	is, was := attribute.NewSet(there.Attributes...), attribute.NewSet(here.Attributes...)
	if v, _ := was.Value(telemetry.To); v.AsString() != to {
		t.Errorf("handed over to %q, want %q", v.AsString(), to)
	}
	if v, _ := is.Value(telemetry.Handed); !v.AsBool() {
		t.Error("the claim that starts does not say that it was handed over")
	}
	if there.Parent.SpanID() != here.SpanContext.SpanID() || there.SpanContext.TraceID() != here.SpanContext.TraceID() {
		t.Errorf("the claim that starts is under %s, want %s", there.Parent.SpanID(), here.SpanContext.SpanID())
	}
}

// A claim is a span under the frontend's, and the parent of what the worker records.
func TestClaimSpan(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	tel, spans := tracing(t)
	var passedOn string
	startNode(t, f, f.Connect(t), "m1", tel, func(_ *manager.Config, w *echoWorker) {
		w.run = func(run *schema.Run) { passedOn = run.Call.Traceparent }
	})
	c := newCaller(t, f, "f1")
	key := c.deploy("resize", func(rec *schema.FunctionRecord) { rec.PerTenant = true })
	key.Tenant = "acme"
	a := c.listen()
	call := c.call("resize", key, a.inbox)
	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	call.Traceparent = "00-" + trace + "-" + parent + "-01"
	c.publish(call)
	a.want(1)
	got := spans.GetSpans()
	if len(got) != 2 {
		t.Fatalf("%d spans, want the init's and the claim's", len(got))
	}
	init, s := got[0], got[1]
	if init.Name != telemetry.SpanInit || init.Parent.SpanID() != s.SpanContext.SpanID() || init.EndTime.Before(init.StartTime) {
		t.Errorf("span %s under %s, from %v to %v", init.Name, init.Parent.SpanID(), init.StartTime, init.EndTime)
	}
	if s.Name != telemetry.SpanClaim || s.SpanContext.TraceID().String() != trace || s.Parent.SpanID().String() != parent {
		t.Errorf("span %s of trace %s under %s", s.Name, s.SpanContext.TraceID(), s.Parent.SpanID())
	}
	if want := "00-" + trace + "-" + s.SpanContext.SpanID().String() + "-01"; passedOn != want {
		t.Errorf("the worker got %q, want %q", passedOn, want)
	}
	is := attribute.NewSet(s.Attributes...)
	for key, want := range map[attribute.Key]string{
		telemetry.Start: string(schema.StartCold), telemetry.Manager: "m1", telemetry.RequestID: call.RequestID,
		telemetry.Invoked: "resize", telemetry.Tenant: "acme",
	} {
		if v, ok := is.Value(key); !ok || v.AsString() != want {
			t.Errorf("attribute %s is %q, want %q", key, v.AsString(), want)
		}
	}
}
