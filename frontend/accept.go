package frontend

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/schema"
)

// acceptTime bounds the wait for the PubAck of an event: a stream on a disk that hangs must not hold its callers for ever.
const acceptTime = 5 * time.Second

// Check is the admission of a call or event that is not run: nil says that it would be taken.
func (f *Frontend) Check(ctx context.Context, r *schema.Request) error {
	f.counters.calls.Add(1)
	_, err := f.find(ctx, r)
	if err != nil {
		f.identify(r)
		f.refused(r, err, true)
	}
	return err
}

// Accept hands an event in for a door in this process: it is checked as a call is, so that who asks here hears at once what
// callers that publish by hand find among the dead letters, and published as their events are. The PubAck of the stream is
// the acceptance (DESIGN 4). An id that the stream has seen within its window, of this function and sub-tenant, is not taken
// again. Errors are [schema.Error]s of events that were not accepted, but for [schema.CodeNoAnswer]: there nobody can tell.
func (f *Frontend) Accept(ctx context.Context, r *schema.Request, id string) (schema.Accepted, error) {
	f.counters.calls.Add(1)
	span := f.spanAccept(r)
	if f.tel.Enabled() { // the event carries what published it
		under := span.Context()
		r.Traceparent, r.Tracestate = under.Traceparent, under.Tracestate
	}
	accepted, err := f.accept(ctx, r, id)
	if err != nil {
		f.identify(r)
		f.noteRefusal(r, err)
	}
	accepts(span, accepted, err)
	return accepted, err
}

func (f *Frontend) accept(ctx context.Context, r *schema.Request, id string) (schema.Accepted, error) {
	if len(r.Payload) > schema.MaxEventPayload {
		return schema.Accepted{}, schema.EventTooLarge(len(r.Payload))
	}
	if _, err := f.find(ctx, r); err != nil {
		return schema.Accepted{}, err
	}
	scoped, err := schema.ScopeMsgID(r.Function, r.Tenant, id)
	if err != nil {
		return schema.Accepted{}, err
	}
	switch {
	case f.stopping.Load():
		return schema.Accepted{}, shuttingDown()
	case !f.clock.connected(): // published now, it would wait in the client's buffer and its acceptance with it
		return schema.Accepted{}, &schema.Error{Code: schema.CodeUnavailable, Message: "this frontend has lost its NATS server"}
	}
	m, request := f.event(r, scoped)
	ctx, cancel := context.WithTimeout(ctx, acceptTime)
	defer cancel()
	reply, err := f.nc.RequestMsgWithContext(ctx, m)
	if err != nil {
		return schema.Accepted{}, f.notAccepted(err)
	}
	accepted, err := schema.ReadAccepted(reply.Data)
	if err == nil && !accepted.Duplicate {
		accepted.RequestID = request
	}
	return accepted, err
}

// event is the message of an event: its payload, and in headers what the subject does not say. A sub-tenant that was named by
// no subject stays in its header, so that the poller judges it as this frontend did (SECURITY 5).
func (f *Frontend) event(r *schema.Request, scopedID string) (m *nats.Msg, request string) {
	byName := ""
	if r.TenantBySubject {
		byName = r.Tenant
	}
	m = &nats.Msg{Subject: f.names.Event(r.Account, r.Function, byName), Data: r.Payload, Header: make(nats.Header, 4)}
	set := func(name, value string) {
		if value != "" {
			m.Header[name] = []string{value}
		}
	}
	if !r.TenantBySubject {
		set(schema.HeaderTenant, r.Tenant)
	}
	_, id := f.random.draw()
	request = cmp.Or(r.RequestID, requestID(id))
	set(schema.HeaderRequestID, request)
	set(schema.HeaderQualifier, r.Qualifier)
	var oneLine bytes.Buffer                            // as headers are
	if json.Compact(&oneLine, r.ClientContext) == nil { // admission has read it
		set(schema.HeaderClientContext, oneLine.String())
	}
	set(schema.HeaderMsgID, scopedID)
	if trace := traceOf(r); trace.Traceparent != "" {
		set(schema.HeaderTraceparent, trace.Traceparent)
		set(schema.HeaderTracestate, trace.Tracestate)
	}
	return m, request
}

// notAccepted says why an event got no PubAck.
func (f *Frontend) notAccepted(err error) error {
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return &schema.Error{Code: schema.CodeUnavailable, Cause: err, Message: "the stream of events is not there"}
	case errors.Is(err, nats.ErrMaxPayload):
		return &schema.Error{Code: schema.CodeTooLarge, Cause: err, Message: fmt.Sprintf(
			"the event does not fit: this NATS server takes messages of %d bytes", f.nc.MaxPayload())}
	}
	return &schema.Error{Code: schema.CodeNoAnswer, Cause: err, Message: "the stream of events did not confirm the event in time: it may have been accepted"}
}
