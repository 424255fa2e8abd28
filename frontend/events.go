package frontend

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/frontend/events"
	"github.com/hearth-run/hearth/schema"
)

// askWait is how long managers have to say that they run an event. DESIGN 4.
const askWait = 100 * time.Millisecond

// Nudge says that an event has been accepted through a door of this process: it is looked for now.
func (f *Frontend) Nudge() { f.events.Nudge() }

// Events are the counters of this frontend's pollers.
func (f *Frontend) Events() events.Counters { return f.events.Counters() }

// eventRunner is what the pollers see of their frontend.
type eventRunner struct{ f *Frontend }

var _ events.Runner = eventRunner{}

// Begin admits and publishes a try, as the NATS endpoint does with a call.
func (r eventRunner) Begin(t *events.Try) error {
	v, err := r.f.admit(t.Request)
	if errors.Is(err, errMissed) {
		return events.ErrMissed
	}
	if err != nil {
		return err
	}
	return r.f.try(t, v)
}

// BeginAfter is Begin for what has to wait first.
func (r eventRunner) BeginAfter(ctx context.Context, t *events.Try) error {
	v, err := r.f.find(ctx, t.Request)
	if err != nil {
		return err
	}
	if t.Ask && r.f.join(ctx, t, v) {
		return nil
	}
	return r.f.try(t, v)
}

// ReadHeaders reads headers as those of calls.
func (r eventRunner) ReadHeaders(q *schema.Request, h nats.Header) error { return readHeaders(q, h) }

// Function is the record as calls see it.
func (r eventRunner) Function(account, name string) (*schema.FunctionRecord, uint64, bool) {
	return r.f.Function(account, name)
}

// Lookup asks KV for a function that is not known here.
func (r eventRunner) Lookup(ctx context.Context, account, name string) (bool, error) {
	t := target{account, name}
	if r.f.functions.get(t) == nil {
		if _, err := r.f.functions.read(ctx, t); err != nil {
			return false, err
		}
	}
	return r.f.functions.get(t) != nil, nil
}

// Refused gives the event a story, unless it has one.
func (r eventRunner) Refused(e *schema.Event) {
	q := schema.Request{Account: e.Account, Function: e.Function, Tenant: e.Tenant, RequestID: e.RequestID}
	err := &schema.Error{Code: schema.CodeInternal, Message: "it cannot run as it is"}
	if last := e.LastError; last != nil {
		err = &schema.Error{Code: schema.Code(last.Code), Message: last.Message}
	}
	r.f.storyRefused(&q, err)
}

// Places is the capacity of the managers that take calls.
func (r eventRunner) Places() int { return r.f.view.places() }

// Frontends is how many tell their status, and this one.
func (r eventRunner) Frontends() int {
	r.f.view.mu.Lock()
	defer r.f.view.mu.Unlock()
	return 1 + len(r.f.view.frontends)
}

// try publishes the call of one try of an event.
func (f *Frontend) try(t *events.Try, v *version) error {
	f.counters.tries.Add(1)
	_, err := f.begin(t.Request, v, "", resultTo(t), t)
	return err
}

// join asks all managers who runs a try, whose poller may have died, and reports whether one does: then its beats, its end and
// its answer come here, as if this frontend had published it (DESIGN 4).
func (f *Frontend) join(ctx context.Context, t *events.Try, v *version) bool {
	token, _ := f.random.draw()
	asked := make(chan struct{})
	arc, _ := f.unreserved(v, t.Request.Tenant, f.view.fabric.Load().Arcs)
	stream := f.streamOf(arc)
	c := &call{
		token: token, version: v, tenant: t.Request.Tenant, requestID: t.Request.RequestID, attempt: 1, startBy: events.MaxStartBy,
		hopeless:  time.Now().Add(events.MaxStartBy + v.record.Timeout + initTime + ttlGrace*time.Second),
		published: f.clock.now(), stream: stream, floor: stream.floor(), waiter: resultTo(t), asked: asked,
		repeats: true, tries: triesOf(t.Event), feed: f.feed(),
	}
	if len(t.Request.Payload) > schema.MaxCarried {
		c.payload = t.Request.Payload // who holds its call unstarted asks here for it from now on
	}
	ask, err := schema.Marshal(&schema.Ask{
		V: schema.Version, Event: t.Event, Frontend: f.id, Token: token, Reply: tokenSubject(f.answerInbox, token),
	})
	if err != nil {
		return false
	}
	if _, err := f.register(c); err != nil {
		return false
	}
	c.story = f.stories.Open(c.requestID, c.storyOf())
	f.pending.add(c)
	if err = f.nc.Publish(f.names.StatusAsk(), ask); err == nil {
		wait := time.NewTimer(askWait)
		defer wait.Stop()
		select {
		case <-asked:
		case <-wait.C:
		case <-ctx.Done():
		}
	}
	nobody := f.pending.with(token, func(c *call) bool { return c.asked != nil })
	if nobody == nil {
		f.counters.joined.Add(1)
	}
	return nobody == nil
}

// resultTo makes of a poller one that waits for a call.
func resultTo(t *events.Try) func(ended) {
	return func(e ended) {
		if e.lost {
			t.Done(events.Result{Lost: true})
			return
		}
		answer, err := answerOf(t.Request.RequestID, e)
		t.Done(events.Result{Answer: answer, Err: err})
	}
}
