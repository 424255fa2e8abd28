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

// A claim is a span under the frontend's, and the parent of what the worker records.
func TestClaimSpan(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	spans := tracetest.NewInMemoryExporter()
	tel, err := telemetry.New(t.Context(), telemetry.Config{Exporter: spans})
	if err != nil {
		t.Fatal(err)
	}
	var passedOn string
	startNode(t, f, f.Connect(t), "m1", func(c *manager.Config, w *echoWorker) {
		c.Telemetry = tel
		w.run = func(run *schema.Run) { passedOn = run.Call.Traceparent }
	})
	c := newCaller(t, f, "f1")
	key := c.deploy("resize")
	a := c.listen()
	call := c.call("resize", key, a.inbox)
	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	call.Traceparent = "00-" + trace + "-" + parent + "-01"
	c.publish(call)
	a.want(1)
	got := spans.GetSpans()
	if len(got) != 1 {
		t.Fatalf("%d spans, want the claim's", len(got))
	}
	s := got[0]
	if s.Name != telemetry.SpanClaim || s.SpanContext.TraceID().String() != trace || s.Parent.SpanID().String() != parent {
		t.Errorf("span %s of trace %s under %s", s.Name, s.SpanContext.TraceID(), s.Parent.SpanID())
	}
	if want := "00-" + trace + "-" + s.SpanContext.SpanID().String() + "-01"; passedOn != want {
		t.Errorf("the worker got %q, want %q", passedOn, want)
	}
	is := attribute.NewSet(s.Attributes...)
	for key, want := range map[attribute.Key]string{
		telemetry.Start: string(schema.StartCold), telemetry.Manager: "m1", telemetry.RequestID: call.RequestID,
		telemetry.Invoked: "resize",
	} {
		if v, ok := is.Value(key); !ok || v.AsString() != want {
			t.Errorf("attribute %s is %q, want %q", key, v.AsString(), want)
		}
	}
}
