package worker

import (
	"errors"

	"github.com/hearth-run/hearth/internal/answer"
	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
)

// Refuse answers a claimed call that no environment ran, for instance because its environment's init failed. The failure
// leaves as a function error: the call's start line is crossed or its failure certain, so nobody sends it again by itself.
func (w *Worker) Refuse(run *schema.Run, failure *schema.FunctionError) {
	if failure == nil {
		failure = &schema.FunctionError{Type: string(schema.CodeInitError), Message: "No environment could be made"}
	}
	w.count.refused.Add(1)
	w.conclude(nil, execution{run: run}, &schema.Outcome{Error: failure})
}

// conclude ends a call that the caller of conclude alone has: the manager offers the environment, hears that it waits for
// a call if it does, and then the answer goes out. e is nil for a call that ran nowhere.
func (w *Worker) conclude(e *environment, x execution, o *schema.Outcome) {
	run := x.run
	own := o.Error != nil && !o.Error.Posted
	if o.Error != nil && o.Error.Body == nil {
		// The failure of an init belongs to every call that waited for it: it is not ours to change.
		f := *o.Error
		f.Body = answer.ErrorBody(run.Call.RequestID, &f)
		o.Error = &f
	}
	w.countCall(e, run, o, own)
	if e != nil {
		// Whoever is told of it: an event's failure lies in dead letters, and a caller's may be that of a request with its headers.
		o.Error = e.logs.hushed(o.Error)
		o.LogTail = e.logs.finish(run, o, own)
	}
	if run.Ended != nil {
		run.Ended(run, o)
	}
	if e != nil {
		e.mu.Lock()
		e.ending = false
		e.told.Broadcast()
		e.mu.Unlock()
		e.returned()
	}
	w.answer(e, run, o)
	if e != nil {
		w.metrics.answered(&x, o)
	}
	x.end(o, own)
}

// answer publishes an answer with everything that the caller is told about it.
func (w *Worker) answer(e *environment, run *schema.Run, o *schema.Outcome) {
	switch err := answer.Publish(w.cfg.Publish, run, o, e != nil); {
	case errors.Is(err, answer.ErrNowhere):
		w.count.unanswered.Add(1)
		w.log.Warn("an answer has nowhere to go", telemetry.LogCall(run.Call.RequestID, run.Call.Traceparent), "reply", run.Call.Reply)
	case err != nil:
		w.count.unanswered.Add(1)
		w.log.Error("publish an answer", telemetry.LogCall(run.Call.RequestID, run.Call.Traceparent), "reply", run.Call.Reply, "error", err)
	}
	if run.Answered != nil {
		run.Answered(run)
	}
}
