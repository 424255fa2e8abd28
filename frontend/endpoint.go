package frontend

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

const (
	// queueGroup shares the calls among the frontends of a fabric.
	queueGroup = "frontends"

	// Requests that wait for the handler: nats.go drops what comes beyond, and its default of 64 MB is eleven payloads.
	pendingRequests      = 65_536
	pendingRequestsBytes = 256 << 20
	// The same for inboxes, through which the answers of HTTP callers come.
	pendingAnswers      = 262_144
	pendingAnswersBytes = 512 << 20

	// Requests for functions that are not known wait here for a read of KV, apart from the others.
	missReaders = 4
	missQueue   = 1024
)

// missedRequest is a request whose function or qualifier the frontend does not know.
type missedRequest struct {
	request *schema.Request
	reply   string
}

// openEndpoint subscribes to the calls: from here on this frontend serves.
func (f *Frontend) openEndpoint() error {
	service, err := micro.AddService(f.nc, micro.Config{
		Name:        f.names.Prefix(),
		Version:     serviceVersion,
		Description: "Hearth: calls of functions",
		Metadata:    map[string]string{"frontend": f.id},
		ErrorHandler: func(_ micro.Service, e *micro.NATSError) {
			f.log.Warn("endpoint of calls", "subject", e.Subject, "error", e.Description)
		},
	})
	if err != nil {
		return fmt.Errorf("add service %s: %w", f.names.Prefix(), err)
	}
	f.service = service
	err = service.AddEndpoint("invoke", micro.HandlerFunc(f.handle), micro.WithEndpointSubject(f.names.InvokeAll()),
		micro.WithEndpointQueueGroup(queueGroup), micro.WithEndpointPendingLimits(pendingRequests, pendingRequestsBytes))
	if err != nil {
		return fmt.Errorf("add endpoint %s: %w", f.names.InvokeAll(), err)
	}
	return f.nc.Flush()
}

// handle takes one call from NATS, on the subscription's goroutine: the whole admission and the publication happen
// here, without a hop. Only a name that is not known waits elsewhere, because KV is asked for it.
func (f *Frontend) handle(req micro.Request) {
	f.arriving.Add(1)
	f.arrived.Add(1)
	if f.receive(req) {
		f.arriving.Add(-1)
	}
}

// receive is [Frontend.handle]; false means that the request waits for its name to be looked up.
func (f *Frontend) receive(req micro.Request) (seenTo bool) {
	begun := time.Now()
	f.counters.calls.Add(1)
	reply := req.Reply()
	// Before anything is answered, a refusal too: this frontend may publish where its caller may not (SECURITY 2).
	if !subjects.ReplyAllowed(reply) {
		f.counters.dropped.Add(1)
		return true
	}
	f.lookWhence(reply)
	r, err := f.read(req)
	if err != nil {
		f.turnDown(req, r, err)
		return true
	}
	v, err := f.admit(r)
	if errors.Is(err, errMissed) {
		select {
		case f.misses <- missedRequest{r, reply}:
			return false
		default:
			err = full("too many calls of functions that are not known wait to be looked up")
		}
	}
	if err != nil {
		f.turnDown(req, r, err)
		return true
	}
	if _, err := f.begin(r, v, reply, nil, nil); err != nil {
		f.countRefusal(r, err)
		f.answerRefused(req, err, f.identify(r)) // the call has a span of its own
		return true
	}
	f.metrics.admission.Took(time.Since(begun))
	return true
}

// turnDown answers a request that is refused in the handler, where micro counts it.
func (f *Frontend) turnDown(req micro.Request, r *schema.Request, err error) {
	id := f.identify(r)
	f.refused(r, err, false)
	f.answerRefused(req, err, id)
}

// identify gives a request that is refused the id that a call would have had, unless its caller gave it one: by it the caller finds the
// refusal's story (`hearth trace`). A request that could not be read gets an id too.
func (f *Frontend) identify(r *schema.Request) string {
	if r != nil && r.RequestID != "" {
		return r.RequestID
	}
	_, b := f.random.draw()
	id := requestID(b)
	if r != nil {
		r.RequestID = id
	}
	return id
}

func (f *Frontend) answerRefused(req micro.Request, err error, requestID string) {
	status, text := schema.ErrorHeaders(err)
	named := micro.WithHeaders(micro.Headers{schema.HeaderRequestID: {requestID}})
	if err := req.Error(status, text, nil, named); err != nil {
		f.log.Warn("refusal not sent", "error", err)
	}
}

// readMisses looks up what the handler missed, until ctx ends. A few goroutines run it.
func (f *Frontend) readMisses(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-f.misses:
			v, err := f.find(ctx, m.request)
			if err != nil {
				f.identify(m.request)
				f.refused(m.request, err, false)
			} else if _, err = f.begin(m.request, v, m.reply, nil, nil); err != nil {
				f.countRefusal(m.request, err)
			}
			if err != nil {
				f.send(&nats.Msg{Subject: m.reply, Header: refusal(err, f.identify(m.request))})
			}
			f.arriving.Add(-1)
		}
	}
}

