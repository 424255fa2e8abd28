package telemetry_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

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
	in := telemetry.Parent{Traceparent: caller, Tracestate: "vendor=1"}
	headers := make([]byte, 0, 256)
	if n := testing.AllocsPerRun(1000, func() {
		// What a call that only passes through needs of its context: is it one, and what does the function see of it?
		if in.Checked() != in {
			t.Fatal("not a good context")
		}
		headers = telemetry.AppendXRayOf(telemetry.AppendXRay(headers[:0], in.Traceparent), "8476a536-e9f4-11e8-9739-2dfe598c3fcd")
		if len(headers) == 0 {
			t.Fatal("no headers")
		}
		s := tel.Start(in, telemetry.SpanClaim, telemetry.Consumer)
		s.String(telemetry.Arc, "u.17")
		s.Int(telemetry.Rank, 1)
		s.Bool(telemetry.Cold, true)
		s.Event(telemetry.EventUnpromised, telemetry.To, "m2")
		s.Link(in, telemetry.LinkPublisher)
		s.Fail("code", "message")
		if s.Context().Traceparent == "" {
			t.Fatal("lost the context")
		}
		s.End()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestSpansReachACollector sends a span by each protocol to a receiver of the standard's own kind.
func TestSpansReachACollector(t *testing.T) {
	t.Parallel()
	for protocol, start := range map[telemetry.Protocol]func(*testing.T, chan<- string) string{telemetry.HTTP: overHTTP, telemetry.GRPC: overGRPC, "": overHTTP} {
		t.Run(string(protocol), func(t *testing.T) {
			t.Parallel()
			got := make(chan string, 16)
			tel, err := telemetry.New(t.Context(), telemetry.Config{Endpoint: start(t, got), Protocol: protocol})
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
			if name := <-got; name != telemetry.SpanCall {
				t.Errorf("span %q came", name)
			}
		})
	}
	if _, err := telemetry.New(t.Context(), telemetry.Config{Endpoint: "http://127.0.0.1:1", Protocol: "http/json"}); err == nil {
		t.Error("a protocol that is none is taken")
	}
}

func overHTTP(t *testing.T, got chan<- string) string {
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var batch collector.ExportTraceServiceRequest
		if r.URL.Path == "/v1/traces" && proto.Unmarshal(body, &batch) == nil {
			got <- batch.ResourceSpans[0].ScopeSpans[0].Spans[0].Name
		}
	}))
	t.Cleanup(s.Close)
	return s.URL + "/v1/traces"
}

func overGRPC(t *testing.T, got chan<- string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	collector.RegisterTraceServiceServer(s, receiver{got: got})
	served := make(chan struct{})
	go func() { // ends with Stop
		defer close(served)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() { s.Stop(); <-served })
	return "http://" + l.Addr().String()
}

type receiver struct {
	collector.UnimplementedTraceServiceServer
	got chan<- string
}

func (r receiver) Export(_ context.Context, batch *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	r.got <- batch.ResourceSpans[0].ScopeSpans[0].Spans[0].Name
	return &collector.ExportTraceServiceResponse{}, nil
}
