package runtimeapi

import "github.com/hearth-run/hearth/internal/telemetry"

// appendTrace appends the headers of a call's trace: W3C's, and X-Ray's with the same digits, which is what Lambda's runtimes know and
// put into _X_AMZN_TRACE_ID. A call of no trace has X-Ray's alone, made of its request id. It allocates nothing.
func appendTrace(dst []byte, call *Invocation) []byte {
	const header = "\r\nLambda-Runtime-Trace-Id: "
	trace := telemetry.Parent{Traceparent: call.Traceparent, Tracestate: call.Tracestate}.Checked()
	if trace.Traceparent == "" {
		before := len(dst)
		dst = append(dst, header...)
		if named := telemetry.AppendXRayOf(dst, call.RequestID); len(named) > len(dst) {
			return named
		}
		return dst[:before]
	}
	dst = append(dst, header...)
	dst = telemetry.AppendXRay(dst, trace.Traceparent)
	dst = append(dst, "\r\ntraceparent: "...)
	dst = append(dst, trace.Traceparent...)
	if trace.Tracestate != "" {
		dst = append(dst, "\r\ntracestate: "...)
		dst = append(dst, trace.Tracestate...)
	}
	return dst
}
