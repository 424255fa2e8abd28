package client

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/schema"
)

// Longest waits for an answer where nobody says less: the longest function of Lambda's, and the usual start-by.
const (
	longestCall = schema.MaxTimeout + 10*time.Second
	grace       = 250 * time.Millisecond // for a refusal that comes at the very time-out

	// A request that nobody is there for is sent so often, with so much time between, before it is said.
	sendings  = 3
	sendAgain = 100 * time.Millisecond
)

// errEnded is the cause of requests whose connection has ended for good.
var errEnded = fmt.Errorf("%w while an answer was waited for", nats.ErrConnectionClosed)

// ErrNoAnswer is wrapped by the error of a call that got no answer in the caller's own time, whose code is
// [schema.CodeNoAnswer]: the call may still run.
var ErrNoAnswer = errors.New("no answer in time")

// Call is one call of a function. Function alone is required.
type Call struct {
	Account   string // "" means the client's
	Function  string
	Qualifier string // version or alias; "" means $LATEST
	Tenant    string // sub-tenant, for functions that have them
	Payload   []byte // JSON, by custom; at most [schema.MaxPayload]

	// Timeout is how long the caller waits; the fabric refuses a call that cannot start within it. 0 means until ctx ends,
	// and 15 minutes and 10 seconds where that says nothing.
	Timeout       time.Duration
	Log           bool   // have the last 4 KB of the log with the answer
	ClientContext []byte // a JSON object for the function's context
	RequestID     string // a UUID of version 4, lower case, to name the call by whatever happens; "": the frontend draws one
	Traceparent   string // W3C, the caller's span
	Tracestate    string
}

// Answer is what a function answered, and how the call went.
type Answer struct {
	Payload     []byte
	ContentType string
	RequestID   string
	Version     string // that ran
	Start       schema.Start
	Arc         string // "u.17"
	Reason      schema.Reason
	Rank        int
	Environment string
	Manager     string
	Tenant      string
	Attempt     int           // 1 for the first
	Duration    time.Duration // of the run
	Init        time.Duration // of the environment, where the call started it
	Log         []byte        // if Call.Log

	// FunctionError is set where the function failed; Payload is then Lambda's error object. Where the platform found the failure its Type
	// is the platform's code; else it is Posted, and in the function's words.
	FunctionError *schema.FunctionError
}

// Status is how a call ended, by the words of `hearth invoke --json`.
type Status string

// The states of answers. Refused calls have none: they are errors.
const (
	StatusOK            Status = "ok"
	StatusFunctionError Status = "function-error"
	StatusTimeout       Status = "timeout" // the function's own
	StatusLost          Status = "lost"    // it may have run, and nobody can tell
)

// Status tells the ends of an answered call apart.
func (a *Answer) Status() Status {
	if a.FunctionError == nil {
		return StatusOK
	}
	switch a.FunctionError.PlatformCode() { // not the Type: a function may call its errors anything
	case schema.CodeTimedOut:
		return StatusTimeout
	case schema.CodeExecutionLost:
		return StatusLost
	}
	return StatusFunctionError
}

// Invoke calls a function and waits for its answer. Errors are [*schema.Error]: the call was refused and did not start,
// or, if [ErrNoAnswer] is wrapped, its end is not known. A ctx that ends gives up waiting; the call goes on.
func (c *Client) Invoke(ctx context.Context, call Call) (*Answer, error) {
	m, err := c.message(ctx, &call)
	if err != nil {
		return nil, err
	}
	wait := longestCall
	if call.Timeout > 0 {
		wait = call.Timeout + grace
	}
	reply, err := c.request(ctx, m, wait)
	if err != nil {
		return nil, c.failure(ctx, err, "function "+call.Function, wait)
	}
	if err := refusal(reply); err != nil {
		return nil, err
	}
	return answerOf(reply)
}

