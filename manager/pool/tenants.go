package pool

import (
	"slices"
	"time"
)

// tenants are the sub-tenants of one function that have something here, or wait for it, and how much each may have.
//
// The limit bounds the environments that are bound to a sub-tenant, idle ones too, and the claims of it that will bind one more: over all
// versions and reservations of the function, on this manager. What it asks for beyond that gets the place of an idle one of its own, the
// least recently used (one of another version, or off the reserved arc, else the call would be warm there), or of one that has answered,
// which ends instead of asking for its next call; or is throttled. So nobody else's environments pay for a noisy sub-tenant.
//
// A call that has been answered counts against nobody's next one, however long its environment takes to ask for that: where the sub-tenant
// may have no other here, the next call waits for it, for longer than [Patience] too, once its manager has found none that is idle
// elsewhere, and until it may have another. One that never asks is ended by its worker.
type tenants[C comparable] struct {
	most int // each; 0: no limit
	of   map[string]*tenant[C]
}

// tenant is what one sub-tenant of a function has here.
type tenant[C comparable] struct {
	of     *tenants[C]
	groups []*group[C] // one a version and reservation, so that looking at all of them is cheap
}

// SetTenantLimit sets how many environments each sub-tenant of a function may have here; 0 is no limit. Where one has more, idle ones end,
// whose ids it gives, least recently used first, and the others when their calls have ended, or promises lapsed.
func (p *Pool[C]) SetTenantLimit(now time.Time, of Scope, most int) (end []string) {
	p.now = now
	t := p.tenants[of]
	switch {
	case t == nil && most <= 0:
		return nil
	case t == nil:
		t = &tenants[C]{of: make(map[string]*tenant[C])}
		p.tenants[of] = t
	}
	if t.most > 0 {
		p.limits--
	}
	if t.most = max(0, most); t.most > 0 {
		p.limits++
	} else if len(t.of) == 0 {
		delete(p.tenants, of)
	}
	for _, one := range t.of {
		for one.over() {
			e := one.idlest()
			if e == nil {
				break
			}
			end = append(end, p.end(now, e))
		}
	}
	return end
}

// TenantsLimited reports whether the sub-tenants of a function are limited. Where none is it looks nothing up.
func (p *Pool[C]) TenantsLimited(of Scope) bool {
	if p.limits == 0 {
		return false
	}
	t := p.tenants[of]
	return t != nil && t.most > 0
}

// Full reports whether the sub-tenant of a home has as many environments here as it may, and all of them run calls, or will run what
// waits.
func (p *Pool[C]) Full(account, function string, home Home) bool {
	return p.tenant(&Spec{Account: account, Function: function}, home.Tenant).stuck()
}

// tenant is what a sub-tenant has here, nil if nothing.
func (p *Pool[C]) tenant(spec *Spec, name string) *tenant[C] {
	if t := p.tenants[Scope{spec.Account, spec.Function}]; t != nil {
		return t.of[name]
	}
	return nil
}

// serve makes a group one of its sub-tenant's.
func (p *Pool[C]) serve(g *group[C]) {
	of := Scope{g.spec.Account, g.spec.Function}
	t := p.tenants[of]
	if t == nil {
		t = &tenants[C]{of: make(map[string]*tenant[C])}
		p.tenants[of] = t
	}
	one := t.of[g.home.Tenant]
	if one == nil {
		one = &tenant[C]{of: t}
		t.of[g.home.Tenant] = one
	}
	one.groups = append(one.groups, g)
	g.tenant = one
}

// unserve undoes serve for a group that has nothing.
func (p *Pool[C]) unserve(g *group[C]) {
	one := g.tenant
	one.groups = slices.DeleteFunc(one.groups, func(other *group[C]) bool { return other == g })
	if len(one.groups) > 0 {
		return
	}
	delete(one.of.of, g.home.Tenant)
	if len(one.of.of) == 0 && one.of.most == 0 {
		delete(p.tenants, Scope{g.spec.Account, g.spec.Function})
	}
}

// limited reports whether there is a limit.
func (t *tenant[C]) limited() bool { return t != nil && t.of.most > 0 }

// ready is how many environments are bound to it; those told to end, or about to end by themselves, do not count.
func (t *tenant[C]) ready() (n int) {
	for _, g := range t.groups {
		n += g.ready()
	}
	return n
}

// takes is how many it will have when its claims have theirs. Its groups are settled.
func (t *tenant[C]) takes() (n int) {
	for _, g := range t.groups {
		n += g.ready() + g.need
	}
	return n
}

// full reports whether one more would be one too many.
func (t *tenant[C]) full() bool { return t.limited() && t.takes() >= t.of.most }

// over reports whether it has more than it may.
func (t *tenant[C]) over() bool { return t.limited() && t.ready() > t.of.most }

