package telemetry

import (
	"context"

	"go.opentelemetry.io/otel/propagation"
	api "go.opentelemetry.io/otel/trace"
)

// Parent is the W3C trace context under which a span starts: the two headers as they crossed the wire. The zero value is
// none.
type Parent struct {
	Traceparent string
	Tracestate  string
}

// The names of the headers in the W3C recommendation.
const (
	traceparent = "traceparent"
	tracestate  = "tracestate"
)

// Get, Set and Keys make a Parent what OpenTelemetry's propagators read and write.
func (p *Parent) Get(key string) string {
	switch key {
	case traceparent:
		return p.Traceparent
	case tracestate:
		return p.Tracestate
	}
	return ""
}

// Set sets one of the two headers.
func (p *Parent) Set(key, value string) {
	switch key {
	case traceparent:
		p.Traceparent = value
	case tracestate:
		p.Tracestate = value
	}
}

// Keys are the names of the two headers.
func (p *Parent) Keys() []string { return []string{traceparent, tracestate} }

var _ propagation.TextMapCarrier = (*Parent)(nil)

// Valid reports whether p is a context that W3C's rules accept. Anything else starts a trace of its own.
func (p Parent) Valid() bool { return p.context().IsValid() }

func (p Parent) context() api.SpanContext {
	if p.Traceparent == "" {
		return api.SpanContext{}
	}
	return api.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), &p))
}

func parentOf(c api.SpanContext) Parent {
	var p Parent
	propagation.TraceContext{}.Inject(api.ContextWithSpanContext(context.Background(), c), &p)
	return p
}
