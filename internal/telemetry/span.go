package telemetry

import (
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	api "go.opentelemetry.io/otel/trace"
)

// Kinds of the spans.
const (
	Server   = api.SpanKindServer
	Producer = api.SpanKindProducer
	Consumer = api.SpanKindConsumer
	Client   = api.SpanKindClient
	Internal = api.SpanKindInternal
)

// Span is one piece of work. It is a small value; the zero value records nothing. Like those of OpenTelemetry, a span is
// safe for concurrent use, and changes after its end are lost.
type Span struct {
	parent Parent
	span   api.Span // nil: not recorded
}

// Recording reports whether attributes go anywhere: what they cost to find is worth asking first.
func (s Span) Recording() bool { return s.span != nil && s.span.IsRecording() }

// Set sets attributes. The slice of its arguments is made before it is asked whether they go anywhere, so calls of it on the path of
// a call stand behind [Span.Recording].
func (s Span) Set(attrs ...attribute.KeyValue) {
	if s.Recording() {
		s.span.SetAttributes(clean(attrs)...)
	}
}

// String sets an attribute.
func (s Span) String(key attribute.Key, value string) {
	if s.Recording() {
		s.span.SetAttributes(key.String(text(value)))
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

// Event notes a moment, with an attribute beside it where key is not "".
func (s Span) Event(name string, key attribute.Key, value string) {
	switch {
	case !s.Recording():
	case key == "":
		s.span.AddEvent(name)
	default:
		s.span.AddEvent(name, api.WithAttributes(key.String(text(value))))
	}
}

// Link says that the span goes back to another one, which need not be of its trace, and how ([LinkPublisher] and its like). What is
// not valid is no link.
func (s Span) Link(to Parent, how string) {
	if !s.Recording() {
		return
	}
	if c := to.context(); c.IsValid() {
		s.span.AddLink(api.Link{SpanContext: c, Attributes: []attribute.KeyValue{LinkKind.String(text(how))}})
	}
}

// Fail marks the span as failed with an error's code, the same that callers see, and a message for people. What a function says of
// itself is its caller's business and no message: see [ErrorName].
func (s Span) Fail(code, message string) {
	if s.Recording() {
		s.span.SetAttributes(Error.String(text(code)))
		s.span.SetStatus(codes.Error, text(message))
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
