package worker

import (
	"errors"
	"fmt"
	"time"

	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker/driver"
	"github.com/hearth-run/hearth/worker/runtimeapi"
)

// defaultTimeout is Lambda's, for a call whose envelope and binding name none.
const defaultTimeout = 3 * time.Second

// minReturn is the least time that an environment has between its answer and its request for the next call.
const minReturn = time.Second

// execution is one call in one environment, from its start to whoever ends it.
type execution struct {
	run     *schema.Run // nil: none
	started time.Time
	limit   time.Duration // its time-out
	span    telemetry.Span
}

// Start hands the call to its environment and returns when its bytes are on their way; see [Worker]. run is the worker's
// until run.Ended was called and the answer is out.
func (w *Worker) Start(run *schema.Run) {
	e := w.environment(run.Environment)
	if e == nil {
		w.lost(run)
		return
	}
	if !w.matches(run, e.binding) {
		e.mismatch(run)
		return
	}
	e.start(run)
}

// lost answers a call whose environment ended between the manager's choice and the start: it was not run, but its start
// line is crossed, so it goes nowhere else.
func (w *Worker) lost(run *schema.Run) {
	w.count.refused.Add(1)
	w.conclude(nil, execution{run: run}, &schema.Outcome{Error: lostError()})
}

func lostError() *schema.FunctionError {
	return &schema.FunctionError{Type: string(schema.CodeExecutionLost),
		Message: "The environment ended before the call could begin; it was not run"}
}

// start begins the call in this environment.
func (e *environment) start(run *schema.Run) {
	w, call := e.worker, run.Call
	limit := e.timeout(call)
	now := time.Now()
	x := execution{run: run, started: now, limit: limit, span: w.invokeSpan(run, e)}
	e.mu.Lock()
	first, fits := e.bind(call.Tenant)
	if !fits {
		e.mu.Unlock()
		x.span.Fail(string(schema.CodeBindingMismatch), "the environment is bound to another sub-tenant")
		x.span.End()
		e.mismatch(run)
		return
	}
	if first {
		e.mu.Unlock()
		e.becomesBound(run)
		e.mu.Lock()
	}
	if e.phase != ready || e.current.run != nil {
		e.mu.Unlock()
		x.span.Fail(string(schema.CodeExecutionLost), "the environment had ended")
		x.span.End()
		w.lost(run)
		return
	}
	e.current, e.deadline, e.since = x, now.Add(limit), now
	frozen := e.wakes()
	inline := e.inline
	if inline == nil {
		e.timer.Reset(limit)
	}
	e.mu.Unlock()
	w.count.started.Add(1)
	e.logs.begin(run, now)
	if inline != nil {
		e.answeredInline(inline.Invoke(call.Payload))
		return
	}
	// The deadline is by the wall clock: runtimes compute their remaining time from it. Nothing here waits by it.
	err := e.begin(frozen, &runtimeapi.Invocation{
		RequestID: call.RequestID, Deadline: now.Add(limit), Qualifier: call.Qualifier,
		TraceID: runtimeapi.TraceID(x.span.Context().Traceparent), ClientContext: call.ClientContext, Tenant: call.Tenant,
		Payload: call.Payload,
	})
	if err == nil {
		return
	}
	x, ok := e.take()
	if !ok {
		return
	}
	w.log.Warn("start a call", "environment", e.id, "request", call.RequestID, "error", err)
	w.count.refused.Add(1)
	o := &schema.Outcome{Error: lostError()}
	if errors.Is(err, runtimeapi.ErrHeader) {
		// The runtime was told nothing and still waits.
		o.Error = &schema.FunctionError{Type: string(schema.CodeInvalidParameter),
			Message: "The call's id, qualifier or tenant cannot be told to a runtime: printable ASCII is allowed"}
		o.Reusable = true
		e.mu.Lock()
		e.asked = true
		e.mu.Unlock()
	} else {
		e.kill()
	}
	w.conclude(e, x, o)
}

