package manager

import (
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/story"
	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/manager/pace"
	"github.com/hearth-run/hearth/manager/pool"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// claim is one call that the server gave to this manager, from its arrival to its end.
type claim struct {
	call       schema.Call
	subject    string
	target     subjects.ArcCall
	home       pool.Home
	arc        string // short name
	rank       int
	ack        subjects.Ack
	ackReply   string
	reconnects uint64 // of the connection on which it came

	came    time.Duration // on the manager's monotonic clock
	touched time.Duration // when the server last heard that it is in hands
	age     time.Duration // when it came, at least
	handed  bool          // by another manager, or one was asked for it: that happens once
	doubt   bool          // it starts only by the lock
	line    *lineup       // where it waits for its acknowledgement with others; nil off the goroutine of its delivery

	span       telemetry.Span
	story      story.Call
	locked     bool // it took the lock, and not an acknowledgement
	run        schema.Run
	started    time.Duration
	mark       schema.Mark // how it ended, for its frontend
	ended      bool        // guarded by Manager.mu
	limited    bool        // its sub-tenant is: its frontend hears of its end before its caller
	asked      bool        // it was given to another frontend ([schema.Ask]), which counts on beats; guarded by Manager.mu
	prev, next *claim      // in Manager.running or Manager.waiting; guarded by Manager.mu
	in         *claims
}

// deliver takes what the server sends for a pull, on the goroutine of the pull's subscription: a call goes from here to
// its environment without another hop.
func (m *Manager) deliver(g *generation, msg *nats.Msg) {
	if len(msg.Data) == 0 && msg.Header != nil && msg.Reply == "" { // what lies in the stream comes with a subject for its ack
		if status := msg.Header.Get("Status"); status != "" {
			m.refusedPull(g, msg, status)
			return
		}
	}
	c, ok := m.read(msg, g.arc)
	if !ok {
		m.spend(g)
		return
	}
	c.rank = g.rank
	now := m.now()
	m.judge(c, now)
	m.traceArrival(c)
	m.storyArrival(c, pulledBy(g.kind))
	if c.age > c.call.StartBy {
		m.drop(c)
		m.spend(g)
		return
	}
	switch {
	case g.kind == caught:
		c.span.Bool(telemetry.ByCatcher, true)
		m.catch(c, g)
		return
	case c.lacks() && !c.target.Reserved: // of a reserved arc it is in place here, or gives the call back: no room is needed
		m.fetchFirst(c, g)
		return
	}
	c.line = m.lineup(g)
	m.decide(c, g)
}

// drop lets go of a claim past its start-by. It is left where it is: the frontend takes it out at its start-by, and knows
// by that that it never started. Where the frontend is dead the message's TTL does it.
func (m *Manager) drop(c *claim) {
	m.count.dropped.Add(1)
	c.traceEnd(telemetry.OutcomeLate)
	c.story.Add(story.Dropped())
}

// spend notes that a pull brought nothing that could be run.
func (m *Manager) spend(g *generation) {
	m.mu.Lock()
	p := m.offers.spent(m, g)
	m.mu.Unlock()
	m.send(p)
}

// read checks and decodes a delivery. What is not a call of this fabric is terminated: it would come back for ever.
func (m *Manager) read(msg *nats.Msg, a *arc) (*claim, bool) {
	ack, ok := subjects.ParseAck(msg.Reply)
	if !ok {
		m.count.garbage.Add(1)
		return nil, false // not a delivery of a stream at all
	}
	c := &claim{subject: msg.Subject, ack: ack, ackReply: msg.Reply, reconnects: m.reconnects()}
	if c.target, ok = m.names.ParseArc(msg.Subject); ok {
		ok = schema.DecodeCall(msg.Data, &c.call) == nil && c.consistent()
	}
	if !ok {
		m.count.garbage.Add(1)
		m.log.Warn("terminate what is no call", "subject", msg.Subject, "bytes", len(msg.Data))
		m.publish(msg.Reply, termBody)
		return nil, false
	}
	c.home = pool.Home{Key: c.call.Key, Reservation: c.target.Epoch}
	if a.of != nil && a.of.takes(&c.target) {
		c.arc = a.name
	} else {
		c.arc = m.arcName(c.target)
	}
	return c, true
}

// consistent reports whether subject and envelope speak of the same call, and the answer may go where it asks.
func (c *claim) consistent() bool {
	return c.call.Account == c.target.Account && c.call.Function == c.target.Function && c.call.Version == c.target.Version &&
		(c.target.Reserved || c.call.Tenant == c.target.Tenant) && c.call.FunctionID != "" && c.call.Frontend != "" &&
		subjects.FabricReplyAllowed(c.call.Reply)
}

// arcName is the short name of a call's arc; those of unreserved ones are made once.
func (m *Manager) arcName(t subjects.ArcCall) string {
	if !t.Reserved && t.Number < len(m.arcNames) {
		return m.arcNames[t.Number]
	}
	return t.ArcName()
}

// judge decides whether a claim is in doubt (DESIGN 3).
func (m *Manager) judge(c *claim, now time.Duration) {
	age, sure := m.clocks.of(&c.target).judge(c.ack.Timestamp, c.ack.StreamSeq, now, c.call.StartBy)
	c.came, c.touched, c.age = now, now, max(0, age)
	c.doubt = !sure || c.ack.Delivered > 1 || m.doubtful(now) || c.call.StartBy-c.age < nearStart
	if !sure {
		c.age = 0
	}
}

// decide has the pool choose, and does what it says.
func (m *Manager) decide(c *claim, g *generation) {
	now := time.Now()
	m.mu.Lock()
	g.took()
	d := m.warm(now, c)
	if d.Action == pool.Unknown {
		if to, w := m.warmElsewhere(c, g); to != "" {
			c.line = nil // what comes of it, comes on another goroutine
			more := m.offers.tops(m, g)
			m.mu.Unlock()
			m.sendAll(&more)
			m.spawn(func() { m.handOn(c, g, to, w) })
			return
		}
		if c.target.Reserved {
			d = m.refusedReserved(now, c)
			m.decided(c, g, &d, now)
			return
		}
		d = m.choose(now, c, nil)
	}
	for d.Action == pool.Unknown {
		changes := m.versions.changes.Load()
		m.mu.Unlock()
		if c.line != nil {
			m.crossTogether(c.line) // they have all they need, and KV may take its time
		}
		spec, err := m.spec(c)
		m.mu.Lock()
		if err != nil {
			more := m.offers.tops(m, g)
			m.mu.Unlock()
			m.sendAll(&more)
			m.cannotRun(c, err)
			return
		}
		if changes != m.versions.changes.Load() {
			continue // the function may have been replaced meanwhile, and who ended what was idle of it saw no home yet
		}
		d = m.choose(now, c, &spec)
	}
	m.decided(c, g, &d, now)
}

// choose has the pool decide on a claim for which nothing is warm. Where it came back often enough and nobody else tells room, hot ones
// make way. Manager.mu is held.
func (m *Manager) choose(now time.Time, c *claim, spec *pool.Spec) pool.Decision {
	d := m.pool.Claim(now, c.home, spec, c)
	if d.Action == pool.Refuse && c.ack.Delivered >= pace.PressAfter {
		if room, _ := m.peers.anybody(d.Places, m.now()); pace.Presses(c.ack.Delivered, room) {
			d = m.pool.Press(now, c.home, spec, c)
		}
	}
	return d
}

// warm has the pool run a claim in what is warm here. On a reserved arc members that still start are nothing to wait for: their
// init may take longer than an environment elsewhere. Manager.mu is held.
func (m *Manager) warm(now time.Time, c *claim) pool.Decision {
	if c.target.Reserved && m.pool.Offered(c.arc) == 0 {
		return pool.Decision{}
	}
	return m.pool.Warm(now, c.home, c)
}

// refusedReserved is what becomes of a call of a reserved arc for which nothing is warm anywhere: nothing is made, nor ended, for it.
// One whose sub-tenant may have no other environment than one that has answered waits for that, though it is not on offer. Manager.mu is held.
func (m *Manager) refusedReserved(now time.Time, c *claim) pool.Decision {
	if c.call.Tenant == "" {
		return pool.Decision{Action: pool.Refuse}
	}
	d := m.pool.Await(now, c.home, c)
	switch {
	case d.Action != pool.Unknown:
	case m.pool.Full(c.call.Account, c.call.Function, c.home):
		d.Action = pool.Throttle
	default:
		d.Action = pool.Refuse
	}
	return d
}

// decided does what the pool said of a claim. Manager.mu is held, and let go.
func (m *Manager) decided(c *claim, g *generation, d *pool.Decision, now time.Time) {
	if d.Action != pool.Run {
		c.line = nil // it begins on another goroutine, if at all
	}
	switch d.Action {
	case pool.Run:
		g.arc.needed = now
	case pool.Wait:
		c.story.Add(story.Waits(d.Make != nil))
		g.arc.needed = now
		m.waiting.add(c)
	case pool.Refuse:
		m.holdOff(c, g, now)
	}
	if d.Action == pool.Run || d.Action == pool.Wait && d.Make == nil {
		g.arc.tookOtherwise(g, now)
	}
	more := m.offers.tops(m, g)
	move := c.target.Reserved && c.call.Tenant != "" && m.offering
	m.mu.Unlock()
	switch {
	case d.Action == pool.Run:
		m.begin(c, d.Environment, d.Start, 0)
	case d.Action == pool.Throttle:
		m.turnedAway(c, m.tenantThrottled(c))
	case d.Action == pool.Refuse && move:
		m.overflow(c) // it came by the pull of one that is another sub-tenant's, and would again
	case d.Action == pool.Refuse && c.ack.Delivered > 1:
		m.turnAway(c, g, d)
	case d.Action == pool.Refuse:
		m.giveBack(c)
	}
	m.sendAll(&more)
	switch {
	case d.Action == pool.Wait && len(d.Make) == 1:
		m.makeInPlace(d.Make[0], d.End)
	case d.Make != nil || len(d.End) > 0:
		m.carryOut(pool.Plan[*claim]{Make: d.Make, End: d.End}, nil)
	}
}

// tops finds what the sides of a generation's arc lack that brought a claim; the catcher's only where it is spent, or not open yet.
// Manager.mu is held.
func (o *offers) tops(m *Manager, g *generation) (more [kinds]pull) {
	more[idle] = o.topSide(m, g.arc, idle, true)
	if g.arc.of == nil {
		more[room] = o.topSide(m, g.arc, room, true)
	} else {
		more[surplus] = o.topSide(m, g.arc, surplus, true)
	}
	if g.arc.heat() || g.kind == caught {
		more[caught] = o.topSide(m, g.arc, caught, true)
	}
	return more
}

// holdOff closes an arc's pulls, but the catcher's, for a moment when a call came back by them to this manager that cannot
// use it: being first in the arc, they would take it again and again while a later rank has more room. Not often: while
// they are closed, calls that could use what is here go elsewhere. Manager.mu is held.
func (m *Manager) holdOff(c *claim, g *generation, now time.Time) {
	a := g.arc
	if a.opening == nil && g.kind != caught && c.ack.Delivered > 1 && a.length > 1 && now.Sub(a.heldAt) > holdEvery {
		a.heldAt, a.held = now, now.Add(holdOff)
		m.offers.kick()
	}
}

// begin takes a claim over the start line and into its environment. It runs on the goroutine that has the claim; only
// the lock, which waits for the server, gets one of its own.
func (m *Manager) begin(c *claim, environment string, start schema.Start, init time.Duration) {
	now := m.now()
	switch {
	case c.age+now-c.came > c.call.StartBy:
		m.drop(c)
		m.release(environment)
	case c.lacks():
		m.fetchLate(c, environment, start, init)
	case m.inDoubt(c, now):
		m.beginLocked(c, environment, start, init)
	case c.line != nil:
		c.line.add(c, environment, start)
	default:
		m.crossed(c, m.cross(c), environment, start, init)
	}
}

// inDoubt reports whether a claim may be another's by now, or its frontend about to delete it (startline.go).
func (m *Manager) inDoubt(c *claim, now time.Duration) bool {
	return c.doubt || now-c.touched > nearlyOut || c.reconnects != m.reconnects() || m.doubtful(now) ||
		c.call.StartBy-c.age-(now-c.came) < nearStart
}

// beginLocked begins a claim in doubt.
func (m *Manager) beginLocked(c *claim, environment string, start schema.Start, init time.Duration) {
	m.spawn(func() {
		c.locked = true
		m.crossed(c, m.lock(m.life, c), environment, start, init)
	})
}

// crossed starts a claim that is ours, and lets go of any other.
func (m *Manager) crossed(c *claim, l line, environment string, start schema.Start, init time.Duration) {
	if l != crossed {
		m.uncrossed(c, l)
		m.release(environment)
		return
	}
	m.traceStart(c, environment, start, init)
	c.story.Add(story.Started(environment, start, init, m.now()-c.came, c.locked))
	c.run = schema.Run{
		Call: &c.call, Subject: c.subject, Environment: environment, Arc: c.arc, Rank: c.rank, Manager: m.cfg.ID,
		Start: start, InitDuration: init, Ended: func(_ *schema.Run, o *schema.Outcome) { m.end(c, o) },
	}
	m.mu.Lock()
	c.started, c.limited = m.now(), m.limited(c)
	m.running.add(c)
	m.acks.add(c.ackReply, c.started)
	busier := m.busier(c.home)
	m.mu.Unlock()
	if busier {
		m.tellSoon()
	}
	m.count.start(start)
	m.metrics.waited(c, start)
	m.grants.bind(environment, c.call.Tenant)
	m.worker.Start(&c.run)
}

// end is the end of a call that ran, before its answer goes out: the environment is offered first, so that the caller's
// next call does not overtake the offer (DESIGN 2).
func (m *Manager) end(c *claim, o *schema.Outcome) {
	reusable := o != nil && o.Reusable
	m.mu.Lock()
	if c.ended {
		m.mu.Unlock()
		return
	}
	c.ended, c.mark = true, schema.MarkOf(c.run.Start, o)
	c.story.Add(story.Finished(o))
	m.running.remove(c)
	within, above := m.offers.top(m, m.pool.Finished(time.Now(), c.run.Environment, reusable))
	m.late.add(c.call.Frontend, c.call.Token, m.now())
	idler := m.idler(c.home)
	m.mu.Unlock()
	m.send(within)
	m.send(above)
	switch {
	case idler && m.eager():
		m.tellMember(c.home)
	case idler:
		m.tellSoon()
	}
	m.tellEnd(c)
	if m.draining.Load() {
		m.settled()
	}
}

// tend looks after claims that wait: past their start-by they are forgotten, and once a second the server hears that the
// others are in hands.
func (m *Manager) tend(now time.Duration) {
	var touch []string
	m.mu.Lock()
	for c := m.waiting.first; c != nil; {
		next := c.next
		switch {
		case c.age+now-c.came > c.call.StartBy:
			m.pool.Abandon(time.Now(), c.home, c)
			m.waiting.remove(c)
			m.drop(c)
		case now-c.touched >= time.Second && c.reconnects == m.reconnects():
			if now-c.touched < mine {
				c.touched = now
				touch = append(touch, c.ackReply)
			}
		}
		c = next
	}
	m.mu.Unlock()
	for _, reply := range touch {
		m.publish(reply, progressBody)
	}
}
