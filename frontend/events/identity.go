package events

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// headerHops counts how often events were made of the ends of others: a destination whose function has a destination may lead
// back to where it began.
const (
	headerHops = "Hearth-Event-Hops"
	maxHops    = 16 // Lambda stops its loops there too
)

// identity names an event for as long as the fabric lives: streams are told apart by the moment of their creation, so that a
// stream that was made anew gives no name again.
func identity(account string, created time.Time, sequence uint64) string {
	return account + "/" + strconv.FormatInt(created.UnixNano(), 36) + "/" + strconv.FormatUint(sequence, 10)
}

// tryOf names one try of an event.
func tryOf(e *schema.Event) string { return e.ID + "/" + strconv.Itoa(e.Attempts) }

// requestID derives an event's request id from its identity, so that every delivery has the same: a UUID in the form of
// version 4.
func requestID(id string) string {
	b := sha256.Sum256([]byte(id))
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	s := hex.EncodeToString(b[:16])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// accepted makes an event of a message of EVENTS. Where it cannot be run as it is, the error says why, and what could be read
// of it is in e all the same.
func accepted(r Runner, names subjects.Names, account, id string, at time.Time, m *nats.Msg) (e schema.Event, err error) {
	e = schema.Event{V: schema.Version, ID: id, RequestID: requestID(id), Account: account, Payload: m.Data, Accepted: at}
	t, ok := names.ParseEvent(m.Subject)
	if !ok || t.Account != account {
		e.Function = stray(names, account, m.Subject)
		return e, schema.Errorf(schema.CodeInvalidParameter, "subject %q: events go to %s.event.<account>.<function>[.<sub-tenant>], "+
			"each name one token with =XX for bytes other than a-z, A-Z, 0-9, - and _", short(m.Subject), names.Prefix())
	}
	e.Function, e.Tenant, e.BySubject = t.Function, t.Tenant, t.Tenant != ""
	e.Hops = hops(m.Header)
	q := schema.Request{Account: t.Account, Function: t.Function, Tenant: t.Tenant, TenantBySubject: t.Tenant != ""}
	err = r.ReadHeaders(&q, m.Header)
	if q.RequestID != "" && err == nil {
		e.RequestID = q.RequestID
	}
	e.Qualifier, e.Tenant, e.ClientContext = q.Qualifier, q.Tenant, q.ClientContext
	trace := telemetry.Parent{Traceparent: q.Traceparent, Tracestate: q.Tracestate}.Checked()
	e.Traceparent, e.Tracestate = trace.Traceparent, trace.Tracestate
	e.DeadTry = telemetry.Parent{Traceparent: m.Header.Get(schema.HeaderDeadTry)}.Checked().Traceparent
	if err == nil && len(m.Data) > schema.MaxEventPayload {
		err = schema.Errorf(schema.CodeTooLarge, "the payload has %d bytes; an event takes %d", len(m.Data), schema.MaxEventPayload)
	}
	return e, err
}

// request is what an event asks of the sync path. Who handed it in waits for no answer, so a time-out or a tail of the log that
// the headers named mean nothing. All its tries are of one trace: its publisher's, or the one that its first try began.
func request(e *schema.Event) *schema.Request {
	r := &schema.Request{
		Account: e.Account, Function: e.Function, Qualifier: e.Qualifier, Tenant: e.Tenant, TenantBySubject: e.BySubject,
		RequestID: e.RequestID, Payload: e.Payload, ClientContext: e.ClientContext, Traceparent: e.Traceparent, Tracestate: e.Tracestate,
	}
	if r.Traceparent == "" {
		r.Traceparent = e.FirstTry
	}
	return r
}

// stray names the function of a dead letter whose subject names none: what the subject has in its place.
func stray(names subjects.Names, account, subject string) string {
	prefix := names.EventsOf(account)
	prefix = prefix[:len(prefix)-1] // without the wildcard
	if len(subject) > len(prefix) {
		subject = subject[len(prefix):]
	}
	return short(subject)
}

func hops(h nats.Header) int {
	n, err := strconv.Atoi(h.Get(headerHops))
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// short is what is repeated of a name that a stranger chose.
func short(s string) string {
	const most = 64
	if len(s) > most {
		return fmt.Sprintf("%s...", s[:most])
	}
	return s
}
