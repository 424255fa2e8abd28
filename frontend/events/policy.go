package events

import (
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
)

// next is what becomes of an event after a try.
type next uint8

const (
	done   next = iota + 1 // acknowledged
	retry                  // on RETRIES, due later
	failed                 // to its failure destination, or DEADLETTERS
)

// verdict is a decision on an event. Event is what goes on: with what this try added.
type verdict struct {
	next   next
	due    time.Time         // of a retry
	reason schema.DeadReason // of a failure
	to     string            // function that is told of the end, "" none (DEADLETTERS, of a failure)
	event  schema.Event
	answer *schema.Answer   // of a good end
	under  telemetry.Parent // the last try's span: what comes of the event's end goes back to it
}

// limits are what happens to a function's events, its own numbers or the defaults.
type limits struct {
	retries             int
	maxAge, delay       time.Duration
	onSuccess, onFailed string
	stopped             bool // its concurrency is 0
}

func limitsOf(fn *schema.FunctionRecord) limits {
	var c *schema.EventInvokeConfigRecord
	l := limits{}
	if fn != nil {
		c, l.stopped = fn.Event, fn.Concurrency != nil && *fn.Concurrency == 0
	}
	l.retries, l.maxAge, l.delay = c.Numbers()
	if c != nil {
		l.onSuccess, l.onFailed = c.OnSuccess, c.OnFailure
	}
	return l
}

// decide is the one place where it is decided what happens to an event after a try (DESIGN 4; Lambda C). It is pure.
//
//	answer                       done
//	function error, tries left   retry after the delay, then twice that; none left: RetriesExhausted
//	lost                         retry like a throttle: it may have run, and had no fair try
//	429, 5xx                     retry after 1 s, 2 s, 4 s ... 5 min; no try used
//	any other refusal            InvalidEvent: it cannot run as it is
//	a retry due past its age     EventAgeExceeded, at once: waiting would change nothing
func decide(e schema.Event, r Result, l limits, now time.Time) verdict {
	switch {
	case r.Err != nil:
		e.LastError = refusal(r.Err)
		if s := e.LastError.Status; s != 429 && s < 500 {
			return fail(e, schema.DeadInvalid, l)
		}
		return backOff(e, l, now)
	case r.Lost:
		return backOff(lost(e), l, now)
	}
	if r.Answer.Get(schema.HeaderPlatformError) == string(schema.CodeExecutionLost) {
		return backOff(lost(e), l, now) // its environment ended before it could begin: the platform says so, a function cannot
	}
	failure := functionError(r.Answer)
	e.Attempts, e.Throttles, e.LastError = e.Attempts+1, 0, failure
	switch {
	case failure == nil:
		return verdict{next: done, to: l.onSuccess, event: e, answer: r.Answer}
	case e.Attempts > l.retries:
		return fail(e, schema.DeadRetriesExhausted, l)
	default:
		return again(e, now.Add(l.delay<<(e.Attempts-1)), l)
	}
}

// hopeless is the decision on an event before a try: its function is stopped (Lambda C), or it is too old for one. The clock is that
// of the stream.
func hopeless(e schema.Event, l limits, now time.Time) (verdict, bool) {
	switch {
	case l.stopped:
		return fail(e, schema.DeadNoConcurrency, l), true
	case now.Sub(e.Accepted) > l.maxAge:
		return fail(e, schema.DeadEventAge, l), true
	}
	return verdict{}, false
}

func fail(e schema.Event, reason schema.DeadReason, l limits) verdict {
	return verdict{next: failed, reason: reason, to: l.onFailed, event: e}
}

func again(e schema.Event, due time.Time, l limits) verdict {
	if due.Sub(e.Accepted) > l.maxAge {
		return fail(e, schema.DeadEventAge, l)
	}
	return verdict{next: retry, due: due, event: e}
}

func backOff(e schema.Event, l limits, now time.Time) verdict {
	wait := schema.LastBackOff
	if e.Throttles < 16 { // beyond, the shift would be no number
		wait = min(wait, schema.FirstBackOff<<e.Throttles)
	}
	e.Throttles++
	return again(e, now.Add(wait), l)
}

func lost(e schema.Event) schema.Event {
	row := schema.CodeExecutionLost.Row()
	e.LastError = &schema.EventError{Code: string(row.Code), Message: "nobody can tell whether the last try ran", Status: row.Status}
	return e
}

// refusal is a try that did not start, as it is remembered.
func refusal(err error) *schema.EventError {
	code := schema.CodeOf(err)
	e := &schema.EventError{Code: string(code), Message: err.Error(), Status: code.Row().Status}
	if s := (*schema.Error)(nil); errors.As(err, &s) {
		e.Message = s.Message
	}
	return e
}

// maxErrorBody is how much of a function's error is kept with its event: what Lambda's queues take of a record.
const maxErrorBody = 256 << 10

// functionError is how a function failed, nil if it did not.
func functionError(a *schema.Answer) *schema.EventError {
	if a.Get(schema.HeaderFunctionError) == "" {
		return nil
	}
	var body struct{ ErrorType, ErrorMessage string }
	_ = json.Unmarshal(a.Payload, &body) // a function may fail with anything
	e := &schema.EventError{
		Code: cut(body.ErrorType), Message: cut(body.ErrorMessage), Status: 200, Version: a.Get(schema.HeaderExecutedVersion),
	}
	if e.Code == "" {
		e.Code = schema.FunctionErrorUnhandled
	}
	if len(a.Payload) <= maxErrorBody {
		e.Body = a.Payload
	}
	return e
}

// cut bounds what a function says of itself: what is listed beside its whole answer.
func cut(s string) string {
	const most = 1 << 10
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}
