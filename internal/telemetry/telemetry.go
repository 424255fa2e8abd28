package telemetry

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	api "go.opentelemetry.io/otel/trace"
)

// Config says where spans go. The zero value records none.
type Config struct {
	// Endpoint is the URL of an OTLP collector over HTTP ("http://127.0.0.1:4318"); "" with FromEnvironment leaves it to
	// OTEL_EXPORTER_OTLP_ENDPOINT and its like, which the exporter reads itself.
	Endpoint string
	// FromEnvironment makes an exporter that takes its settings from the standard variables. cmd sets it where any of them
	// is there.
	FromEnvironment bool
	// Exporter takes the spans instead, one by one as they end: for tests.
	Exporter trace.SpanExporter
	// Version of the build and Instance (the node's id), as attributes of the service "hearth".
	Version  string
	Instance string
}

// Telemetry starts spans. A nil one records nothing. It is safe for concurrent use.
type Telemetry struct {
	provider *trace.TracerProvider // nil: no exporter
	tracer   api.Tracer
}

// Noop is a Telemetry that records nothing.
func Noop() *Telemetry { return &Telemetry{} }

// New makes a Telemetry; without an endpoint, variables or an exporter it is [Noop]. Spans that ended are sent in batches in
// the background; a collector that is not there costs nothing but a line in OpenTelemetry's own error log. [Telemetry.Shutdown]
// ends it.
func New(ctx context.Context, cfg Config) (*Telemetry, error) {
	var processor trace.SpanProcessor
	switch {
	case cfg.Exporter != nil:
		processor = trace.NewSimpleSpanProcessor(cfg.Exporter)
	case cfg.Endpoint != "" || cfg.FromEnvironment:
		var opts []otlptracehttp.Option
		if cfg.Endpoint != "" {
			opts = append(opts, otlptracehttp.WithEndpointURL(cfg.Endpoint))
		}
		exporter, err := otlptracehttp.New(ctx, opts...)
		if err != nil {
			return nil, fmt.Errorf("make the trace exporter for %q: %w", cfg.Endpoint, err)
		}
		processor = trace.NewBatchSpanProcessor(exporter)
	default:
		return Noop(), nil
	}
	attrs := []attribute.KeyValue{semconv.ServiceName("hearth")}
	if cfg.Version != "" {
		attrs = append(attrs, semconv.ServiceVersion(cfg.Version))
	}
	if cfg.Instance != "" {
		attrs = append(attrs, semconv.ServiceInstanceID(cfg.Instance))
	}
	res := resource.NewSchemaless(attrs...)
	if cfg.FromEnvironment {
		env, err := resource.New(ctx, resource.WithFromEnv())
		if err != nil && !errors.Is(err, resource.ErrPartialResource) {
			return nil, fmt.Errorf("read OTEL_RESOURCE_ATTRIBUTES: %w", err)
		}
		if res, err = resource.Merge(res, env); err != nil {
			return nil, fmt.Errorf("merge OTEL_RESOURCE_ATTRIBUTES: %w", err)
		}
	}
	provider := trace.NewTracerProvider(trace.WithSpanProcessor(processor), trace.WithResource(res))
	return &Telemetry{
		provider: provider,
		tracer:   provider.Tracer("github.com/hearth-run/hearth", api.WithInstrumentationVersion(cfg.Version)),
	}, nil
}

// Enabled reports whether spans go anywhere. What it costs to find an attribute's value is worth asking first.
func (t *Telemetry) Enabled() bool { return t != nil && t.provider != nil }

// Start starts a span of one of the names of this package under a parent, which may be empty: then it is a root. The span
// must be ended. Where nothing is recorded it carries the parent's context on, and nothing is allocated.
func (t *Telemetry) Start(parent Parent, name string, kind api.SpanKind, attrs ...attribute.KeyValue) Span {
	if !t.Enabled() {
		return Span{parent: parent}
	}
	ctx := context.Background()
	if remote := parent.context(); remote.IsValid() {
		ctx = api.ContextWithRemoteSpanContext(ctx, remote)
	}
	_, span := t.tracer.Start(ctx, name, api.WithSpanKind(kind), api.WithAttributes(attrs...))
	return Span{parent: parent, span: span}
}

// Shutdown sends what is waiting, until ctx ends. Spans that end later are lost. Safe twice and on nil.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	if !t.Enabled() {
		return nil
	}
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("send the last spans: %w", err)
	}
	return nil
}
