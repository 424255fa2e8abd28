package pool

import (
	"slices"
	"time"

	"github.com/hearth-run/hearth/schema"
)

// Action is what becomes of a claim.
type Action uint8

// The actions.
const (
	// Unknown: the pool has no group for this home yet and was given no Spec; ask again with one. Nothing changed.
	Unknown Action = iota
	// Run: start it in Decision.Environment.
	Run
	// Wait: the pool holds it until an environment parks; a Turn or a Plan will name it.
	Wait
	// Refuse: nothing covers it and there is no room. The pool has forgotten it.
	Refuse
	// Throttle: its sub-tenant has as many environments here as it may, and none that is idle. The pool has forgotten it.
	Throttle
)

// Make asks for an environment.
type Make struct {
	Environment string // its id
	Home        Home
	Spec        Spec
	Replaces    bool // it takes the place in a reservation of one that was bound to a sub-tenant
}

// Decision is what becomes of a claim, what must be done for it, and the facts it rests on.
type Decision struct {
	Action      Action
	Environment string       // of Run
	Start       schema.Start // of Run: warm, it was idle; specialised: it was generic
	Make        []Make       // an environment to make for it, or those that take the places of a reservation's that was bound
	End         []string     // environments evicted for them, or because its sub-tenant has as many as it may

	Idle, Cover, Waiting, Room int // of its home (Room: of the pool) as the claim met them
	Places                     int // that an environment of its home takes
}

// Claim decides about a claim for this home. spec may be nil; then [Unknown] is the answer where the pool has no group
// of this home, so that a warm call needs no record to be looked up. A claim of a reserved home makes nothing: it runs in a member
// or waits for one that covers it, else it is refused, without a spec too. [Pool.SetShare] makes members.
func (p *Pool[C]) Claim(now time.Time, home Home, spec *Spec, claim C) Decision {
	return p.claim(now, home, spec, claim, true)
}

// Warm is [Pool.Claim] for a claim for which nothing shall be made: where something would have to be, or it would be
// refused, [Unknown] is the answer and nothing changed. A claim of a sub-tenant takes what is its own, and of a reservation also a
// generic member; for unreserved generic ones Claim is asked, since another manager may have one that is its own. For the same reason it
// does not wait for one that takes longer than [Patience] to ask for its next call: see [Pool.Await].
func (p *Pool[C]) Warm(now time.Time, home Home, claim C) Decision {
	return p.claim(now, home, nil, claim, false)
}

func (p *Pool[C]) claim(now time.Time, home Home, spec *Spec, claim C, may bool) Decision {
	p.cool(now)
	if home.Tenant != "" {
		return p.claimBound(now, home, spec, claim, may)
	}
	g := p.groups[home]
	if g == nil {
		switch {
		case home.Reservation != 0 && may:
			return Decision{Action: Refuse, Room: p.Room(), Places: 1}
		case spec == nil:
			return Decision{}
		}
		g = p.newGroup(home, *spec)
	}
	if g.family != nil { // whose calls name a sub-tenant each, and this one names none
		defer p.settle(g)
		if !may {
			return Decision{}
		}
		return Decision{Action: Refuse, Room: p.Room(), Places: g.spec.Places}
	}
	d := Decision{Idle: g.idle, Cover: g.cover(), Waiting: len(g.claims), Room: p.Room(), Places: g.spec.Places}
	if !may && (p.draining || g.idle == 0 && len(g.claims) >= g.cover()) {
		return Decision{}
	}
	defer p.settle(g)
	if p.draining {
		d.Action = Refuse
		return d
	}
	if e := g.top; e != nil {
		p.move(now, e, busy)
		d.Action, d.Environment, d.Start = Run, e.id, schema.StartWarm
		return d
	}
	if len(g.claims) >= g.cover() {
		if home.Reservation != 0 || p.reach() < g.spec.Places {
			d.Action = Refuse
			return d
		}
		d.End = p.clear(now, g.spec.Places)
		d.Make = []Make{p.make(now, g)}
	}
	g.claims = append(g.claims, claim)
	p.waiting++
	d.Action = Wait
	return d
}

// Covered reports whether a claim for this home needs no further environment to be made.
func (p *Pool[C]) Covered(home Home) bool {
	if home.Tenant != "" {
		return !p.draining && p.coveredBound(home)
	}
	g := p.groups[home]
	return g != nil && !p.draining && (g.idle > 0 || g.cover() > len(g.claims))
}

