package events

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// poller claims the events of one function and sees each of them to its end. An event goes from its delivery to its arc on the
// goroutine of the subscription, or, claimed ahead of its turn, on that of turns, and from its answer to its acknowledgement on the
// goroutine that has the answer: one that succeeds costs no goroutine and no timer of its own.
type poller struct {
	all               *Pollers
	account, function string
	fresh, due        *source

	wake chan struct{}   // holds one: an event that waits may have its turn
	life context.Context // of turns; ends with close
	end  context.CancelFunc

	mu       sync.Mutex
	share    int       // events that may run at once
	throttle throttle  // holds the share back while the fabric refuses
	active   time.Time // when something last came
	pace     pace      // whether events are claimed ahead of their turn
	cut      bool      // off the server, as of the last look: what waits may be another's by the time that is heard
	closing  bool      // claims nothing more
}

// open makes a source's consumer and begins to pull; a source that is open is left as it is.
func (p *poller) open(ctx context.Context, s *source) error {
	p.mu.Lock()
	opened := s.sub != nil || p.closing
	p.mu.Unlock()
	if opened {
		return nil
	}
	if _, err := p.all.js.CreateOrUpdateConsumer(ctx, s.stream, s.config); err != nil {
		return fmt.Errorf("make the consumer of %s on %s: %w", p.function, s.stream, err)
	}
	inbox := p.all.inbox()
	sub, err := p.all.nc.Subscribe(inbox, func(m *nats.Msg) { p.deliver(s, m) })
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", inbox, err)
	}
	if err := sub.SetPendingLimits(-1, -1); err != nil { // pulls bound what may wait
		return fmt.Errorf("subscribe to %s: %w", inbox, err)
	}
	p.mu.Lock()
	if p.closing || s.sub != nil {
		p.mu.Unlock()
		return sub.Unsubscribe()
	}
	s.sub, s.inbox, s.open = sub, inbox, 0
	next := p.wanted(s, time.Now())
	p.mu.Unlock()
	p.send(next)
	return nil
}

// window is how many events of a source may run at once. p.mu is held.
func (p *poller) window(s *source, now time.Time) int {
	window := p.throttle.window(p.share, now)
	if s == p.due {
		window = (window + 3) / 4 // beside those of EVENTS: neither waits for the other
	}
	return window
}

// wanted is the pull that a source lacks: in portions of a quarter of the window, so that several events share one. p.mu is
// held.
func (p *poller) wanted(s *source, now time.Time) pull {
	if s.sub == nil || p.closing || p.all.full() {
		return pull{}
	}
	window := p.window(s, now)
	if p.pace.ahead(now) && p.all.bytes.Load() < maxBytes/2 { // the other half is for functions that have nothing yet
		window *= 2
	}
	lacking := window - s.claims.n - s.open
	if lacking <= 0 || lacking < (window+3)/4 && s.open+s.claims.n > 0 {
		return pull{}
	}
	s.open += lacking
	s.expires = now.Add(pullExpires)
	return pull{s, lacking}
}

func (p *poller) send(next pull) {
	if next.n == 0 {
		return
	}
	if err := p.all.nc.PublishRequest(next.src.next, next.src.inbox, pullBody(next.n)); err != nil {
		p.all.log.Debug("pull not sent", "function", p.function, "error", err) // taken for lost when it should have expired
	}
}

// deliver takes what the server sends for a pull.
func (p *poller) deliver(s *source, m *nats.Msg) {
	if len(m.Data) == 0 && m.Header.Get("Status") != "" && m.Reply == "" {
		p.pullEnded(s, m)
		return
	}
	ack, ok := subjects.ParseAck(m.Reply)
	if !ok {
		return // not from a stream
	}
	now := time.Now()
	c := &claim{p: p, src: s, msg: m, ack: ack, reply: m.Reply, bytes: len(m.Data), came: now, touched: now}
	if s == p.fresh {
		c.id = identity(p.account, p.all.created(p.account), ack.StreamSeq)
	}
	p.mu.Lock()
	s.open = max(0, s.open-1)
	if p.closing {
		p.mu.Unlock()
		p.all.publish(m.Reply, nakBody)
		return
	}
	s.pending, p.active = ack.Pending, now
	s.claims.add(c)
	p.all.bytes.Add(int64(c.bytes))
	s.waiting.push(c)
	turn := p.begins(s, now)
	next := p.wanted(s, now)
	p.mu.Unlock()
	p.send(next)
	if turn != nil {
		p.run(turn)
	}
}

