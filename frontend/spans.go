package frontend

import (
	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/attribute"

	"github.com/hearth-run/hearth/frontend/events"
	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// traceOf is the trace context that a caller sent, as it may be passed on: nothing if it is not well formed. Broken tracing breaks
// no call.
func traceOf(r *schema.Request) telemetry.Parent {
	return telemetry.Parent{Traceparent: r.Traceparent, Tracestate: r.Tracestate}.Checked()
}

// spanCall starts the span of a call that was admitted: from the door to its end, or to its refusal. t is the event's try that it
// runs, nil for sync calls. Where nothing is recorded it carries the caller's context on and costs nothing.
func (f *Frontend) spanCall(r *schema.Request, v *version, requestID string, http bool, t *events.Try) telemetry.Span {
	if !f.tel.Enabled() {
		return telemetry.Span{}
	}
	var s telemetry.Span
	if t != nil {
		s = f.spanTry(t)
	} else {
		s = f.spanDoor(r, http)
	}
	if s.Recording() {
		s.Set(telemetry.Version.String(v.record.Version), telemetry.RequestID.String(requestID))
	}
	return s
}

// spanDoor starts the span of a request.
func (f *Frontend) spanDoor(r *schema.Request, http bool) telemetry.Span {
	s := f.tel.Start(traceOf(r), telemetry.SpanCall, telemetry.Server)
	if s.Recording() {
		trigger := telemetry.TriggerOther
		if http {
			trigger = telemetry.TriggerHTTP
		}
		s.Set(telemetry.Trigger.String(trigger))
		f.about(s, r)
	}
	return s
}

// about sets what a request says.
func (f *Frontend) about(s telemetry.Span, r *schema.Request) {
	s.Set(telemetry.Frontend.String(f.id), telemetry.Account.String(short(r.Account)), telemetry.Invoked.String(short(r.Function)),
		telemetry.Qualifier.String(short(r.Qualifier)))
	if r.Tenant != "" {
		s.String(telemetry.Tenant, short(r.Tenant))
	}
}

// spanTry starts the span of one try of an event, under what published it, and linked to it and to the tries before. The try learns
// its context: what comes of it is linked to it in turn.
func (f *Frontend) spanTry(t *events.Try) telemetry.Span {
	e := t.Source
	s := f.tel.Start(traceOf(t.Request), telemetry.SpanCall, telemetry.Consumer)
	t.Span = s.Context()
	if !s.Recording() {
		return s
	}
	s.Link(telemetry.Parent{Traceparent: e.Traceparent, Tracestate: e.Tracestate}, telemetry.LinkPublisher)
	s.Link(telemetry.Parent{Traceparent: e.FirstTry}, telemetry.LinkFirstTry)
	s.Link(telemetry.Parent{Traceparent: e.DeadTry}, telemetry.LinkDeadLetter)
	byName := ""
	if e.BySubject {
		byName = e.Tenant
	}
	s.Set(telemetry.Trigger.String(telemetry.TriggerPubSub), telemetry.System.String(telemetry.SystemNATS),
		telemetry.Operation.String(telemetry.OperationProcess), telemetry.OperationOf.String(telemetry.OperationProcess),
		telemetry.Destination.String(f.names.Event(e.Account, e.Function, byName)), telemetry.MessageID.String(e.ID),
		telemetry.Conversation.String(e.RequestID), telemetry.MessageBytes.Int(len(e.Payload)),
		telemetry.Group.String(f.names.EventDurable(e.Account, e.Function)), telemetry.Try.Int(e.Attempts+1), telemetry.BackOffs.Int(e.Throttles))
	f.about(s, t.Request)
	return s
}

// spanAccept starts the span of an event that a door of this process hands in.
func (f *Frontend) spanAccept(r *schema.Request) telemetry.Span {
	s := f.tel.Start(traceOf(r), telemetry.SpanAccept, telemetry.Producer)
	if s.Recording() {
		s.Set(telemetry.Trigger.String(telemetry.TriggerHTTP), telemetry.System.String(telemetry.SystemNATS),
			telemetry.Operation.String(telemetry.OperationSend), telemetry.OperationOf.String(telemetry.OperationSend),
			telemetry.MessageBytes.Int(len(r.Payload)))
		f.about(s, r)
	}
	return s
}

// accepts ends the span of an event that was handed in, or refused.
func accepts(s telemetry.Span, a schema.Accepted, err error) {
	switch {
	case err != nil:
		s.Fail(string(schema.CodeOf(err)), err.Error())
	case s.Recording() && a.Duplicate:
		s.Bool(telemetry.Duplicate, true)
	case s.Recording():
		s.Set(telemetry.Conversation.String(a.RequestID), telemetry.Sequence.Int64(int64(a.Sequence)))
	}
	s.End()
}

// refused counts a request that was refused before it became a call, and records it.
func (f *Frontend) refused(r *schema.Request, err error, http bool) {
	f.noteRefusal(r, err)
	if r != nil {
		f.spanRefusal(r, err, http, nil)
	}
}

// noteRefusal is [Frontend.refused] for what has a span of its own.
func (f *Frontend) noteRefusal(r *schema.Request, err error) {
	f.countRefusal(r, err)
	f.storyRefused(r, err)
	f.showRefused(r, err)
}

// spanRefusal records a request, or an event's try, that was refused before it became a call.
func (f *Frontend) spanRefusal(r *schema.Request, err error, http bool, t *events.Try) {
	if !f.tel.Enabled() {
		return
	}
	var s telemetry.Span
	if t != nil {
		s = f.spanTry(t)
	} else {
		s = f.spanDoor(r, http)
	}
	s.Fail(string(schema.CodeOf(err)), err.Error())
	s.End()
}

// spanDecision records on a call's own span where it goes and why.
func (f *Frontend) spanDecision(c *call, d *Decision) {
	if c.span.Recording() {
		decide(c.span, c.arcName(), d)
	}
}

func decide(s telemetry.Span, arc string, d *Decision) {
	s.Set(telemetry.Arc.String(arc), telemetry.Reason.String(string(d.Reason)), telemetry.Limit.Int(d.L), telemetry.Members.Int(d.S),
		telemetry.Busy.Int(d.B), telemetry.InFlight.Int(d.C))
}

// tell records on a span that the call went to an unreserved arc after all.
func tell(s telemetry.Span, arc int, reason schema.Reason) {
	if s.Recording() {
		s.Set(telemetry.Arc.String(subjects.UnreservedName(arc)), telemetry.Reason.String(string(reason)))
	}
}

// spanPublish records the publication of one attempt, with the decision behind it, and puts its context into the envelope,
// under which the manager that claims it goes on.
func (f *Frontend) spanPublish(c *call, env *schema.Call, d *Decision, subject string) telemetry.Span {
	s := f.spanPublication(c, env, subject)
	if f.tel.Enabled() && c.again != nil && c.attempt == 1 { // nobody else knows the call yet
		c.again.Traceparent, c.again.Tracestate = env.Traceparent, env.Tracestate
	}
	if s.Recording() {
		decide(s, c.arcName(), d)
	}
	return s
}

// spanPublication is [Frontend.spanPublish] where nothing was decided: the reserved arc refused the call. An attempt that follows a
// lost one is linked to the first.
func (f *Frontend) spanPublication(c *call, env *schema.Call, subject string) telemetry.Span {
	if !f.tel.Enabled() {
		return telemetry.Span{}
	}
	s := f.tel.Start(c.span.Context(), telemetry.SpanPublish, telemetry.Producer)
	under := s.Context()
	env.Traceparent, env.Tracestate = under.Traceparent, under.Tracestate
	if c.again != nil && c.attempt > 1 {
		s.Link(telemetry.Parent{Traceparent: c.again.Traceparent, Tracestate: c.again.Tracestate}, telemetry.LinkFirstAttempt)
	}
	if !s.Recording() {
		return s
	}
	s.Set(telemetry.System.String(telemetry.SystemNATS), telemetry.Operation.String(telemetry.OperationSend),
		telemetry.OperationOf.String(telemetry.OperationSend), telemetry.Destination.String(subject),
		telemetry.Conversation.String(env.RequestID), telemetry.Attempt.Int(int(c.attempt)), telemetry.MessageBytes.Int(len(env.Payload)+env.Held),
		telemetry.Invoked.String(env.Function))
	if env.Tenant != "" {
		s.String(telemetry.Tenant, env.Tenant)
	}
	return s
}

// fail marks a call's span with why it did not end well, and ends it.
func (c *call) fail(code schema.Code, message string) {
	c.span.Fail(string(code), message)
	c.span.End()
}

// concluded ends a call's span with what its answer says, where that passes through this frontend; of any other the spans below
// tell. What a function says of its failure is its caller's business: its type stands here, and no word more.
func (c *call) concluded(m *nats.Msg) {
	defer c.span.End()
	if !c.span.Recording() {
		return
	}
	h := m.Header
	if text := h.Get(schema.HeaderError); text != "" {
		err := schema.ParseErrorHeaders(h.Get(schema.HeaderErrorCode), text)
		c.span.Fail(string(schema.CodeOf(err)), err.Error())
		return
	}
	for _, one := range [...]struct {
		key    attribute.Key
		header string
	}{{telemetry.Start, schema.HeaderStart}, {telemetry.Manager, schema.HeaderManager}, {telemetry.Instance, schema.HeaderEnvironment}} {
		if value := h.Get(one.header); value != "" {
			c.span.String(one.key, value)
		}
	}
	switch {
	case h.Get(schema.HeaderFunctionError) == "":
	case timedOut(m):
		c.span.Fail(string(schema.CodeTimedOut), "the function's time-out was over")
	default:
		c.span.Fail(failureOf(m), "the function failed")
	}
}
