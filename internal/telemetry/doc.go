// Package telemetry is the one place where spans and their attributes have names, and where they leave the process.
//
// A call crosses four borders, and each of them is a span; the context of one is the parent of the next, carried in the
// envelope as W3C trace context:
//
//	caller's span
//	  [SpanCall]    server    a frontend takes the call, until it is answered or refused
//	    [SpanPublish]  producer  its publication to an arc, until the stream has it
//	      [SpanClaim]    consumer  a manager has it: late binding, environment, start line
//	        [SpanInvoke]   client    a worker runs it in an environment, whose function gets this context
//
// Packages below the borders emit nothing: they return facts (a decision, a claim) and the border that called records them.
//
// Most fabrics have no exporter, and the warm path has no microsecond to give away: a nil [Telemetry], or one without an
// exporter, starts spans that are empty values. Starting, setting and ending them costs a branch and allocates nothing, and
// the context that came in is passed on as it is, so that a trace does not break at a fabric that records none. DESIGN 11.
package telemetry
