package frontend

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/frontend/events"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

const (
	ttlGrace = schema.TTLGrace
	maxTTL   = int(schema.MaxTimeout/time.Second) + ttlGrace

	// initTime is how long an environment's init may take before a call's own time-out begins (Lambda A6).
	initTime = 10 * time.Second

	// maxPooled is the largest envelope whose buffer is kept for the next call.
	maxPooled = 1 << 20
)

// unreservedArc is where the calls of a version go while the fabric has so many arcs.
type unreservedArc struct {
	arcs    int
	number  int
	subject string
}

// unreserved is the arc of a call and its subject there. Only calls that name a sub-tenant build them.
func (f *Frontend) unreserved(v *version, tenant string, arcs int) (number int, subject string) {
	if tenant == "" {
		if at := v.arc.Load(); at != nil && at.arcs == arcs {
			return at.number, at.subject
		}
	}
	fn := v.function
	number = subjects.UnreservedArc(fn.Account, fn.Name, tenant, arcs)
	subject = f.names.UnreservedCall(number, fn.Account, fn.Name, v.record.Version, tenant)
	if tenant == "" {
		v.arc.Store(&unreservedArc{arcs, number, subject})
	}
	return number, subject
}

// publication is what publishing needs beyond the call: buffers that are used again, and headers that never change.
type publication struct {
	buffers sync.Pool // of *[]byte
	ttl     [maxTTL + 1]atomic.Pointer[nats.Header]
}

// header is the header of a publication with this start-by: its time to live in whole seconds, rounded up here because
// the server rounds down. The same map serves all; nobody writes to it after it was stored.
func (p *publication) header(startBy time.Duration) nats.Header {
	seconds := ttlSeconds(startBy)
	if h := p.ttl[seconds].Load(); h != nil {
		return *h
	}
	h := nats.Header{nats.MsgTTLHdr: []string{strconv.Itoa(seconds) + "s"}}
	p.ttl[seconds].Store(&h)
	return h
}

func ttlSeconds(startBy time.Duration) int {
	return min(schema.CallTTL(startBy), maxTTL)
}

func (p *publication) buffer() *[]byte {
	if b, ok := p.buffers.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, 0, 4<<10)
	return &b
}

func (p *publication) release(b *[]byte) {
	if cap(*b) <= maxPooled {
		*b = (*b)[:0]
		p.buffers.Put(b)
	}
}

// noPayload is what a call without a payload brings to its function, by every door (Lambda B4).
var noPayload = []byte("{}")

// begin puts an admitted call on its way: it is counted, published, and its start-by is watched. Exactly one of reply,
// a NATS caller's inbox, and waiter, a door of this process, is set; t is the event's try that it runs, nil for sync calls. An error means that the call did not start.
func (f *Frontend) begin(r *schema.Request, v *version, reply string, waiter func(ended), t *events.Try) (*call, error) {
	if n := v.function.Concurrency; n != nil && *n == 0 {
		err := &schema.Error{
			Code: schema.CodeThrottled, Reason: schema.ThrottleFunctionConcurrency, Message: "function " + r.Function + " is stopped: its limit is 0",
		}
		f.spanRefusal(r, err, waiter != nil, t)
		if t == nil {
			f.identify(r)
			f.storyRefused(r, err)
		}
		return nil, err
	}
	fabric := f.view.fabric.Load()
	startBy := fabric.StartBy
	patience := startBy + v.record.Timeout // of a caller that did not say how long it waits
	if r.Timeout > 0 {
		startBy, patience = min(startBy, r.Timeout), r.Timeout
	}
	event := ""
	if t != nil {
		event = t.Event
		startBy = min(startBy, events.MaxStartBy)
	}
	token, id := f.random.draw()
	env := schema.Call{
		Key: v.key, RequestID: cmp.Or(r.RequestID, requestID(id)), Account: v.function.Account, Function: v.function.Name, Qualifier: r.Qualifier,
		Frontend: f.id, Token: token, Reply: reply, Attempt: 1, StartBy: startBy, Timeout: v.record.Timeout,
		LogTail: r.LogTail, ClientContext: r.ClientContext, Event: event,
	}
	env.Tenant = r.Tenant
	if r.Traceparent != "" {
		trace := traceOf(r)
		env.Traceparent, env.Tracestate = trace.Traceparent, trace.Tracestate
	}
	c := &call{
		token: token, version: v, tenant: r.Tenant, requestID: env.RequestID, attempt: 1, reply: reply, startBy: startBy,
		repeats: v.record.Idempotent || env.Event != "", waiter: waiter, feed: f.feed(),
	}
	switch {
	case len(r.Payload) > schema.MaxCarried:
		env.Held, c.payload = len(r.Payload), r.Payload
	case len(r.Payload) == 0:
		env.Payload = noPayload
	default:
		env.Payload = r.Payload
	}
	if waiter != nil {
		env.Reply = tokenSubject(f.answerInbox, token)
	}
	c.span = f.spanCall(r, v, env.RequestID, waiter != nil && t == nil, t)
	if v.record.Idempotent && t == nil { // a lost event runs again by itself

		again := env
		c.again, c.giveUp = &again, time.Now().Add(patience)
	}
	err := f.launch(c, &env, fabric)
	if err != nil {
		f.storyUnpublished(c, &env, err)
		c.how = howRefused(err)
		c.show()
		c.fail(schema.CodeOf(err), err.Error())
		r.RequestID = c.requestID // the refusal tells it
	}
	return c, err
}

