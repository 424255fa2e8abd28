package fleet

import (
	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
)

// traceLost records a run whose worker went away: that worker ends its span no more, if it began one.
func (f *Fleet) traceLost(run *schema.Run, why string) {
	if !f.cfg.Telemetry.Enabled() {
		return
	}
	parent := telemetry.Parent{Traceparent: run.Call.Traceparent, Tracestate: run.Call.Tracestate}
	s := f.cfg.Telemetry.Start(parent, telemetry.SpanInvoke, telemetry.Client)
	if s.Recording() {
		s.Set(telemetry.Function.String(run.Call.Function), telemetry.Version.String(run.Call.Version),
			telemetry.RequestID.String(run.Call.RequestID), telemetry.Instance.String(run.Environment), telemetry.Manager.String(run.Manager))
		s.Fail(string(schema.CodeExecutionLost), why)
	}
	s.End()
}