// idlest is the idle one that was used least recently, nil if none is idle.
func (t *tenant[C]) idlest() (first *environment[C]) {
	if t == nil {
		return nil
	}
	for _, g := range t.groups {
		if e := g.bottom; e != nil && (first == nil || e.rested < first.rested) {
			first = e
		}
	}
	return first
}

// spared is the finishing one that answered first of those that no claim waits for, nil if there is none.
func (t *tenant[C]) spared() (first *environment[C]) {
	for _, g := range t.groups {
		if len(g.ends) <= min(len(g.claims), g.fresh) {
			continue
		}
		one := g.ends[0]
		if at := slices.IndexFunc(g.ends, func(e *environment[C]) bool { return !e.cover }); at >= 0 {
			one = g.ends[at]
		}
		if first == nil || one.rested < first.rested {
			first = one
		}
	}
	return first
}

// stuck reports whether it gets nothing more: it has all that it may, and nothing that could make way.
func (t *tenant[C]) stuck() bool { return t.full() && t.idlest() == nil && t.spared() == nil }

// holds reports whether one more claim of a group can but wait for one that has answered and takes longer than Patience to ask for it.
func (g *group[C]) holds() bool {
	return g.finish > g.fresh && len(g.claims) >= g.fresh && g.tenant.full() && g.tenant.idlest() == nil
}

// Await is [Pool.Claim] for a claim that can but wait for an environment which has answered and takes longer than [Patience] to ask for its
// next call, since its sub-tenant may have no other. For any other claim [Unknown] is the answer and nothing changed.
func (p *Pool[C]) Await(now time.Time, home Home, claim C) Decision {
	if g := p.groups[home]; g == nil || p.draining || !g.holds() {
		return Decision{}
	}
	return p.claim(now, home, nil, claim, true)
}

// hold has such a one of a group cover again, and reports whether there was one.
func (p *Pool[C]) hold(g *group[C]) bool {
	at := slices.IndexFunc(g.ends, func(e *environment[C]) bool { return !e.cover })
	if at < 0 {
		return false
	}
	g.ends[at].cover, g.ends[at].held = true, true
	g.fresh++
	p.held.append(g.ends[at])
	return true
}

// unhold ends that: who may have others need not wait.
func (p *Pool[C]) unhold(g *group[C]) {
	for _, e := range g.ends {
		if e.held {
			p.uncover(e)
		}
	}
}

// relieve looks again at the claims that wait for such ones. Where their sub-tenant may have another by now, because its limit was raised or
// because another environment of its own went, or went idle, they are covered as new claims would be, if anything here can cover them. And what
// none of them waits for any more covers nothing.
func (p *Pool[C]) relieve(now time.Time, plan *Plan[C]) {
	var all []*environment[C]
	for e := p.held.first; e != nil; e = e.next {
		all = append(all, e)
	}
	for _, e := range all {
		g := e.group
		switch {
		case !e.held: // it was of one that came before
		case len(g.claims) < g.fresh:
			p.uncover(e)
			p.settle(g)
		case p.another(g):
			p.cover(now, g, plan)
			p.settle(g)
		}
	}
}

// another reports whether claims of a group need not wait for what is slow: there is something else that its sub-tenant may have. Those of
// a reservation need not either where they would be moved off its arc.
func (p *Pool[C]) another(g *group[C]) bool {
	f, full := g.family, g.tenant.full()
	switch {
	case full && g.tenant.idlest() == nil:
		return false
	case f.generic.idle > 0 || f.need < f.generic.start:
		return true
	case g.home.Reservation != 0:
		return !full
	default:
		return p.Room() >= g.spec.Places
	}
}

// exchange has one of a sub-tenant's own make way, if it is to get another and has as many as it may: the idle one that it used least
// recently, else one that has answered.
func (p *Pool[C]) exchange(now time.Time, t *tenant[C], full bool, d *Decision) {
	if !full {
		return
	}
	if e := t.idlest(); e != nil {
		d.End = append(d.End, p.end(now, e))
		return
	}
	p.finishes(now, t.spared())
}

// finishes has one that has answered end when it asks for its next call. It holds no place of its sub-tenant's limit any more.
func (p *Pool[C]) finishes(now time.Time, e *environment[C]) {
	e.unasked = true
	p.move(now, e, dying)
	p.settle(e.group)
}

// trim has a group's claims fit into its sub-tenant's limit again, after one that it waited for turned out to cover nothing: an idle one of
// its own makes way; else they wait on for that one after all, or another that has answered makes way; else the claim that came last is
// let go, to be throttled when it comes again.
func (p *Pool[C]) trim(now time.Time, g *group[C], plan *Plan[C]) {
	for t := g.tenant; t.limited() && g.need > 0 && t.takes() > t.of.most; p.settle(g) {
		if e := t.idlest(); e != nil {
			plan.End = append(plan.End, p.end(now, e))
		} else if p.hold(g) {
			continue
		} else if e := t.spared(); e != nil {
			p.finishes(now, e)
		} else {
			p.refuseLast(g, plan)
		}
	}
}