func (p *poller) pullEnded(s *source, m *nats.Msg) {
	p.mu.Lock()
	if m.Subject != s.inbox {
		p.mu.Unlock()
		return
	}
	var old *nats.Subscription
	now := time.Now()
	if s.ended(m) {
		old, s.sub, s.pending = s.sub, nil, 0
		p.unclaim(s, now, 0) // of a consumer that may be gone: one made anew gives them as if nobody had had them
	}
	next := p.wanted(s, now)
	p.mu.Unlock()
	p.send(next)
	if old == nil {
		return
	}
	_ = old.Unsubscribe() // nothing comes on it any more
	p.all.forgetSeen()    // whatever is there for the function opens it again
}

// run begins the try of an event whose turn it is.
func (p *poller) run(c *claim) {
	p.mu.Lock()
	over := c.over // given back as it began
	p.mu.Unlock()
	if over {
		return
	}
	m := c.msg
	c.msg = nil
	fn, _, _ := p.all.runner.Function(p.account, p.function)
	c.limits = limitsOf(fn)
	t := &Try{}
	if err := p.read(c, m); err != nil {
		p.ended(c, t, Result{Err: err})
		return
	}
	if v, dead := hopeless(c.event, c.limits, p.all.now()); dead {
		p.settle(c, v)
		return
	}
	*t = Try{
		Request: request(&c.event), Event: tryOf(&c.event), Source: &c.event, Ask: c.ack.Delivered > 1,
		Done: func(r Result) { p.ended(c, t, r) },
	}
	if !t.Ask {
		err := p.all.runner.Begin(t)
		if err == nil {
			return
		}
		if err != ErrMissed {
			p.ended(c, t, Result{Err: err})
			return
		}
	}
	p.all.slow.Go(func() {
		if err := p.all.runner.BeginAfter(p.all.life, t); err != nil {
			p.ended(c, t, Result{Err: err})
		}
	})
}

// read makes the event of a delivery.
func (p *poller) read(c *claim, m *nats.Msg) (err error) {
	if c.src == p.fresh {
		c.event, err = accepted(p.all.runner, p.all.names, p.account, c.id, time.Unix(0, c.ack.Timestamp), m)
		return err
	}
	if err = schema.Unmarshal(m.Data, &c.event); err == nil && (c.event.Account != p.account || c.event.Function != p.function) {
		err = fmt.Errorf("it is of function %s", short(c.event.Function))
	}
	if err != nil {
		id := identity("retries", p.all.created(""), c.ack.StreamSeq)
		c.event = schema.Event{
			V: schema.Version, ID: id, RequestID: requestID(id), Account: p.account, Function: p.function, Payload: m.Data,
			Accepted: time.Unix(0, c.ack.Timestamp),
		}
		err = schema.Errorf(schema.CodeInvalidParameter, "a retry that cannot be read: %v", err)
	}
	return err
}

// ended takes in how a try ended, on the goroutine that knows it.
func (p *poller) ended(c *claim, t *Try, r Result) {
	e := c.event
	e.FirstTry = cmp.Or(e.FirstTry, t.Span.Traceparent)
	v := decide(e, r, c.limits, p.all.now())
	v.under = t.Span
	now := time.Now()
	p.mu.Lock()
	if c.over {
		p.mu.Unlock()
		return
	}
	if p.throttle.hear(v, r.Err, p.share, now); v.next == done {
		p.all.count.done.Add(1)
	}
	if !t.Ask { // one that asked first says nothing: it waited for managers
		p.pace.went(now.Sub(c.began), v.next == done)
	}
	given := p.closing && r.Err != nil // this frontend stops: the fabric did not refuse it
	stale := c.lost(now)
	p.mu.Unlock()
	switch {
	case given:
		p.release(c, nakBody)
	case stale && v.next != done:
		p.release(c, nil) // another has it by now, and what this one learnt is of no use
	default:
		p.settle(c, v)
	}
}

// settle carries a decision out.
func (p *poller) settle(c *claim, v verdict) {
	if v.next == done && v.to == "" {
		p.release(c, ackBody)
		return
	}
	p.all.slow.Go(func() { p.all.carryOut(p.all.life, c, v) })
}

