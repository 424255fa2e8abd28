package frontend

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/frontend/console"
	"github.com/hearth-run/hearth/internal/story"
	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
)

// refuse answers a call that certainly did not start. The caller has taken it out of the pending calls.
func (f *Frontend) refuse(c *call, err error) {
	if e, ok := err.(*schema.Error); ok {
		e.Message = "function " + c.name() + ": " + e.Message
	}
	f.counters.refuse(err)
	c.how = howRefused(err)
	f.metrics.refused.Count(c.version.function.Account, c.version.function.Name, schema.CodeOf(err))
	c.settle()
	c.story.Add(story.Refused(c.publication(), err))
	c.fail(schema.CodeOf(err), err.Error())
	if c.waiter != nil {
		c.waiter(ended{err: err})
		return
	}
	if c.reply == "" {
		return // its caller has gone
	}
	f.send(&nats.Msg{Subject: c.reply, Header: refusal(err, c.requestID)})
}

// lose ends a call that may have run and of which nobody tells any more. An idempotent function's call is published
// again while its caller waits; any other is answered as a function error, never as something that clients send again
// by themselves (DESIGN 3).
func (f *Frontend) lose(c *call) {
	if c.waiter == nil && c.reply == "" {
		f.counters.untold.Add(1)
		c.story.Add(story.Untold(c.publication()))
		c.settle()
		c.span.End()
		return // answered already, or its caller has gone: only the notice of its end got lost
	}
	if f.again(c) {
		return
	}
	f.counters.lost.Add(1)
	c.story.Add(story.Lost(c.publication()))
	c.how = how{outcome: console.OutcomeLost, code: string(schema.CodeExecutionLost), manager: c.manager}
	f.metrics.refused.Count(c.version.function.Account, c.version.function.Name, schema.CodeExecutionLost)
	c.settle()
	f.log.Warn("call lost", c.logged(), "function", c.name(), "arc", c.arcName(), "attempt", c.attempt)
	c.fail(schema.CodeExecutionLost, lostText)
	m := &nats.Msg{Subject: c.reply, Header: lostHeader(c), Data: lostBody(c.requestID, lostText)}
	if c.waiter != nil {
		c.waiter(ended{answer: m, lost: true})
		return
	}
	f.send(m)
}

const lostText = "the manager that had taken the call is gone and nobody can tell whether it ran"

// lostBody is Lambda's error object for a lost execution (Lambda A7, B3).
func lostBody(requestID, why string) []byte {
	body, _ := json.Marshal(struct { // strings only: cannot fail
		Type    string `json:"errorType"`
		Message string `json:"errorMessage"`
	}{string(schema.CodeExecutionLost), "RequestId: " + requestID + " Error: " + why})
	return body
}

// lostHeader is what this frontend knows of a call, as a worker would have said it.
func lostHeader(c *call) nats.Header {
	h := nats.Header{
		schema.HeaderRequestID:       {c.requestID},
		schema.HeaderFunctionError:   {schema.FunctionErrorUnhandled},
		schema.HeaderPlatformError:   {string(schema.CodeExecutionLost)},
		schema.HeaderExecutedVersion: {c.version.record.Version},
		schema.HeaderContentType:     {"application/json"},
		schema.HeaderArc:             {c.arcName()},
		schema.HeaderReason:          {string(c.reason)},
		schema.HeaderAttempt:         {strconv.FormatUint(uint64(c.attempt), 10)},
	}
	if c.tenant != "" {
		h[schema.HeaderTenant] = []string{c.tenant}
	}
	return h
}

// again publishes the next attempt of a lost call of an idempotent function, and reports whether it did.
func (f *Frontend) again(c *call) bool {
	left := time.Until(c.giveUp)
	if c.again == nil || left < slotTime {
		return false
	}
	fabric := f.view.fabric.Load()
	next := &call{
		version: c.version, tenant: c.tenant, requestID: c.requestID, attempt: c.attempt + 1, reply: c.reply,
		startBy: min(fabric.StartBy, left), repeats: c.repeats, payload: c.payload, again: c.again, giveUp: c.giveUp, waiter: c.waiter,
		span: c.span, story: c.story, feed: c.feed,
	}
	next.token, _ = f.random.draw()
	env := *c.again
	env.Token, env.Attempt, env.StartBy = next.token, next.attempt, next.startBy
	if c.waiter != nil {
		env.Reply = tokenSubject(f.answerInbox, next.token)
	}
	if err := f.launch(next, &env, fabric); err != nil {
		f.log.Info("lost call of an idempotent function not published again", c.logged(), "error", err)
		return false
	}
	f.counters.again.Add(1)
	return true
}

// send publishes an answer. What NATS does not take cannot be told to the caller either; it is logged.
func (f *Frontend) send(m *nats.Msg) {
	if err := f.nc.PublishMsg(m); err != nil {
		f.log.Warn("answer not sent", telemetry.LogCall(m.Header.Get(schema.HeaderRequestID), ""), "error", err)
	}
}

// refusal is the header of a refused call: a micro error, and the request id where there is one.
func refusal(err error, requestID string) nats.Header {
	status, text := schema.ErrorHeaders(err)
	h := nats.Header{schema.HeaderErrorCode: {status}, schema.HeaderError: {text}}
	if requestID != "" {
		h[schema.HeaderRequestID] = []string{requestID}
	}
	return h
}

// name is the function and qualifier of a call, for messages.
func (c *call) name() string { return c.version.function.Name + ":" + c.version.record.Version }