// read makes a request of a message: the subject says whom, the headers how.
func (f *Frontend) read(req micro.Request) (*schema.Request, error) {
	t, ok := f.names.ParseInvoke(req.Subject())
	if !ok {
		return nil, schema.Errorf(schema.CodeInvalidParameter, "subject %q: call %s.invoke.<account>.<function>[.<sub-tenant>], "+
			"each name one token with =XX for bytes other than a-z, A-Z, 0-9, - and _", short(req.Subject()), f.names.Prefix())
	}
	r := &schema.Request{
		Account: t.Account, Function: t.Function, Tenant: t.Tenant, TenantBySubject: t.Tenant != "", Payload: req.Data(),
	}
	return r, readHeaders(r, nats.Header(req.Headers()))
}

// readHeaders reads what callers may say in headers. Names count in their exact case, each once; one of ours in another
// spelling is refused, so that nobody believes that it counted. Headers that are not ours are left alone, and none is
// ever copied into a message of the fabric (SECURITY 2, 5).
func readHeaders(r *schema.Request, h nats.Header) error {
	for name, values := range h {
		var err error
		switch name {
		case schema.HeaderQualifier:
			r.Qualifier, err = one(name, values)
		case schema.HeaderTenant:
			var tenant string
			if tenant, err = one(name, values); err == nil {
				err = nameTenant(r, tenant)
			}
		case schema.HeaderToken:
			r.Token, err = one(name, values)
		case schema.HeaderTimeout:
			var text string
			if text, err = one(name, values); err == nil {
				r.Timeout, err = parseTimeout(text)
			}
		case schema.HeaderLog:
			var text string
			if text, err = one(name, values); err == nil {
				r.LogTail, err = parseLog(text)
			}
		case schema.HeaderClientContext:
			var text string
			if text, err = one(name, values); err == nil {
				r.ClientContext, err = parseClientContext(text)
			}
		case schema.HeaderRequestID:
			var id string
			if id, err = one(name, values); err == nil {
				err = checkRequestID(id)
			}
			if err == nil { // nobody's story goes by anything else
				r.RequestID = id
			}
		case schema.HeaderTraceparent:
			if len(values) == 1 {
				r.Traceparent = values[0]
			}
		case schema.HeaderTracestate:
			if len(values) == 1 {
				r.Tracestate = values[0]
			}
		default:
			err = misspelt(name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// one is the value of a header that may stand there once.
func one(name string, values []string) (string, error) {
	if len(values) != 1 {
		return "", schema.Invalid(schema.FieldError{Field: name, Got: fmt.Sprint(len(values), " values"), Allowed: "one value"})
	}
	if values[0] == "" {
		return "", schema.Invalid(schema.FieldError{Field: name, Allowed: "is empty; give it a value or leave it out"})
	}
	return values[0], nil
}

// nameTenant takes in the header that names a sub-tenant; a subject that names another one wins over nobody.
func nameTenant(r *schema.Request, tenant string) error {
	if r.TenantBySubject && r.Tenant != tenant {
		return schema.Invalid(schema.FieldError{
			Field: schema.HeaderTenant, Got: short(tenant), Allowed: "absent, or the sub-tenant of the subject",
		})
	}
	r.Tenant = tenant
	return nil
}

func parseLog(s string) (tail bool, err error) {
	if s != "tail" {
		return false, schema.Invalid(schema.FieldError{Field: schema.HeaderLog, Got: short(s), Allowed: "tail"})
	}
	return true, nil
}

// parseClientContext takes the JSON object as it is, or in base64, as Lambda's callers have it; none begins with a brace. Admission
// looks at what is in it.
func parseClientContext(s string) ([]byte, error) {
	s = strings.TrimSpace(s)
	if strings.HasPrefix(s, "{") {
		return []byte(s), nil
	}
	if most := base64.StdEncoding.EncodedLen(schema.MaxClientContext); len(s) > most {
		return nil, schema.Invalid(schema.FieldError{
			Field: "ClientContext", Got: strconv.Itoa(len(s)) + " bytes of base64",
			Allowed: "at most " + strconv.Itoa(schema.MaxClientContext) + " bytes when it is decoded",
		})
	}
	decoded, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, schema.Invalid(schema.FieldError{Field: "ClientContext", Allowed: "a JSON object, or base64 of one"})
	}
	return decoded, nil
}

// misspelt refuses a header that is one of ours but for the case of its letters.
func misspelt(name string) error {
	for _, ours := range [...]string{
		schema.HeaderQualifier, schema.HeaderTenant, schema.HeaderTimeout, schema.HeaderLog, schema.HeaderClientContext,
		schema.HeaderRequestID, schema.HeaderToken,
	} {
		if strings.EqualFold(name, ours) {
			return schema.Invalid(schema.FieldError{Field: name, Allowed: "is spelt " + ours + "; headers of NATS count in their exact case"})
		}
	}
	return nil
}
