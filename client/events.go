package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/google/uuid"

	"github.com/hearth-run/hearth/schema"
)

// acceptPatience bounds the wait for the confirmation of an event where ctx does not.
const acceptPatience = 10 * time.Second

// Event is one event for a function: it runs some time, at least once, and nobody waits for its answer.
type Event struct {
	Account   string // "" means the client's
	Function  string
	Qualifier string // version or alias; "" means $LATEST
	Tenant    string // sub-tenant, for functions that have them
	Payload   []byte // JSON, by custom; at most [schema.MaxEventPayload]

	// ID makes it one event however often it is sent within the stream's window (2 minutes), of this function and sub-tenant. ""
	// is none: sent twice, it runs twice.
	ID            string
	ClientContext []byte // a JSON object for the function's context
	RequestID     string // a UUID of version 4, lower case, under which it runs; "": drawn here
	Traceparent   string // W3C, the caller's span
	Tracestate    string
}

// Send hands an event in and returns when the fabric's stream has it: it is not lost from then on, whatever dies. It is not
// checked by anybody before it is accepted; one for a function, version or sub-tenant that is not there becomes a dead letter.
//
// Errors are [*schema.Error]: [schema.CodeCapacityExceeded] where the stream is full, [schema.CodeUnavailable] where there is
// none, [schema.CodeTooLarge]; it was not accepted then. If [ErrNoAnswer] is wrapped, it may have been: send it again under
// the same ID.
func (c *Client) Send(ctx context.Context, event Event) (schema.Accepted, error) {
	if len(event.Payload) > schema.MaxEventPayload {
		return schema.Accepted{}, schema.EventTooLarge(len(event.Payload))
	}
	call := Call{
		Account: event.Account, Function: event.Function, Qualifier: event.Qualifier, Tenant: event.Tenant, Payload: event.Payload,
		ClientContext: event.ClientContext, RequestID: event.RequestID, Traceparent: event.Traceparent, Tracestate: event.Tracestate,
	}
	if call.RequestID == "" {
		call.RequestID = uuid.NewString()
	}
	m, err := c.message(context.WithoutCancel(ctx), &call) // whose deadline bounds the acceptance, not the run
	if err != nil {
		return schema.Accepted{}, err
	}
	id, err := schema.ScopeMsgID(event.Function, event.Tenant, event.ID)
	if err != nil {
		return schema.Accepted{}, err
	}
	if id != "" {
		m.Header[schema.HeaderMsgID] = []string{id}
	}
	account := event.Account
	if account == "" {
		account = c.account
	}
	m.Subject = c.names.Event(account, event.Function, event.Tenant)
	reply, err := c.request(ctx, m, acceptPatience)
	if err != nil {
		return schema.Accepted{}, c.failure(ctx, err, "event of function "+event.Function, acceptPatience)
	}
	accepted, err := schema.ReadAccepted(reply.Data)
	if err == nil && !accepted.Duplicate {
		accepted.RequestID = call.RequestID
	}
	return accepted, err
}

// PutEventConfig sets what happens to the events of a function; what in leaves out is as if it had never been set.
func (c *Client) PutEventConfig(ctx context.Context, in schema.EventConfigInput) (*schema.EventConfigOutput, error) {
	return typed[schema.EventConfigOutput](ctx, c, c.account, "PutFunctionEventInvokeConfig", in)
}

// UpdateEventConfig changes the members that in has. [schema.CodeNotFound]: nothing was set yet, or there is no such function.
func (c *Client) UpdateEventConfig(ctx context.Context, in schema.EventConfigInput) (*schema.EventConfigOutput, error) {
	return typed[schema.EventConfigOutput](ctx, c, c.account, "UpdateFunctionEventInvokeConfig", in)
}

// EventConfig is what was set. [schema.CodeNotFound]: nothing was, so the defaults hold, or there is no such function.
func (c *Client) EventConfig(ctx context.Context, function string) (*schema.EventConfigOutput, error) {
	return typed[schema.EventConfigOutput](ctx, c, c.account, "GetFunctionEventInvokeConfig", schema.EventConfigInput{FunctionName: function})
}

// DeleteEventConfig has the defaults hold again.
func (c *Client) DeleteEventConfig(ctx context.Context, function string) error {
	return c.do(ctx, c.account, "DeleteFunctionEventInvokeConfig", schema.EventConfigInput{FunctionName: function}, nil)
}

// Events counts the events of a function and has a page of those that wait; the marker of the page before is "" at first.
func (c *Client) Events(ctx context.Context, function, marker string) (*schema.EventsOutput, error) {
	return typed[schema.EventsOutput](ctx, c, c.account, "ListEvents", schema.EventsInput{FunctionName: function, Marker: marker})
}

// DeadLetters are the events that will not be tried again, oldest first: of a function, or of all if it is "". An error ends
// the sequence.
func (c *Client) DeadLetters(ctx context.Context, function string) iter.Seq2[schema.DeadLetterItem, error] {
	return pages(func(marker string) ([]schema.DeadLetterItem, string, error) {
		out, err := typed[schema.DeadLettersOutput](ctx, c, c.account, "ListDeadLetters", schema.EventsInput{FunctionName: function, Marker: marker})
		if err != nil {
			return nil, "", err
		}
		return out.DeadLetters, out.NextMarker, nil
	})
}

// DeadLetter is one of them. [schema.CodeNotFound]: it is not there.
func (c *Client) DeadLetter(ctx context.Context, id string) (*schema.DeadLetterItem, error) {
	out, err := typed[schema.DeadLettersOutput](ctx, c, c.account, "ListDeadLetters", schema.EventsInput{Ids: []string{id}})
	if err != nil {
		return nil, err
	}
	if len(out.DeadLetters) == 0 {
		return nil, &schema.Error{Code: schema.CodeNotFound, Cause: errNoLetter, Message: fmt.Sprintf(
			"there is no dead letter %s; `hearth deadletters ls` lists what there is", id)}
	}
	return &out.DeadLetters[0], nil
}

var errNoLetter = errors.New("it was redriven or removed, or never was")

// RedriveDeadLetters hands dead letters in again as events, and DeleteDeadLetters deletes them: those that in names, or all
// that are there now. What was done stays done when an error comes back with it.
func (c *Client) RedriveDeadLetters(ctx context.Context, in schema.DeadLettersInput) (*schema.DeadLettersDone, error) {
	return c.takeLetters(ctx, "RedriveDeadLetters", in)
}

// DeleteDeadLetters deletes dead letters; see [Client.RedriveDeadLetters].
func (c *Client) DeleteDeadLetters(ctx context.Context, in schema.DeadLettersInput) (*schema.DeadLettersDone, error) {
	return c.takeLetters(ctx, "DeleteDeadLetters", in)
}

// takeLetters asks as often as it takes: one request names a bounded number of them.
func (c *Client) takeLetters(ctx context.Context, operation string, in schema.DeadLettersInput) (*schema.DeadLettersDone, error) {
	done := &schema.DeadLettersDone{}
	ids := in.Ids
	for {
		if len(ids) > 0 {
			in.Ids = ids[:min(len(ids), schema.MaxDeadLetters)]
			ids = ids[len(in.Ids):]
		}
		out, err := typed[schema.DeadLettersDone](ctx, c, c.account, operation, in)
		if err != nil {
			return done, err
		}
		done.Done += out.Done
		done.Missing, done.Failed = append(done.Missing, out.Missing...), append(done.Failed, out.Failed...)
		if in.Marker = out.NextMarker; in.Marker == "" && len(ids) == 0 {
			return done, nil
		}
	}
}
