package worker

import (
	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
)

// invokeSpan begins the span at the last border: from the start line to the answer. Where nothing is exported it carries
// the caller's trace context on and allocates nothing.
func (w *Worker) invokeSpan(run *schema.Run, e *environment) telemetry.Span {
	call := run.Call
	parent := telemetry.Parent{Traceparent: call.Traceparent, Tracestate: call.Tracestate}
	span := w.cfg.Telemetry.Start(parent, telemetry.SpanInvoke, telemetry.Client)
	if span.Recording() {
		span.String(telemetry.Function, call.Function)
		span.String(telemetry.Version, call.Version)
		span.String(telemetry.RequestID, call.RequestID)
		span.String(telemetry.Instance, e.id)
		span.Bool(telemetry.Cold, run.Start == schema.StartCold)
		span.String(telemetry.Start, string(run.Start))
		span.String(telemetry.Arc, run.Arc)
		span.String(telemetry.Reason, string(call.Reason))
		span.Int(telemetry.Rank, run.Rank)
		span.String(telemetry.Manager, run.Manager)
	}
	return span
}

// end ends the span of a call with its outcome.
func (x *execution) end(o *schema.Outcome) {
	if o.Error != nil {
		x.span.Fail(o.Error.Type, o.Error.Message)
	}
	x.span.End()
}