// message is the request on the wire (DESIGN 9).
func (c *Client) message(ctx context.Context, call *Call) (*nats.Msg, error) {
	if call.Function == "" {
		return nil, schema.Invalid(schema.FieldError{Field: "Function", Allowed: "required"})
	}
	if len(call.Payload) > schema.MaxPayload {
		return nil, schema.Errorf(schema.CodeTooLarge, "Request must be smaller than %d bytes for the InvokeFunction operation", schema.MaxPayload)
	}
	account := call.Account
	if account == "" {
		account = c.account
	}
	m := &nats.Msg{Subject: c.names.Invoke(account, call.Function, call.Tenant), Data: call.Payload}
	set := func(name, value string) {
		if value == "" {
			return
		}
		if m.Header == nil {
			m.Header = make(nats.Header, 4)
		}
		m.Header[name] = []string{value}
	}
	set(schema.HeaderQualifier, call.Qualifier)
	set(schema.HeaderRequestID, call.RequestID)
	set(schema.HeaderTraceparent, call.Traceparent)
	set(schema.HeaderTracestate, call.Tracestate)
	if call.Log {
		set(schema.HeaderLog, "tail")
	}
	if budget := budgetOf(ctx, call.Timeout); budget > 0 {
		set(schema.HeaderTimeout, budget.String())
	}
	if len(call.ClientContext) > 0 {
		var text bytes.Buffer // one line, as headers are
		if err := json.Compact(&text, call.ClientContext); err != nil || text.Len() > schema.MaxClientContext {
			return nil, schema.Invalid(schema.FieldError{
				Field: "ClientContext", Allowed: fmt.Sprintf("JSON of at most %d bytes", schema.MaxClientContext),
			})
		}
		set(schema.HeaderClientContext, text.String())
	}
	return m, nil
}

// budgetOf is what the fabric is told of the caller's patience: a little less than the context has, so that its refusal
// comes in time; 0 where nobody said anything.
func budgetOf(ctx context.Context, timeout time.Duration) time.Duration {
	budget := timeout
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		left -= min(left/10, grace)
		if budget <= 0 || left < budget {
			budget = max(left, time.Millisecond)
		}
	}
	if budget <= 0 {
		return 0
	}
	return min(max(budget.Truncate(time.Millisecond), time.Millisecond), schema.MaxTimeout)
}

// request sends m and waits for its reply, at most so long.
func (c *Client) request(ctx context.Context, m *nats.Msg, wait time.Duration) (*nats.Msg, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > wait {
		defer time.AfterFunc(wait, func() { cancel(context.DeadlineExceeded) }).Stop() // one context less than with a deadline of its own
	}
	defer c.denied.watch(&waiter{subject: m.Subject, cancel: cancel})()
	open := !c.nc.IsClosed()
	reply, err := c.nc.RequestMsgWithContext(ctx, m)
	// Nobody has it, so it may be sent again. For a moment nobody listens where a server takes in new users, or the last
	// frontend is followed by another.
	for try := 1; try < sendings && errors.Is(err, nats.ErrNoResponders); try++ {
		pause := time.NewTimer(sendAgain)
		select {
		case <-pause.C:
			reply, err = c.nc.RequestMsgWithContext(ctx, m)
		case <-ctx.Done():
			pause.Stop()
			return nil, context.Cause(ctx)
		}
	}
	switch {
	case err != nil && ctx.Err() != nil:
		err = context.Cause(ctx)
	case open && errors.Is(err, nats.ErrConnectionClosed):
		err = fmt.Errorf("%w: %w", errEnded, err) // it may have been sent
	}
	return reply, err
}

