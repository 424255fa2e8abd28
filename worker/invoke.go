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
	switch {
	case e == nil:
		w.lost(execution{run: run, span: w.invokeSpan(run)})
	case !w.matches(run, e.binding):
		e.mismatch(execution{run: run, span: w.invokeSpan(run)})
	default:
		e.start(run)
	}
}

// lost answers a call whose environment ended between the manager's choice and the start: it was not run, but its start
// line is crossed, so it goes nowhere else.
func (w *Worker) lost(x execution) {
	w.count.refused.Add(1)
	w.conclude(nil, x, &schema.Outcome{Error: lostError()})
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
	x := execution{run: run, started: now, limit: limit, span: w.invokeSpan(run)}
	e.mu.Lock()
	first, fits := e.bind(call.Tenant)
	if !fits {
		e.mu.Unlock()
		e.mismatch(x)
		return
	}
	if first {
		e.mu.Unlock()
		e.becomesBound(run)
		e.mu.Lock()
	}
	if e.phase != ready || e.current.run != nil {
		e.mu.Unlock()
		w.lost(x)
		return
	}
	e.current, e.deadline, e.since = x, now.Add(limit), now
	frozen := e.wakes()
	inline := e.inline
	if inline == nil {
		e.timer.Reset(limit)
	}
	var token schema.Token
	var logged chan struct{} // not nil: somebody waits for the token, and for this to be closed
	if e.tokens != nil {
		var ok bool
		if token, ok = e.tokens.now(); !ok {
			logged = e.beginLater(x, frozen)
		}
	}
	e.mu.Unlock()
	w.count.started.Add(1)
	e.logs.begin(run, now)
	switch {
	case inline != nil:
		e.answeredInline(inline.Invoke(call.Payload))
	case logged != nil:
		close(logged)
	default:
		told := x.invocation()
		told.Token = token.Text
		if err := e.begin(frozen, &told); err != nil {
			e.notBegun(err)
		}
	}
}

// invocation is the call as its runtime is told it. The deadline is by the wall clock: runtimes compute their remaining time from
// it. Nothing here waits by it.
func (x *execution) invocation() runtimeapi.Invocation {
	call, under := x.run.Call, x.span.Context()
	return runtimeapi.Invocation{
		RequestID: call.RequestID, Deadline: x.started.Add(x.limit), Qualifier: call.Qualifier,
		Traceparent: under.Traceparent, Tracestate: under.Tracestate, ClientContext: call.ClientContext, Tenant: call.Tenant,
		Payload: call.Payload,
	}
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

// beginLater begins a call when the environment has a token, for whoever starts calls does not wait. The mutex is held. What it
// returns is to be closed when the call's log has begun.
func (e *environment) beginLater(x execution, frozen bool) (logged chan struct{}) {
	logged = make(chan struct{})
	e.tasks.Go(func() {
		<-logged
		told := x.invocation()
		var err error
		if told.Token, err = e.awaitToken(x.limit); err == nil {
			if !e.runs(&x) {
				return // it timed out, or the environment ended
			}
			err = e.begin(frozen, &told)
		} else if frozen {
			if thawed := e.thaw(); thawed != nil { // it waits for other calls then
				err = thawed
			}
		}
		if err != nil {
			e.notBegun(err)
		}
	})
	return logged
}

// runs reports whether the environment still has the call.
func (e *environment) runs(x *execution) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.phase == ready && e.current.run == x.run
}

// notBegun answers a call that its environment could not begin.
func (e *environment) notBegun(err error) {
	w := e.worker
	token := errors.Is(err, errNoToken)
	if token && e.life.Err() != nil {
		return // how the environment ended is what the caller is told
	}
	x, ok := e.take()
	if !ok {
		return
	}
	w.log.Warn("start a call", "environment", e.id, telemetry.LogCall(x.run.Call.RequestID, x.run.Call.Traceparent), "error", err)
	w.count.refused.Add(1)
	o := &schema.Outcome{Error: lostError()}
	switch {
	case token:
		w.count.tokenless.Add(1)
		o.Error = &schema.FunctionError{Type: string(schema.CodeNoToken),
			Message: "There is no token for the call's sub-tenant, so the function was not run: " + err.Error()}
	case errors.Is(err, runtimeapi.ErrHeader):
		o.Error = &schema.FunctionError{Type: string(schema.CodeInvalidParameter),
			Message: "The call's id, qualifier or tenant cannot be told to a runtime: printable ASCII is allowed"}
	default:
		e.kill()
		w.conclude(e, x, o)
		return
	}
	// The runtime was told nothing and still waits.
	o.Reusable = true
	e.mu.Lock()
	e.asked = true
	e.mu.Unlock()
	w.conclude(e, x, o)
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