// begin hands a call to the runtime, thawed if need be.
func (e *environment) begin(frozen bool, call *runtimeapi.Invocation) error {
	if frozen {
		if err := e.thaw(); err != nil {
			return err
		}
	}
	return e.api.Start(call)
}

// timeout is the call's own, at most the function's.
func (e *environment) timeout(call *schema.Call) time.Duration {
	switch own := e.binding.Timeout; {
	case call.Timeout <= 0 && own <= 0:
		return defaultTimeout
	case call.Timeout <= 0, own > 0 && call.Timeout > own:
		return own
	}
	return call.Timeout
}

// take takes the call from the environment, if it has one: who gets it ends it.
func (e *environment) take() (execution, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	x := e.current
	e.current = execution{}
	if x.run != nil {
		e.ending = true
		e.timer.Stop()
	}
	return x, x.run != nil
}

// Answered is told by the Runtime API that the runtime answered its call.
func (e *environment) Answered(a *runtimeapi.Answer) {
	w := e.worker
	now := time.Now()
	e.logs.settle()
	e.mu.Lock()
	x := e.current
	if x.run == nil {
		e.mu.Unlock()
		return // timed out at this moment, or ended
	}
	e.current, e.ending, e.since = execution{}, true, now
	if e.asked = e.asked || a.Parked; e.asked {
		e.deadline = time.Time{}
		e.timer.Stop()
	} else {
		// Until it asks for the next call the time-out goes on; the caller waits no longer.
		if least := now.Add(minReturn); e.deadline.Before(least) {
			e.deadline = least
		}
		e.timer.Reset(e.deadline.Sub(now))
	}
	reusable := e.phase == ready && !a.Broken
	e.mu.Unlock()
	w.count.answered.Add(1)
	o := &schema.Outcome{Payload: a.Payload, ContentType: a.ContentType, Error: a.Error, Duration: now.Sub(x.started),
		Reusable: reusable}
	if a.Error != nil {
		w.count.functionErrors.Add(1)
	}
	if a.Broken {
		e.kill()
	}
	w.conclude(e, x, o)
}

// answeredInline ends a call of an environment that has no Runtime API. Parked is told after the answer: the manager may
// start the next call in it, and that one's answer, and so on.
func (e *environment) answeredInline(payload []byte) {
	w := e.worker
	e.mu.Lock()
	x := e.current
	e.current, e.ending = execution{}, x.run != nil
	reusable := e.phase == ready
	e.mu.Unlock()
	if x.run == nil {
		return
	}
	w.count.answered.Add(1)
	w.conclude(e, x, &schema.Outcome{Payload: payload, Duration: time.Since(x.started), Reusable: reusable})
	if reusable {
		e.Parked(false)
	}
}

// expired is the timer's: the call's time is over, or the time for the way back to the next one.
func (e *environment) expired() {
	w := e.worker
	now := time.Now()
	e.mu.Lock()
	x := e.current
	if e.deadline.IsZero() || now.Before(e.deadline) || e.phase == over {
		e.mu.Unlock()
		return // set anew while this was on its way
	}
	e.current, e.ending = execution{}, e.ending || x.run != nil // its last call may still be on its way to its manager
	e.deadline = time.Time{}
	e.phase = over
	e.mu.Unlock()
	e.kill()
	if x.run == nil {
		w.count.notReturned.Add(1)
		w.log.Warn("an environment answered and did not ask for the next call: it is killed", "environment", e.id,
			"function", e.binding.Function)
		return
	}
	w.count.timedOut.Add(1)
	w.conclude(e, x, &schema.Outcome{Duration: now.Sub(x.started), Error: &schema.FunctionError{
		Type:    string(schema.CodeTimedOut),
		Message: fmt.Sprintf("Task timed out after %.2f seconds", x.limit.Seconds()),
	}})
}

// exited answers the call that ran when the environment's processes ended.
func (e *environment) exited(exit driver.Exit) {
	x, ok := e.take()
	if !ok {
		return
	}
	e.worker.count.exited.Add(1)
	e.worker.conclude(e, x, &schema.Outcome{Duration: time.Since(x.started), Error: exitFailure(exit)})
}