// release lets a claim go: acknowledged, given back, or (nil) left to the server.
func (p *poller) release(c *claim, body []byte) {
	now := time.Now()
	p.mu.Lock()
	if c.over {
		p.mu.Unlock()
		return
	}
	p.drop(c)
	another := c.lost(now)
	turn := p.turn(c.src, now)
	next := p.wanted(c.src, now)
	p.mu.Unlock()
	if len(body) > 0 && body[0] == '-' && (another || !p.all.nc.IsConnected()) {
		body = nil // the server would take it as the word of whoever has it when it arrives
	}
	if body != nil {
		p.all.publish(c.reply, body)
	}
	p.send(next)
	if turn {
		p.kick()
	}
	if p.all.stopping.Load() {
		p.all.settled()
	}
}

// drop takes a claim off the poller's hands. p.mu is held.
func (p *poller) drop(c *claim) {
	c.over = true
	c.src.claims.remove(c)
	p.all.bytes.Add(-int64(c.bytes))
	if !c.began.IsZero() {
		c.src.begun--
	}
}

// tend looks after what only time changes: claims are touched, those that waited too long given back, lost pulls sent again. It reports
// whether the poller has had nothing to do for so long that it ends.
func (p *poller) tend(now time.Time, share int) (idle bool) {
	var touch, back []string
	var pulls [2]pull
	turn := false
	connected := p.all.nc.IsConnected()
	p.mu.Lock()
	p.share, p.cut = share, !connected
	for i, s := range [...]*source{p.fresh, p.due} {
		if had := s.waiting.first; connected {
			back = append(back, p.unclaim(s, now, aheadFor)...)
			if s.waiting.first != had {
				p.pace.gaveBack(now)
			}
		}
		for c := s.claims.first; c != nil && now.Sub(c.touched) >= touchAfter; {
			following := c.next
			switch {
			case c.stale || !connected:
			case now.Sub(c.touched) >= AckWait-touchEvery:
				c.stale = true // this process stood still, or was cut off
			default:
				touch = append(touch, c.reply)
				s.claims.touch(c, now)
			}
			c = following
		}
		turn = turn || p.turn(s, now) // the share may have grown, a pause be over
		if s.open > 0 && now.After(s.expires.Add(pullSlack)) {
			s.open = 0
		}
		if connected {
			pulls[i] = p.wanted(s, now)
		}
	}
	idle = now.Sub(p.active) > p.all.idle && p.fresh.claims.n+p.due.claims.n == 0
	p.closing = p.closing || idle // what comes from now on is given back: nobody would touch it
	p.mu.Unlock()
	for _, reply := range touch {
		p.all.publish(reply, progressBody)
	}
	for _, reply := range back {
		p.all.publish(reply, nakBody)
	}
	for _, next := range pulls {
		p.send(next)
	}
	if turn {
		p.kick()
	}
	return idle
}

// forget takes every pull for lost: the connection was another one when they were sent.
func (p *poller) forget() {
	p.mu.Lock()
	p.fresh.open, p.due.open = 0, 0
	p.mu.Unlock()
}

// close claims nothing more: what has been pulled by now is given back when it comes.
func (p *poller) close() {
	p.end()
	now, connected := time.Now(), p.all.nc.IsConnected()
	p.mu.Lock()
	p.closing = true
	subs := [...]*nats.Subscription{p.fresh.sub, p.due.sub}
	back := append(p.unclaim(p.fresh, now, 0), p.unclaim(p.due, now, 0)...)
	p.mu.Unlock()
	if connected {
		for _, reply := range back {
			p.all.publish(reply, nakBody)
		}
	}
	for _, sub := range subs {
		if sub != nil {
			_ = sub.Drain() // fails on a closed connection, where nothing comes any more
		}
	}
}

// giveBack gives every claim back that is still in hands.
func (p *poller) giveBack() (n int) {
	for _, s := range [...]*source{p.fresh, p.due} {
		for {
			p.mu.Lock()
			c := s.claims.first
			p.mu.Unlock()
			if c == nil {
				break
			}
			p.release(c, nakBody)
			n++
		}
	}
	return n
}

// running is how many events run.
func (p *poller) running() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fresh.begun + p.due.begun
}

// backlogged reports whether more events wait than were pulled.
func (p *poller) backlogged() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fresh.pending > 0
}
