package events

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// errTooLarge says that a record does not fit into an event.
var errTooLarge = errors.New("the record is larger than an event may be")

// record is what a destination is told of an event's end (Lambda C). Sent to a function, it is the event.
type record struct {
	Version         string           `json:"version"`
	Timestamp       string           `json:"timestamp"`
	RequestContext  requestContext   `json:"requestContext"`
	RequestPayload  json.RawMessage  `json:"requestPayload"`
	ResponseContext *responseContext `json:"responseContext,omitempty"` // absent where it never ran
	ResponsePayload json.RawMessage  `json:"responsePayload,omitempty"`
}

type requestContext struct {
	RequestID   string `json:"requestId"`
	FunctionArn string `json:"functionArn"`
	Condition   string `json:"condition"`
	InvokeCount int    `json:"approximateInvokeCount"`
}

type responseContext struct {
	StatusCode      int    `json:"statusCode"`
	ExecutedVersion string `json:"executedVersion"`
	FunctionError   string `json:"functionError,omitempty"`
}

// tell hands the record of an event's end in as an event of the destination.
func (p *Pollers) tell(ctx context.Context, v *verdict) error {
	e := &v.event
	if e.Hops >= maxHops {
		p.trouble.log(p.log, "destinations go round: no record of the end of an event", "function", e.Function, "to", v.to)
		return nil
	}
	data, err := recordOf(v, p.now())
	if err != nil {
		return err
	}
	tenant := "" // a destination has the sub-tenant of the event, if it has any
	secret := "" // what callers cannot know: who guessed the id of a record and used it first would have it taken for sent
	if fn, _, ok := p.runner.Function(e.Account, v.to); ok {
		secret = fn.ID
		if fn.PerTenant {
			tenant = e.Tenant
		}
	}
	h := nats.Header{
		jetstream.MsgIDHeader: {endID(v.to, tenant, secret, e.ID)},
		headerHops:            {strconv.Itoa(e.Hops + 1)},
	}
	under := v.under
	if under.Traceparent == "" { // no spans are recorded here: the trace goes on as it came
		under = telemetry.Parent{Traceparent: e.Traceparent, Tracestate: e.Tracestate}
	}
	for name, value := range map[string]string{schema.HeaderTraceparent: under.Traceparent, schema.HeaderTracestate: under.Tracestate} {
		if value != "" {
			h[name] = []string{value}
		}
	}
	p.count.told.Add(1)
	return p.send(ctx, &nats.Msg{Subject: p.names.Event(e.Account, v.to, tenant), Data: data, Header: h})
}

// endID is the id of a record of an event's end, the same however often it is sent.
func endID(to, tenant, secret, event string) string {
	sum := sha256.Sum256([]byte(secret + "/" + event))
	return to + "/" + subjects.Escape(tenant) + "/end/" + hex.EncodeToString(sum[:16])
}

func recordOf(v *verdict, now time.Time) ([]byte, error) {
	e := &v.event
	qualifier := e.Qualifier
	if qualifier == "" {
		qualifier = schema.Latest
	}
	r := record{
		Version: "1.0", Timestamp: now.UTC().Format("2006-01-02T15:04:05.000Z"), RequestPayload: asJSON(e.Payload),
		RequestContext: requestContext{
			RequestID: e.RequestID, FunctionArn: schema.ARN(e.Account, e.Function, qualifier), Condition: "Success", InvokeCount: e.Attempts,
		},
	}
	if v.next == failed {
		r.RequestContext.Condition = string(v.reason)
	}
	switch last := e.LastError; {
	case v.answer != nil:
		r.ResponseContext = &responseContext{StatusCode: 200, ExecutedVersion: v.answer.Get(schema.HeaderExecutedVersion)}
		r.ResponsePayload = asJSON(v.answer.Payload)
	case last != nil && last.Version != "":
		r.ResponseContext = &responseContext{StatusCode: 200, ExecutedVersion: last.Version, FunctionError: schema.FunctionErrorUnhandled}
		r.ResponsePayload = asJSON(last.Body)
	}
	for _, less := range []func(){func() {}, func() { r.ResponsePayload = nil }} {
		less()
		data, err := json.Marshal(&r)
		if err != nil {
			return nil, err
		}
		if len(data) <= schema.MaxEventPayload {
			return data, nil
		}
	}
	if v.next == done {
		r.RequestPayload = nil
		return json.Marshal(&r)
	}
	return nil, errTooLarge
}

// asJSON is bytes as a value in JSON: as they are where they are JSON, else as a string.
func asJSON(b []byte) json.RawMessage {
	if len(b) == 0 {
		return nil
	}
	if json.Valid(b) {
		return b
	}
	var v any = b // base64
	if utf8.Valid(b) {
		v = string(b)
	}
	s, _ := json.Marshal(v) // bytes and strings: cannot fail
	return s
}
