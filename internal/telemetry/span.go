package telemetry

import (
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	api "go.opentelemetry.io/otel/trace"
)

// Kinds of the spans at the four borders.
const (
	Server   = api.SpanKindServer
	Producer = api.SpanKindProducer
	Consumer = api.SpanKindConsumer
	Client   = api.SpanKindClient
)

// Span is one piece of work. It is a small value; the zero value records nothing. Like those of OpenTelemetry, a span is
// safe for concurrent use, and changes after its end are lost.
type Span struct {
	parent Parent
	span   api.Span // nil: not recorded
}

// Recording reports whether attributes go anywhere.
func (s Span) Recording() bool { return s.span != nil && s.span.IsRecording() }

// String sets an attribute.
func (s Span) String(key attribute.Key, value string) {
	if s.Recording() {
		s.span.SetAttributes(key.String(value))
	}
}

// Int sets an attribute.
func (s Span) Int(key attribute.Key, value int) {
	if s.Recording() {
		s.span.SetAttributes(key.Int(value))
	}
}

// Bool sets an attribute.
func (s Span) Bool(key attribute.Key, value bool) {
	if s.Recording() {
		s.span.SetAttributes(key.Bool(value))
	}
}

// Fail marks the span as failed with an error's code, the same that callers see, and a message for people.
func (s Span) Fail(code, message string) {
	if s.Recording() {
		s.span.SetAttributes(Error.String(code))
		s.span.SetStatus(codes.Error, message)
	}
}

// End ends the span.
func (s Span) End() {
	if s.span != nil {
		s.span.End()
	}
}

// EndAt ends the span at a moment that is past.
func (s Span) EndAt(at time.Time) {
	if s.span != nil {
		s.span.End(api.WithTimestamp(at))
	}
}

// Context is what the next border starts its span under: this span, or its parent where none is recorded.
func (s Span) Context() Parent {
	if s.span == nil {
		return s.parent
	}
	return parentOf(s.span.SpanContext())
}