// launch publishes one attempt of a call. The caller has no other way to learn what became of it than the inbox, so
// what is known to go wrong is told here, at once.
func (f *Frontend) launch(c *call, env *schema.Call, fabric *schema.Fabric) error {
	switch {
	case f.stopping.Load():
		return shuttingDown()
	case !f.clock.connected():
		return &schema.Error{Code: schema.CodeUnavailable, Message: "this frontend has lost its NATS server"}
	case f.view.deserted():
		return &schema.Error{Code: schema.CodeUnavailable, Message: "no manager is on the ring"}
	}
	reserved := c.version.tally.reservation.Load()
	if reserved != nil {
		f.statuses.catchUp()
	}
	own, err := f.register(c)
	if err != nil {
		return err
	}
	load := reserved.load(own, fabric.Theta)
	if c.tenant != "" && reserved != nil {
		f.view.addBound(&load, reserved.name, c.tenant)
	}
	decision := Route(load)
	now := time.Now()
	c.reason, env.Reason = decision.Reason, decision.Reason
	c.hopeless = now.Add(c.startBy + c.version.record.Timeout + initTime + ttlGrace*time.Second)
	var subject string
	var header nats.Header
	if decision.Reserved {
		c.reserved, c.stream, subject, header = reserved, reserved.stream, reserved.subject, reserved.header(c.startBy)
	} else {
		c.arc, subject = f.unreserved(c.version, c.tenant, fabric.Arcs)
		c.stream, header = f.streamOf(c.arc), f.publication.header(c.startBy)
	}
	c.published, c.floor = f.clock.now(), c.stream.floor()
	f.spanDecision(c, &decision)
	f.storyDecided(c, env, &decision)
	if decision.Reserved {
		c.fallback = &fallback{*env, now.Add(c.startBy)}
	}
	span := f.spanPublish(c, env, &decision, subject)
	f.pending.add(c)
	size, err := f.publish(subject, header, env)
	span.End()
	if err == nil {
		f.startBys.add(c.token, c.startBy)
		return nil
	}
	f.pending.take(c.token, false)
	if errors.Is(err, nats.ErrMaxPayload) {
		return &schema.Error{
			Code:    schema.CodeTooLarge,
			Message: fmt.Sprintf("the call takes %d bytes, this NATS server takes %d", size, f.nc.MaxPayload()), Cause: err,
		}
	}
	return &schema.Error{Code: schema.CodeUnavailable, Message: "the call could not be sent", Cause: err}
}

// publish sends an envelope to an arc, with this frontend's inbox of the call as publish reply, and gives its size.
func (f *Frontend) publish(subject string, h nats.Header, env *schema.Call) (size int, err error) {
	buffer := f.publication.buffer()
	*buffer = schema.EncodeCall((*buffer)[:0], env)
	err = f.nc.PublishMsg(&nats.Msg{Subject: subject, Reply: tokenSubject(f.publishInbox, env.Token), Header: h, Data: *buffer})
	size = len(*buffer)
	f.publication.release(buffer)
	return size, err
}

// register counts a call in, with its payload where that is held, and gives C of its version at this frontend, the call
// included. An error says that there are too many, here or of its sub-tenant.
func (f *Frontend) register(c *call) (inFlight int64, err error) {
	if err := f.enterTenant(c); err != nil {
		return 0, err
	}
	if err := f.hold(c); err != nil {
		c.leaveTenant()
		return 0, err
	}
	inFlight, ok := f.pending.enter(c)
	if ok {
		return inFlight, nil
	}
	f.pending.held.give(c)
	c.leaveTenant()
	return 0, &schema.Error{
		Code: schema.CodeThrottled, Reason: "CallerRateLimitExceeded",
		Message: fmt.Sprintf("this frontend has %d calls in flight, its limit", f.pending.limit),
	}
}

// load is what [Route] decides on, with this many calls of the version in flight here. It takes no lock and allocates
// nothing; a version without a reservation, where r is nil, reads nothing more.
func (r *reservation) load(own int64, theta float64) Load {
	if r == nil {
		return Load{C: int(own), Theta: theta}
	}
	ready, busy := r.members.load()
	return Load{Open: r.takes(), L: r.limit, S: ready, B: busy, C: int(own + r.others.calls.Load()), Theta: theta}
}

func shuttingDown() error {
	return &schema.Error{Code: schema.CodeUnavailable, Message: "this frontend is shutting down"}
}
