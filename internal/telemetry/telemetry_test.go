package telemetry_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/goleak"

	"github.com/hearth-run/hearth/internal/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	caller = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	trace  = "4bf92f3577b34da6a3ce929d0e0e4736"
)

func recorder(t *testing.T) (*telemetry.Telemetry, *tracetest.InMemoryExporter) {
	t.Helper()
	spans := tracetest.NewInMemoryExporter()
	tel, err := telemetry.New(t.Context(), telemetry.Config{Exporter: spans, Version: "1", Instance: "m1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tel.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return tel, spans
}

func TestOneCallIsOneTrace(t *testing.T) {
	t.Parallel()
	tel, spans := recorder(t)
	call := tel.Start(telemetry.Parent{Traceparent: caller, Tracestate: "vendor=1"}, telemetry.SpanCall, telemetry.Server,
		telemetry.Function.String("resize"))
	publish := tel.Start(call.Context(), telemetry.SpanPublish, telemetry.Producer)
	// The envelope carries two strings; on the other side they are a parent again.
	wire := publish.Context()
	claim := tel.Start(telemetry.Parent{Traceparent: wire.Traceparent, Tracestate: wire.Tracestate}, telemetry.SpanClaim, telemetry.Consumer)
	claim.Int(telemetry.Rank, 2)
	claim.String(telemetry.Arc, "u.17")
	claim.Bool(telemetry.Cold, true)
	invoke := tel.Start(claim.Context(), telemetry.SpanInvoke, telemetry.Client)
	invoke.Fail("Sandbox.Timedout", "after 3 s")
	ended := time.Now().Add(-time.Second)
	invoke.EndAt(ended)
	claim.End()
	publish.End()
	call.End()

	got := spans.GetSpans()
	if len(got) != 4 {
		t.Fatalf("%d spans, want 4", len(got))
	}
	parent := "00f067aa0ba902b7"
	for i, name := range []string{telemetry.SpanCall, telemetry.SpanPublish, telemetry.SpanClaim, telemetry.SpanInvoke} {
		s := got[3-i]
		if s.Name != name || s.SpanContext.TraceID().String() != trace || s.Parent.SpanID().String() != parent {
			t.Errorf("span %d: %s of %s under %s, want %s of %s under %s", i, s.Name, s.SpanContext.TraceID(), s.Parent.SpanID(),
				name, trace, parent)
		}
		if s.SpanContext.TraceState().Get("vendor") != "1" {
			t.Errorf("%s lost the trace state", name)
		}
		parent = s.SpanContext.SpanID().String()
	}
	if s := got[0]; s.Status.Code != codes.Error || s.Status.Description != "after 3 s" || !s.EndTime.Equal(ended) ||
		!has(s.Attributes, attribute.String("error.type", "Sandbox.Timedout")) {
		t.Errorf("invoke: %+v", s)
	}
	if s := got[1]; !has(s.Attributes, attribute.Int("hearth.rank", 2)) || !has(s.Attributes, attribute.String("hearth.arc", "u.17")) ||
		!has(s.Attributes, attribute.Bool("faas.coldstart", true)) {
		t.Errorf("claim: %v", s.Attributes)
	}
	if s := got[3]; !has(s.Attributes, attribute.String("faas.name", "resize")) {
		t.Errorf("call: %v", s.Attributes)
	}
	if r := got[0].Resource.String(); r != "service.instance.id=m1,service.name=hearth,service.version=1" {
		t.Errorf("resource %s", r)
	}
}

func has(all []attribute.KeyValue, want attribute.KeyValue) bool {
	for _, a := range all {
		if a == want {
			return true
		}
	}
	return false
}

func TestBadParentsStartATraceOfTheirOwn(t *testing.T) {
	t.Parallel()
	tel, spans := recorder(t)
	for _, bad := range []string{
		"", "garbage", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "ff" + caller[2:], caller + "-more",
		"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
	} {
		p := telemetry.Parent{Traceparent: bad}
		if p.Valid() {
			t.Errorf("%q is valid", bad)
		}
		spans.Reset()
		tel.Start(p, telemetry.SpanCall, telemetry.Server).End()
		if s := spans.GetSpans()[0]; s.Parent.IsValid() || s.SpanContext.TraceID().String() == trace {
			t.Errorf("%q is a parent", bad)
		}
	}
	if !(telemetry.Parent{Traceparent: caller}).Valid() {
		t.Error("a good parent is not valid")
	}
}

func TestUnsampledStaysUnsampled(t *testing.T) {
	t.Parallel()
	tel, spans := recorder(t)
	s := tel.Start(telemetry.Parent{Traceparent: caller[:len(caller)-2] + "00"}, telemetry.SpanCall, telemetry.Server)
	if next := s.Context().Traceparent; next[:35] != caller[:35] || next[53:] != "00" {
		t.Errorf("passes %s on", next)
	}
	s.End()
	if n := len(spans.GetSpans()); n != 0 {
		t.Errorf("%d spans recorded", n)
	}
}

func TestWithoutExporterTheContextPasses(t *testing.T) {
	t.Parallel()
	off, err := telemetry.New(t.Context(), telemetry.Config{Version: "1"})
	if err != nil {
		t.Fatal(err)
	}
	for name, tel := range map[string]*telemetry.Telemetry{"nil": nil, "no-op": telemetry.Noop(), "zero config": off} {
		if tel.Enabled() {
			t.Errorf("%s is enabled", name)
		}
		in := telemetry.Parent{Traceparent: caller, Tracestate: "vendor=1"}
		if out := tel.Start(in, telemetry.SpanCall, telemetry.Server).Context(); out != in {
			t.Errorf("%s passes %v on", name, out)
		}
		if err := tel.Shutdown(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWithoutExporterNothingIsAllocated(t *testing.T) {
	tel := telemetry.Noop()
	in := telemetry.Parent{Traceparent: caller}
	if n := testing.AllocsPerRun(1000, func() {
		s := tel.Start(in, telemetry.SpanClaim, telemetry.Consumer)
		s.String(telemetry.Arc, "u.17")
		s.Int(telemetry.Rank, 1)
		s.Bool(telemetry.Cold, true)
		s.Fail("code", "message")
		if s.Context().Traceparent == "" {
			t.Fatal("lost the context")
		}
		s.End()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestSpansReachACollector(t *testing.T) {
	t.Parallel()
	got := make(chan int, 16)
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path == "/v1/traces" {
			got <- len(body)
		}
	}))
	defer collector.Close()
	tel, err := telemetry.New(t.Context(), telemetry.Config{Endpoint: collector.URL + "/v1/traces"})
	if err != nil {
		t.Fatal(err)
	}
	tel.Start(telemetry.Parent{}, telemetry.SpanCall, telemetry.Server).End()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := tel.Shutdown(ctx); err != nil { // sends what waits
		t.Fatal(err)
	}
	if err := tel.Shutdown(ctx); err != nil {
		t.Errorf("second Shutdown: %v", err)
	}
	if n := <-got; n == 0 {
		t.Error("an empty batch")
	}
}
