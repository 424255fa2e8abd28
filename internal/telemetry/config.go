package telemetry

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
)

// Protocol is how spans travel, by its name in OTEL_EXPORTER_OTLP_PROTOCOL.
type Protocol string

// The protocols.
const (
	HTTP Protocol = "http/protobuf" // the default
	GRPC Protocol = "grpc"
)

// Config says where spans go. The zero value records none.
type Config struct {
	// Endpoint is the URL of an OTLP collector ("http://127.0.0.1:4318/v1/traces" over HTTP, "http://127.0.0.1:4317" over gRPC; http
	// is without TLS); "" with FromEnvironment leaves it to OTEL_EXPORTER_OTLP_ENDPOINT and its like, which the exporter reads itself.
	Endpoint string
	// Protocol "" means [HTTP].
	Protocol Protocol
	// FromEnvironment makes an exporter and a sampler that take their settings from the standard variables. cmd sets it where any of
	// them asks for traces.
	FromEnvironment bool
	// Exporter takes the spans instead, one by one as they end: for tests.
	Exporter trace.SpanExporter
	// Version of the build and Instance (the node's id), as attributes of the service "hearth".
	Version  string
	Instance string
}

// processor is where ended spans go; nil where nobody wants them.
func (cfg *Config) processor(ctx context.Context) (trace.SpanProcessor, error) {
	switch {
	case cfg.Exporter != nil:
		return trace.NewSimpleSpanProcessor(cfg.Exporter), nil
	case cfg.Endpoint == "" && !cfg.FromEnvironment:
		return nil, nil
	}
	exporter, err := cfg.exporter(ctx)
	if err != nil {
		return nil, fmt.Errorf("make the trace exporter (%s) for %q: %w", cfg.Protocol, cfg.Endpoint, err)
	}
	return trace.NewBatchSpanProcessor(exporter), nil
}

// exporter is OpenTelemetry's own. It connects by itself, some time.
func (cfg *Config) exporter(ctx context.Context) (trace.SpanExporter, error) {
	switch cfg.Protocol {
	case GRPC:
		var opts []otlptracegrpc.Option
		if cfg.Endpoint != "" {
			opts = append(opts, otlptracegrpc.WithEndpointURL(cfg.Endpoint))
		}
		return otlptracegrpc.New(ctx, opts...)
	case HTTP, "":
		var opts []otlptracehttp.Option
		if cfg.Endpoint != "" {
			opts = append(opts, otlptracehttp.WithEndpointURL(cfg.Endpoint))
		}
		return otlptracehttp.New(ctx, opts...)
	}
	return nil, fmt.Errorf("the protocol is %q; %s or %s", string(cfg.Protocol), GRPC, HTTP)
}

// resource says who sends.
func (cfg *Config) resource(ctx context.Context) (*resource.Resource, error) {
	attrs := []attribute.KeyValue{semconv.ServiceName("hearth")}
	if cfg.Version != "" {
		attrs = append(attrs, semconv.ServiceVersion(cfg.Version))
	}
	if cfg.Instance != "" {
		attrs = append(attrs, semconv.ServiceInstanceID(cfg.Instance))
	}
	res := resource.NewSchemaless(attrs...)
	if !cfg.FromEnvironment {
		return res, nil
	}
	env, err := resource.New(ctx, resource.WithFromEnv())
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, fmt.Errorf("read OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	if res, err = resource.Merge(res, env); err != nil {
		return nil, fmt.Errorf("merge OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	return res, nil
}

// What a span holds at most, whatever the variables allow: they may ask for less.
const (
	maxAttributes = 64
	maxEvents     = 32
	maxLinks      = 8
)

func limits(l trace.SpanLimits) trace.SpanLimits {
	bound := func(asked, most int) int {
		if asked < 0 || asked > most {
			return most
		}
		return asked
	}
	l.AttributeValueLengthLimit = bound(l.AttributeValueLengthLimit, maxText)
	l.AttributeCountLimit = bound(l.AttributeCountLimit, maxAttributes)
	l.EventCountLimit = bound(l.EventCountLimit, maxEvents)
	l.LinkCountLimit = bound(l.LinkCountLimit, maxLinks)
	return l
}
