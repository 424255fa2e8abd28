package telemetry

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/trace"
	api "go.opentelemetry.io/otel/trace"
)

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
	processor, err := cfg.processor(ctx)
	if err != nil {
		return nil, err
	}
	if processor == nil {
		return Noop(), nil
	}
	res, err := cfg.resource(ctx)
	if err != nil {
		return nil, err
	}
	opts := []trace.TracerProviderOption{
		trace.WithSpanProcessor(processor), trace.WithResource(res), trace.WithRawSpanLimits(limits(trace.NewSpanLimits())),
	}
	if !cfg.FromEnvironment { // with it the provider takes the sampler from OTEL_TRACES_SAMPLER; this is its default
		opts = append(opts, trace.WithSampler(trace.ParentBased(trace.AlwaysSample())))
	}
	provider := trace.NewTracerProvider(opts...)
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
	return t.start(parent, name, api.WithSpanKind(kind), api.WithAttributes(clean(attrs)...))
}

// StartAt is [Telemetry.Start] of what began a while ago.
func (t *Telemetry) StartAt(began time.Time, parent Parent, name string, kind api.SpanKind) Span {
	if !t.Enabled() {
		return Span{parent: parent}
	}
	return t.start(parent, name, api.WithSpanKind(kind), api.WithTimestamp(began))
}

func (t *Telemetry) start(parent Parent, name string, opts ...api.SpanStartOption) Span {
	ctx := context.Background()
	if remote := parent.context(); remote.IsValid() {
		ctx = api.ContextWithRemoteSpanContext(ctx, remote)
	}
	_, span := t.tracer.Start(ctx, name, opts...)
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
