// Package telemetry is the one place where spans and their attributes have names, and where they leave the process.
//
// A call crosses four borders, and each of them is a span; the context of one is the parent of the next, carried in the
// envelope as W3C trace context:
//
//	caller's span
//	  [SpanCall]    server    a frontend takes the call, until it is answered or refused; of an event's try: consumer
//	    [SpanPublish]  producer  its publication to an arc
//	      [SpanClaim]    consumer  a manager has it: late binding, environment, start line
//	        [SpanInit]     internal  of a cold start: the init of its environment
//	        [SpanInvoke]   client    a worker runs it in an environment, whose function gets this context
//
// What goes another way than most hangs where it happens. A claim that is handed over is the parent of the claim at the manager that
// takes it; a catcher that moves a call publishes the copy under its claim; each delivery that is given back is a claim of its own; an
// attempt that follows a lost one is a publication more under the same call.
//
//	caller's span
//	  [SpanAccept]  producer  an event is handed in by a door (who publishes by hand has his own span)
//	    [SpanCall]    consumer  its first try ...   linked to what published it
//	    [SpanCall]    consumer  its next try ...    linked to that and to the first try
//
// So all that comes of an event is one trace with one decision on sampling, as on Lambda, where each try sees the same trace id. A dead
// letter that is redriven is a new event under the same publisher, linked to the first try of the old one.
//
// Packages below the borders emit nothing: they return facts (a decision, a claim) and the border that called records them.
//
// Most fabrics have no exporter, and the warm path has no microsecond to give away: a nil [Telemetry], or one without an
// exporter, starts spans that are empty values. Starting, setting and ending them costs a branch and allocates nothing, and
// the context that came in is passed on as it is, so that a trace does not break at a fabric that records none. DESIGN 11.
package telemetry