// failure is the error of a request that got no reply.
func (c *Client) failure(ctx context.Context, err error, what string, wait time.Duration) error {
	var known *schema.Error
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, nats.ErrNoResponders):
		return &schema.Error{Code: schema.CodeUnavailable, Cause: err, Message: fmt.Sprintf(
			"%s: nobody serves fabric %q on %s: is one running? start it with `hearth up`, or name its server and prefix",
			what, c.names.Prefix(), c.nc.ConnectedUrlRedacted())}
	case errors.Is(err, nats.ErrMaxPayload):
		return &schema.Error{Code: schema.CodeTooLarge, Cause: err, Message: fmt.Sprintf(
			"%s: this NATS server carries messages of at most %d bytes", what, c.nc.MaxPayload())}
	case errors.Is(err, errEnded):
		return &schema.Error{Code: schema.CodeNoAnswer, Cause: fmt.Errorf("%w: %w", ErrNoAnswer, err), Message: what +
			": the connection to NATS ended before an answer came; it may still be done, so look before you repeat it"}
	case errors.Is(err, context.Canceled):
		return &schema.Error{Code: schema.CodeNoAnswer, Cause: fmt.Errorf("%w: %w", ErrNoAnswer, err), Message: what +
			": given up before an answer came; it may still be done"}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		patience := wait.String()
		if ctx.Err() != nil {
			patience = "the caller's time"
		}
		return &schema.Error{Code: schema.CodeNoAnswer, Cause: fmt.Errorf("%w: %w", ErrNoAnswer, err), Message: what +
			": no answer within " + patience + "; it may still be done, so look before you repeat it"}
	}
	return &schema.Error{Code: schema.CodeUnavailable, Cause: err, Message: fmt.Sprintf("%s: the connection to NATS failed: %v", what, err)}
}

// refusal is the error that a reply's headers tell, nil for an answer.
func refusal(m *nats.Msg) error {
	status := header(m, schema.HeaderErrorCode)
	if status == "" {
		return nil
	}
	err := schema.ParseErrorHeaders(status, header(m, schema.HeaderError))
	var body schema.APIError
	if len(m.Data) > 0 && json.Unmarshal(m.Data, &body) == nil {
		if full, ok := body.Err().(*schema.Error); ok {
			err = full
		}
	}
	// What is wrong with the request itself is all told; for the rest there is the call's story.
	if id := header(m, schema.HeaderRequestID); id != "" && err.Code.Row().Status >= http.StatusTooManyRequests {
		err.Message += " (request " + id + ")"
	}
	return err
}

func answerOf(m *nats.Msg) (*Answer, error) {
	a := &Answer{
		Payload: m.Data, ContentType: header(m, schema.HeaderContentType), RequestID: header(m, schema.HeaderRequestID),
		Version: header(m, schema.HeaderExecutedVersion), Start: schema.Start(header(m, schema.HeaderStart)),
		Arc: header(m, schema.HeaderArc), Reason: schema.Reason(header(m, schema.HeaderReason)),
		Environment: header(m, schema.HeaderEnvironment), Manager: header(m, schema.HeaderManager),
		Tenant: header(m, schema.HeaderTenant),
	}
	if a.RequestID == "" {
		return nil, schema.Errorf(schema.CodeInternal, "what answered on %s is not a fabric: it names no request", m.Subject)
	}
	// What is missing or malformed in these is shown as zero: the answer itself is not spoilt by it.
	a.Rank, _ = strconv.Atoi(header(m, schema.HeaderRank))
	a.Attempt, _ = strconv.Atoi(header(m, schema.HeaderAttempt))
	a.Duration, _ = time.ParseDuration(header(m, schema.HeaderDuration))
	a.Init, _ = time.ParseDuration(header(m, schema.HeaderInitDuration))
	if log := header(m, schema.HeaderLogResult); log != "" {
		a.Log, _ = base64.StdEncoding.DecodeString(log)
	}
	if header(m, schema.HeaderFunctionError) != "" {
		a.FunctionError = functionError(m)
	}
	return a, nil
}

// functionError reads Lambda's error object (A7); a function may answer with any other text. What the platform found stands in the
// answer's header.
func functionError(m *nats.Msg) *schema.FunctionError {
	var object struct {
		Type    string `json:"errorType"`
		Message string `json:"errorMessage"`
	}
	if json.Unmarshal(m.Data, &object) != nil {
		object.Type, object.Message = "", string(m.Data)
	}
	f := &schema.FunctionError{Type: object.Type, Message: object.Message, Body: m.Data, Posted: true}
	if code := header(m, schema.HeaderPlatformError); code != "" {
		f.Type, f.Posted = code, false
	}
	return f
}

// header is a header by its exact name, "" if it is not there.
func header(m *nats.Msg, name string) string {
	if v := m.Header[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}