// Abandon forgets a waiting claim, for instance past its start-by. It reports whether the claim waited.
func (p *Pool[C]) Abandon(now time.Time, home Home, claim C) bool {
	g := p.groups[home]
	p.now = now
	if g == nil {
		return false
	}
	at := slices.Index(g.claims, claim)
	if at < 0 {
		return false
	}
	p.unqueue(g, at)
	p.settle(g)
	return true
}

// Turn is what an environment does that is ready for a call.
type Turn[C comparable] struct {
	Run   bool
	Claim C             // of Run
	Start schema.Start  // of Run: cold for an environment's first call if it went there straight from its init; see Decision
	Init  time.Duration // of a cold Run
	First bool          // its init has just succeeded
	End   bool          // end the environment: nobody will name its home again, a reserved home lacks its places, or a cap or limit is exceeded
	Arc   string        // of the environment; "" if it got no turn, or is generic and unreserved
	More  *Plan[C]      // what is to be done because a reservation's generic one was bound; nil: nothing
}

// Parked says that an environment asks for a call: it takes the oldest that waits, or goes idle. init is the duration
// of its init, told with its first Parked. Unknown and closing environments get no turn.
func (p *Pool[C]) Parked(now time.Time, id string, init time.Duration) Turn[C] {
	e := p.environments[id]
	if e != nil && e.unasked && e.state == dying {
		p.move(now, e, closing)
		p.settle(e.group)
		return Turn[C]{End: true, Arc: e.group.spec.Arc}
	}
	if e == nil || e.state != starting && e.state != finishing {
		return Turn[C]{}
	}
	first := e.state == starting
	if first {
		e.init = init
		if s := e.group.share; s != nil {
			s.inited(now)
		}
	}
	t := p.turn(now, e)
	t.First = first
	return t
}

// Release says that the call for which an environment was chosen did not start in it, or that the one for which it was
// promised did not come, so it is ready for another.
func (p *Pool[C]) Release(now time.Time, id string) Turn[C] {
	e := p.environments[id]
	if e == nil || e.state != busy && e.state != promised {
		return Turn[C]{}
	}
	if e.state == busy {
		e.calls--
	}
	return p.turn(now, e)
}

func (p *Pool[C]) turn(now time.Time, e *environment[C]) Turn[C] {
	g := e.group
	if g.family != nil && g.family.generic == g {
		return p.turnGeneric(now, e)
	}
	defer p.settle(g)
	if len(g.claims) == 0 {
		return p.rest(now, e)
	}
	t := Turn[C]{Run: true, Claim: p.shift(g), Start: schema.StartWarm, Arc: g.spec.Arc}
	switch {
	case e.calls > 0:
	case g.family != nil:
		t.Start = schema.StartSpecialised
	default:
		t.Start, t.Init = schema.StartCold, e.init
	}
	p.move(now, e, busy)
	return t
}

// rest is the turn of an environment that no claim wants.
func (p *Pool[C]) rest(now time.Time, e *environment[C]) Turn[C] {
	g := e.group
	if g.spec.Past || p.draining || g.spares && p.owed > max(0, p.capacity-p.used) || g.tenant.over() {
		p.move(now, e, closing)
		return Turn[C]{End: true, Arc: g.spec.Arc}
	}
	p.move(now, e, idle)
	return Turn[C]{Arc: g.spec.Arc}
}

// Finished says that an environment has answered its call. A reusable one is offered from now on and asks for its next
// call soon; any other is about to go. arc is where it is offered, "" for one that was not busy.
func (p *Pool[C]) Finished(now time.Time, id string, reusable bool) (arc string) {
	e := p.environments[id]
	if e == nil || e.state != busy {
		return ""
	}
	if reusable && (e.group.tenant.over() || p.sheds(e.group)) {
		e.unasked, reusable = true, false
	}
	if reusable {
		if s := e.group.kept(); s != nil {
			s.deaths = 0
		}
		p.move(now, e, finishing)
	} else {
		p.move(now, e, dying)
	}
	p.settle(e.group)
	return e.group.spec.Arc
}

// shift takes the oldest waiting claim.
func (p *Pool[C]) shift(g *group[C]) C {
	claim := g.claims[0]
	p.unqueue(g, 0)
	return claim
}

// unqueue takes a waiting claim out.
func (p *Pool[C]) unqueue(g *group[C], at int) {
	g.claims = slices.Delete(g.claims, at, at+1)
	if g.family != nil {
		g.came = slices.Delete(g.came, at, at+1)
	}
	p.waiting--
}
