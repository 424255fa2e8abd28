package frontend

import (
	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// maxTracestate is how much of a tracestate W3C asks everybody to carry.
const maxTracestate = 512

// traceOf is the trace context that a caller sent, if it is well formed. Any other is dropped: broken tracing breaks no
// call.
func traceOf(r *schema.Request) telemetry.Parent {
	p := telemetry.Parent{Traceparent: r.Traceparent, Tracestate: r.Tracestate}
	if len(p.Tracestate) > maxTracestate {
		p.Tracestate = ""
	}
	if p.Traceparent == "" || !p.Valid() {
		return telemetry.Parent{}
	}
	return p
}

// spanCall starts the span of a call that was admitted: from the door to its end, or to its refusal. Where nothing is
// recorded it carries the caller's context on and costs nothing.
func (f *Frontend) spanCall(r *schema.Request, v *version, requestID string, http bool) telemetry.Span {
	if !f.tel.Enabled() {
		return telemetry.Span{}
	}
	s := f.spanDoor(r, http)
	s.String(telemetry.Version, v.record.Version)
	s.String(telemetry.RequestID, requestID)
	return s
}

// spanDoor starts the span of a request.
func (f *Frontend) spanDoor(r *schema.Request, http bool) telemetry.Span {
	trigger := telemetry.TriggerOther
	if http {
		trigger = telemetry.TriggerHTTP
	}
	s := f.tel.Start(traceOf(r), telemetry.SpanCall, telemetry.Server,
		telemetry.Frontend.String(f.id), telemetry.Trigger.String(trigger), telemetry.Account.String(short(r.Account)),
		telemetry.Invoked.String(short(r.Function)), telemetry.Qualifier.String(short(r.Qualifier)))
	if r.Tenant != "" {
		s.String(telemetry.Tenant, short(r.Tenant))
	}
	return s
}

// refused counts a request that was refused before it became a call, and records it.
func (f *Frontend) refused(r *schema.Request, err error, http bool) {
	f.countRefusal(r, err)
	f.storyRefused(r, err)
	f.showRefused(r, err)
	if r == nil || !f.tel.Enabled() {
		return
	}
	s := f.spanDoor(r, http)
	s.Fail(string(schema.CodeOf(err)), err.Error())
	s.End()
}

// spanDecision records on a call's own span where it goes and why.
func (f *Frontend) spanDecision(c *call, d Decision) {
	if f.tel.Enabled() {
		decide(c.span, c.arcName(), &d)
	}
}

func decide(s telemetry.Span, arc string, d *Decision) {
	s.String(telemetry.Arc, arc)
	s.String(telemetry.Reason, string(d.Reason))
	s.Int(telemetry.Limit, d.L)
	s.Int(telemetry.Members, d.S)
	s.Int(telemetry.Busy, d.B)
	s.Int(telemetry.InFlight, d.C)
}

// tell records on a call's span that it went to an unreserved arc after all.
func tell(s telemetry.Span, arc int, reason schema.Reason) {
	if s.Recording() {
		s.String(telemetry.Arc, subjects.UnreservedName(arc))
		s.String(telemetry.Reason, string(reason))
	}
}

// spanPublish records the publication of one attempt, with the decision behind it, and puts its context into the envelope,
// under which the manager that claims it goes on.
func (f *Frontend) spanPublish(c *call, env *schema.Call, d *Decision, subject string) telemetry.Span {
	if !f.tel.Enabled() {
		return telemetry.Span{}
	}
	s := f.spanPublication(c, env, subject)
	decide(s, c.arcName(), d)
	return s
}

// spanPublication is [Frontend.spanPublish] where nothing was decided: the reserved arc refused the call.
func (f *Frontend) spanPublication(c *call, env *schema.Call, subject string) telemetry.Span {
	if !f.tel.Enabled() {
		return telemetry.Span{}
	}
	s := f.tel.Start(c.span.Context(), telemetry.SpanPublish, telemetry.Producer,
		telemetry.System.String(telemetry.SystemNATS), telemetry.OperationOf.String(telemetry.OperationSend),
		telemetry.Destination.String(subject), telemetry.Attempt.Int(int(c.attempt)),
		telemetry.MessageBytes.Int(len(env.Payload)+env.Held))
	under := s.Context()
	env.Traceparent, env.Tracestate = under.Traceparent, under.Tracestate
	return s
}

// fail marks a call's span with why it did not end well, and ends it.
func (c *call) fail(code schema.Code, message string) {
	c.span.Fail(string(code), message)
	c.span.End()
}
