package sim

import (
	"slices"
	"strconv"
	"time"

	"github.com/hearth-run/hearth/manager/pace"
	"github.com/hearth-run/hearth/manager/pool"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// How long what no decision is about takes.
const (
	debounce   = 2 * time.Millisecond  // of looks at offers that were asked for
	parkTime   = 20 * time.Microsecond // from an environment's answer until it asks for its next call
	goneTime   = 5 * time.Millisecond  // from when an environment is told to end until it has
	permitLook = 10 * time.Millisecond // between looks for an environment that makes way for a cap
	looks      = 5
)

// manager is one manager: the pool that decides, and what it has open at the server.
type manager struct {
	s    *sim
	at   int // in sim.managers, and in the ring's
	id   string
	pool *pool.Pool[*call]

	seats  []*seat // the arcs in which it has something to do, in the order in which it came to them
	byArc  map[*arc]*seat
	ranked int // unreserved arcs in which it has a rank
	out    pace.Shortage
	kicked bool // a look at the offers is under way

	environments map[string]*environment
	peers        []peer // what the managers told, by their number; its own too
	turned       bool   // somebody told of other members of reservations
	busy         map[memberKey]*pace.Busy
	last         *status
	soon         bool // a status is under way
	use          use
}

// environment is one of a manager.
type environment struct {
	of     *function
	places int
	member bool // made for a reservation
	ended  bool // told to end
}

func newManager(s *sim, at int) *manager {
	return &manager{
		s: s, at: at, id: s.ring.Managers()[at], pool: pool.New[*call]("m"+strconv.Itoa(at)+".", s.cfg.Capacity),
		byArc: make(map[*arc]*seat), environments: make(map[string]*environment), peers: make([]peer, s.cfg.Managers),
		busy: make(map[memberKey]*pace.Busy),
	}
}

// deliver takes what the server sends for a pull.
func (m *manager) deliver(g *generation, c *call) {
	switch {
	case c.over: // its frontend took it out at its start-by
		m.spent(g)
	case g.kind == caught:
		m.catch(c, g)
	default:
		m.decide(c, g)
	}
}

// decide has the pool choose, and does what it says.
func (m *manager) decide(c *call, g *generation) {
	g.took()
	now := m.s.time()
	home := c.of.home(c.lies, c.Tenant)
	d := m.warm(now, c)
	if d.Action == pool.Unknown {
		if to, w := m.warmElsewhere(c, g); to >= 0 {
			m.tops(g)
			m.handOn(c, g, to, w)
			return
		}
		if c.lies.res != nil {
			d = m.refusedReserved(now, home, c)
		} else {
			spec := c.of.spec(c.lies)
			if d = m.pool.Claim(now, home, &spec, c); d.Action == pool.Refuse {
				if room, _ := m.anybody(spec.Places); pace.Presses(c.delivered, room) {
					d = m.pool.Press(now, home, &spec, c)
				}
			}
		}
	}
	m.decided(c, g, &d)
}

// warm has the pool run a claim in what is warm here. On a reserved arc members that still start are nothing to wait for.
func (m *manager) warm(now time.Time, c *call) pool.Decision {
	if c.lies.res != nil && m.pool.Offered(c.lies.name) == 0 {
		return pool.Decision{}
	}
	return m.pool.Warm(now, c.of.home(c.lies, c.Tenant), c)
}

// refusedReserved is what becomes of a call of a reserved arc for which nothing is warm anywhere.
func (m *manager) refusedReserved(now time.Time, home pool.Home, c *call) pool.Decision {
	if c.Tenant == "" {
		return pool.Decision{Action: pool.Refuse}
	}
	d := m.pool.Await(now, home, c)
	if d.Action == pool.Unknown {
		d.Action = pool.Refuse
	}
	return d
}

// decided does what the pool said of a claim.
func (m *manager) decided(c *call, g *generation, d *pool.Decision) {
	a := g.side.seat
	switch d.Action {
	case pool.Run:
		a.needed = m.s.now
	case pool.Wait:
		a.needed = m.s.now
		c.waits = m
	case pool.Refuse:
		m.holdOff(c, g)
	}
	if d.Action == pool.Run || d.Action == pool.Wait && d.Make == nil {
		a.tookOtherwise(g, m.s.now)
	}
	reserved := c.lies.res != nil
	switch {
	case d.Action == pool.Run:
		m.begin(c, d.Environment, d.Start)
	case d.Action == pool.Throttle:
		m.refuse(c, refusedTenant)
	case d.Action == pool.Refuse && reserved && c.Tenant != "":
		m.overflow(c)
	case d.Action == pool.Refuse && c.delivered > 1:
		m.turnAway(c, g, d)
	case d.Action == pool.Refuse:
		m.giveBack(c)
	}
	m.tops(g)
	switch {
	case d.Action == pool.Wait && len(d.Make) == 1:
		m.make(d.Make[0], d.End, looks)
		m.kick()
	case d.Make != nil || len(d.End) > 0:
		m.carryOut(pool.Plan[*call]{Make: d.Make, End: d.End})
	}
}

// begin takes a claim over the start line: by its ack, or where it is in doubt by a lock, which waits for the server.
func (m *manager) begin(c *call, environment string, start schema.Start) {
	if c.over {
		m.release(environment)
		return
	}
	if c.delivered < 2 {
		m.s.count(messageAck)
		m.run(c, environment, start)
		return
	}
	m.s.count(messageLock)
	m.s.after(2*m.s.cfg.Hop, func() {
		if c.over {
			m.release(environment)
			return
		}
		m.run(c, environment, start)
	})
}

func (m *manager) run(c *call, environment string, start schema.Start) {
	home := c.of.home(c.lies, c.Tenant)
	m.s.remove(c)
	c.began, c.waits = true, nil
	m.s.started(c, m, start)
	m.use.run(m.s.now, c.of.places, 1)
	if m.busier(home) {
		m.tellSoon()
	}
	m.s.after(c.Run, func() { m.end(c, environment, home) })
}

// end is the end of a call that ran: the environment is offered, its status told, then the answer goes out (DESIGN 2).
func (m *manager) end(c *call, id string, home pool.Home) {
	m.use.run(m.s.now, c.of.places, -1)
	m.top(m.pool.Finished(m.s.time(), id, true))
	switch idler := m.idler(home); {
	case idler && m.s.eager():
		m.tellMember(home)
	case idler:
		m.tellSoon()
	}
	m.s.count(messageAnswer)
	m.s.count(messageEnd)
	m.s.done(c)
	m.s.after(parkTime, func() { m.endTurn(id, m.pool.Parked(m.s.time(), id, 0)) })
}

// endTurn does what an environment's turn says.
func (m *manager) endTurn(id string, turn pool.Turn[*call]) {
	m.top(turn.Arc)
	if turn.More != nil {
		m.carryOut(*turn.More)
	}
	switch {
	case turn.Run:
		turn.Claim.waits = nil
		m.begin(turn.Claim, id, turn.Start)
	case turn.End:
		m.evict(id)
		m.changed()
	}
}

// release gives an environment back whose call did not start in it.
func (m *manager) release(id string) { m.endTurn(id, m.pool.Release(m.s.time(), id)) }

// carryOut does what the pool decided.
func (m *manager) carryOut(plan pool.Plan[*call]) {
	for _, id := range plan.End {
		m.evict(id)
	}
	for _, mk := range plan.Make {
		if mk.Replaces {
			m.s.after(pace.ReplaceAfter, func() { m.make(mk, nil, looks) })
		} else {
			m.make(mk, nil, looks)
		}
	}
	for _, c := range plan.Fail {
		c.waits = nil
		m.refuse(c, refusedGrowth)
	}
	for _, c := range plan.Refuse {
		c.waits = nil
		m.giveBack(c)
	}
	for _, x := range plan.Run {
		x.Claim.waits = nil
		m.begin(x.Claim, x.Environment, schema.StartSpecialised)
	}
	if len(plan.End)+len(plan.Make)+len(plan.Run)+len(plan.Refuse) > 0 {
		m.kick()
	}
}

// make makes an environment in the place of those set aside for it, if the caps permit it.
func (m *manager) make(mk pool.Make, aside []string, look int) {
	f := m.s.functions[mk.Spec.Function]
	if most := m.s.cfg.Fabric.MaxEnvironments; most > 0 && m.s.existing >= most {
		if look > 1 {
			aside = m.makeWay(aside)
			m.s.after(permitLook, func() { m.make(mk, aside, look-1) })
			return
		}
		m.unmade(mk, aside, refusedCap)
		return
	}
	if counts := mk.Home.Reservation == 0 || mk.Replaces; counts && !f.grows(m.s.now, m.s.cfg.Fabric.Growth) {
		m.unmade(mk, aside, refusedGrowth)
		return
	}
	for _, id := range aside {
		m.evict(id)
	}
	e := &environment{of: f, places: mk.Spec.Places, member: mk.Home.Reservation != 0}
	m.environments[mk.Environment] = e
	m.s.made(m, e)
	init := f.init
	m.s.after(init, func() {
		turn := m.pool.Parked(m.s.time(), mk.Environment, init)
		if turn.First && subjects.IsReservedName(turn.Arc) {
			m.tellSoon()
		}
		m.endTurn(mk.Environment, turn)
	})
}

// makeWay ends an idle environment for a cap: one that is set aside anyway, else of this manager, else of the first that has one.
func (m *manager) makeWay(aside []string) (left []string) {
	if len(aside) > 0 {
		m.evict(aside[0])
		return aside[1:]
	}
	for i := range m.s.managers {
		other := m.s.managers[(m.at+i)%len(m.s.managers)]
		if i > 0 {
			m.s.count(messageHandover)
		}
		if id, ok := other.pool.Evict(m.s.time(), pool.Scope{}); ok {
			other.evict(id)
			other.changed()
			break
		}
	}
	return nil
}

// unmade is what becomes of an environment that may not be made: what was set aside for it is there again.
func (m *manager) unmade(mk pool.Make, aside []string, why refusal) {
	for _, id := range aside {
		if turn, ok := m.pool.Restore(m.s.time(), id); ok {
			m.endTurn(id, turn)
		}
	}
	plan := m.pool.Denied(m.s.time(), mk.Environment, string(why))
	for _, c := range plan.Fail {
		c.waits = nil
		m.refuse(c, why)
	}
	plan.Fail = nil
	m.carryOut(plan)
	m.changed()
}

// evict ends an environment that makes way for another.
func (m *manager) evict(id string) {
	m.s.report.Environments.Evicted++
	m.endEnvironment(id)
}

// endEnvironment ends what the pool has let go of.
func (m *manager) endEnvironment(id string) {
	e := m.environments[id]
	if e == nil || e.ended {
		return
	}
	e.ended = true
	m.use.hold(-e.places)
	m.s.after(goneTime, func() {
		delete(m.environments, id)
		m.s.gone(m, e)
		m.carryOut(m.pool.Gone(m.s.time(), id))
		m.changed()
	})
}

// changed has the offers looked at and the status told.
func (m *manager) changed() {
	m.kick()
	m.tellSoon()
}

// refuse answers a claim that it may come again later. It takes the lock first.
func (m *manager) refuse(c *call, why refusal) {
	if c.over {
		return
	}
	m.s.count(messageLock)
	m.s.count(messageAnswer)
	m.s.count(messageEnd)
	m.s.refused(c, why)
}

// tick looks at what time alone changes.
func (m *manager) tick() {
	plan := m.pool.Tick(m.s.time(), m.s.cfg.Fabric.KeepAlive, m.s.cfg.Fabric.Reclaim)
	for _, id := range plan.End {
		if e := m.environments[id]; e != nil && e.member {
			m.s.report.Environments.Reclaimed++
		} else {
			m.s.report.Environments.Expired++
		}
		m.endEnvironment(id)
	}
	ended := len(plan.End) > 0
	plan.End = nil
	m.carryOut(plan)
	if ended {
		m.kick()
	}
	for {
		id, ok := m.pool.Lapsed(m.s.time())
		if !ok {
			return
		}
		m.release(id)
	}
}

// share gives the pool this manager's share of a reservation.
func (m *manager) share(r *reservation) {
	to := pool.Share{Draining: r.limit == 0}
	if at := slices.IndexFunc(r.places, func(p subjects.Place) bool { return p.Manager == m.id }); at >= 0 {
		to.Members = r.places[at].Share
	}
	plan := m.pool.SetShare(m.s.time(), pool.Home{Key: r.of.key(""), Reservation: r.epoch}, r.of.spec(r.arc), to)
	m.carryOut(plan)
	m.seat(r.arc)
	m.changed()
}
