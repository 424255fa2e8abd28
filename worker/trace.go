package worker

import (
	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
)

// invokeSpan begins the span at the last border: from the start line to the answer. Where nothing is exported it carries
// the caller's trace context on and allocates nothing.
func (w *Worker) invokeSpan(run *schema.Run) telemetry.Span {
	call := run.Call
	parent := telemetry.Parent{Traceparent: call.Traceparent, Tracestate: call.Tracestate}
	span := w.cfg.Telemetry.Start(parent, telemetry.SpanInvoke, telemetry.Client)
	if span.Recording() {
		span.Set(telemetry.Function.String(call.Function), telemetry.Version.String(call.Version), telemetry.RequestID.String(call.RequestID),
			telemetry.Account.String(call.Account), telemetry.Instance.String(run.Environment), telemetry.Cold.Bool(run.Start == schema.StartCold),
			telemetry.Start.String(string(run.Start)), telemetry.Arc.String(run.Arc), telemetry.Reason.String(string(call.Reason)),
			telemetry.Rank.Int(run.Rank), telemetry.Manager.String(run.Manager), telemetry.Attempt.Int(int(call.Attempt)))
		if call.Tenant != "" {
			span.String(telemetry.Tenant, call.Tenant)
		}
	}
	return span
}

// end ends the span of a call with its outcome. own says that a failure is told in our words: what a function says of its own is its
// caller's business, and its type stands here alone.
func (x *execution) end(o *schema.Outcome, own bool) {
	switch {
	case o.Error == nil || !x.span.Recording():
	case own:
		x.span.Fail(o.Error.Type, o.Error.Message)
	default:
		x.span.Fail(telemetry.ErrorName(o.Error.Type), "the function failed")
	}
	x.span.End()
}
