package pool

import (
	"time"

	"github.com/hearth-run/hearth/schema"
)

// Plan is what to do after something changed that no single claim asked for.
type Plan[C comparable] struct {
	Make   []Make
	End    []string // environments to end
	Fail   []C      // claims whose environment's init failed and which nothing else covers
	Refuse []C      // claims that lost their cover and for which there is no room, newest first
	Run    []Started[C]
}

// Started is a waiting claim that a generic environment runs, bound to its sub-tenant now.
type Started[C comparable] struct {
	Claim       C
	Environment string
}

// Failed says that the init of an environment failed, and why. The oldest claim of its home fails with it if more wait than are
// covered; the others are covered anew.
func (p *Pool[C]) Failed(now time.Time, id, why string) Plan[C] {
	return p.unmade(now, id, func(s *share) { s.failed(now, why) })
}

// Denied is [Pool.Failed] for an environment that might not be made, for instance because a cap is reached: no init failed. Members of
// a reservation are tried again soon, one at a time until one is made.
func (p *Pool[C]) Denied(now time.Time, id, why string) Plan[C] {
	return p.unmade(now, id, func(s *share) { s.denied(now, why) })
}

func (p *Pool[C]) unmade(now time.Time, id string, note func(*share)) Plan[C] {
	var plan Plan[C]
	e := p.environments[id]
	if e == nil {
		return plan
	}
	g, was := e.group, e.state
	p.drop(now, e)
	if was == starting {
		p.failOldest(g, &plan)
	}
	if was == starting && g.share != nil {
		note(g.share)
	}
	p.settle(g)
	p.refill(now, &plan)
	p.cover(now, g, &plan)
	p.settle(g)
	return plan
}

// Gone says that an environment has ended, for whatever reason.
func (p *Pool[C]) Gone(now time.Time, id string) Plan[C] {
	var plan Plan[C]
	e := p.environments[id]
	if e == nil {
		return plan
	}
	g := e.group
	if g.share != nil && e.state == idle && e.calls == 0 && now.Sub(e.since) < early {
		g.share.died(now)
	}
	p.drop(now, e)
	p.settle(g)
	p.refill(now, &plan)
	p.cover(now, g, &plan)
	p.settle(g)
	return plan
}

// Tick looks at the time: finishing environments that have not parked for [Patience] no longer cover; claims that wait for such ones
// because their sub-tenant might have no other get another where it may by now; idle unreserved ones that
// nobody has used for keepAlive end, keepAlive 0 keeps them for ever; and members of reservations above their share end that the
// reclaim window has shown to be idle.
func (p *Pool[C]) Tick(now time.Time, keepAlive, reclaim time.Duration) Plan[C] {
	var plan Plan[C]
	p.now = now
	p.cool(now)
	for e := p.finishing.first; e != nil && now.Sub(e.since) > Patience; e = p.finishing.first {
		p.uncover(e)
		p.cover(now, e.group, &plan)
		p.settle(e.group)
	}
	p.relieve(now, &plan)
	for e := p.idle.first; keepAlive > 0 && e != nil && now.Sub(e.since) > keepAlive; e = p.idle.first {
		plan.End = append(plan.End, p.end(now, e))
	}
	p.tend(now, reclaim, &plan)
	return plan
}

// Retain marks the homes of a function that no new call should name: those whose key current refuses. Their idle
// environments end now, the others when they go idle.
func (p *Pool[C]) Retain(now time.Time, functionID string, current func(schema.Key) bool) Plan[C] {
	var plan Plan[C]
	for home, g := range p.groups {
		if home.FunctionID != functionID {
			continue
		}
		g.spec.Past = !current(home.Key)
		for g.spec.Past && g.top != nil {
			plan.End = append(plan.End, p.end(now, g.top))
		}
		p.settle(g)
	}
	return plan
}

// Rehome moves the offers of unreserved environments to other arcs, after the number of arcs has changed.
func (p *Pool[C]) Rehome(arc func(Home, Spec) string) {
	for home, g := range p.groups {
		if home.Reservation != 0 || g.family != nil && g.family.generic == g {
			continue
		}
		if to := arc(home, g.spec); to != g.spec.Arc {
			if n := p.arcs[g.spec.Arc] - g.offered; n == 0 {
				delete(p.arcs, g.spec.Arc)
			} else {
				p.arcs[g.spec.Arc] = n
			}
			g.offered, g.spec.Arc = 0, to
			p.settle(g)
		}
	}
}

// Drain stops the pool: nothing is offered and no claim taken any more, waiting claims are refused, idle environments and
// promised ones end, and the others when they have done.
func (p *Pool[C]) Drain(now time.Time) Plan[C] {
	var plan Plan[C]
	p.draining = true
	for _, g := range p.groups {
		plan.Refuse = append(plan.Refuse, g.claims...)
		p.waiting -= len(g.claims)
		g.claims, g.came = nil, nil
		for g.top != nil {
			plan.End = append(plan.End, p.end(now, g.top))
		}
		p.settle(g)
	}
	for p.promised.first != nil {
		plan.End = append(plan.End, p.end(now, p.promised.first))
	}
	return plan
}

// Resume undoes [Pool.Drain]: claims are taken and what still runs is offered again when it is idle.
func (p *Pool[C]) Resume() {
	p.draining = false
	for _, g := range p.groups {
		p.settle(g)
	}
}

// cover makes environments until every waiting claim of the group is covered, or refuses what cannot be: of a reserved home what
// its members do not cover.
func (p *Pool[C]) cover(now time.Time, g *group[C], plan *Plan[C]) {
	if g.family != nil {
		p.unhold(g)
		p.settle(g) // so that it is known what its family needs
		p.trim(now, g, plan)
		p.coverFamily(now, g.family, plan)
		return
	}
	for len(g.claims) > g.cover() {
		if g.home.Reservation == 0 && p.Room() >= g.spec.Places {
			plan.End = append(plan.End, p.clear(now, g.spec.Places)...)
			plan.Make = append(plan.Make, p.make(now, g))
			continue
		}
		p.refuseLast(g, plan)
	}
}

func (p *Pool[C]) refuseLast(g *group[C], plan *Plan[C]) {
	last := len(g.claims) - 1
	plan.Refuse = append(plan.Refuse, g.claims[last])
	p.unqueue(g, last)
}

// failOldest has the oldest claim fail with an init that failed, if more wait than are covered.
func (p *Pool[C]) failOldest(g *group[C], plan *Plan[C]) {
	if f := g.family; f != nil {
		if f.need <= g.cover() {
			return
		}
		g = f.neediest()
	} else if len(g.claims) <= g.cover() {
		return
	}
	plan.Fail = append(plan.Fail, p.shift(g))
	p.settle(g)
}

// clear frees places, if it must by ending the least recently used idle unreserved environments. The caller has seen that there
// is as much room.
func (p *Pool[C]) clear(now time.Time, places int) (end []string) {
	for p.capacity-p.used < places {
		end = append(end, p.end(now, p.victim()))
	}
	return end
}

// end takes an idle environment out of the pool's use; its places are free at once.
func (p *Pool[C]) end(now time.Time, e *environment[C]) string {
	p.move(now, e, closing)
	p.settle(e.group)
	return e.id
}
