package pool

import (
	"slices"
	"time"

	"github.com/hearth-run/hearth/schema"
)

// family is the environments of a function version with sub-tenants, of one reservation or the unreserved ones (DESIGN 7): one group of
// generic ones, in the home without a sub-tenant, and a group for each sub-tenant of those that were bound to it. Environments are
// made generic only, and go from the generic group to a sub-tenant's with a claim of that. They never come back, and never go to
// another.
//
//	claim of A ── one of A's is idle ─────────────► it runs there: warm
//	           ── one of A's is finishing ────────► it waits for it: A's next call shall not bind a second one
//	           ── a generic one is idle ──────────► that is A's from now on: specialised
//	           ── a generic one starts ───────────► it waits; with room one more is made (never of a reservation)
//	a generic one parks ── more claims of anybody wait than their own finishing ones cover ──► it is bound to the oldest's sub-tenant
//
// What covers claims is counted over the whole family: need is how many wait beyond what their own sub-tenants' finishing ones cover.
// No claim needs a generic one while one is idle, and never more need one than start.
//
// A reservation's share is generic members. One that is bound leaves it, is replaced at once, and is from then on as unreserved ones
// are: it may be evicted, and ends after the keep-alive; but it stays on the reservation's arc. An unreserved generic one that no
// claim took is offered nowhere, since its arc would depend on the sub-tenant: it counts as room, and whoever comes for that finds it.
type family[C comparable] struct {
	generic *group[C]
	bound   []*group[C]
	short   []*group[C] // those of bound with a need, as a heap: first the one whose claim has needed a generic one for longest
	need    int
	left    int // members of the share that were bound and not replaced yet
}

// generic is the home of the generic environments of a sub-tenant's family.
func (h Home) generic() Home {
	h.Tenant = ""
	return h
}

// join makes a group part of its family: its first, or that of one more sub-tenant.
func (p *Pool[C]) join(g *group[C]) {
	if g.home.Tenant == "" {
		g.family = &family[C]{generic: g}
		if g.home.Reservation == 0 {
			g.spec.Arc = ""
		}
		return
	}
	at := g.home.generic()
	generic := p.groups[at]
	if generic == nil {
		generic = p.newGroup(at, g.spec)
	}
	g.family = generic.family
	g.at = len(g.family.bound)
	g.family.bound = append(g.family.bound, g)
	p.serve(g)
}

// leave takes a group that is empty out of its family. It reports false for a generic one of which others are left.
func (p *Pool[C]) leave(g *group[C]) bool {
	f := g.family
	switch {
	case f == nil:
	case f.generic != g:
		last := len(f.bound) - 1
		f.bound[g.at], f.bound[last].at = f.bound[last], g.at
		f.bound[last], f.bound = nil, f.bound[:last]
		p.unserve(g)
	default:
		return len(f.bound) == 0
	}
	return true
}

// settleNeed brings what a group needs of its family up to date, and gives the claims that what it has itself has to cover.
func (p *Pool[C]) settleNeed(g *group[C]) (waiting int) {
	f := g.family
	if f.generic == g {
		return f.need
	}
	need := max(0, len(g.claims)-g.fresh)
	if need > 0 {
		g.since = g.came[g.fresh]
	}
	switch {
	case need > 0 && g.short == 0:
		f.short = append(f.short, g)
		g.short = len(f.short)
		f.sift(g)
	case need > 0:
		f.sift(g)
	case g.short > 0:
		f.unshort(g)
	}
	f.need += need - g.need
	g.need = need
	return len(g.claims)
}

// neediest is the group whose claim has needed a generic environment for longest, nil if none does. Its oldest claim gets it.
func (f *family[C]) neediest() *group[C] {
	if len(f.short) == 0 {
		return nil
	}
	return f.short[0]
}

// sift moves a group of short to where it belongs: as many may wait as there are sub-tenants, and each environment that becomes ready
// asks for the first.
func (f *family[C]) sift(g *group[C]) {
	for at := g.short; at > 1 && g.since < f.short[at/2-1].since; at = g.short {
		f.swap(at, at/2)
	}
	for at := g.short; 2*at <= len(f.short); at = g.short {
		next := 2 * at
		if next < len(f.short) && f.short[next].since < f.short[next-1].since {
			next++
		}
		if g.since <= f.short[next-1].since {
			return
		}
		f.swap(at, next)
	}
}

func (f *family[C]) swap(i, j int) {
	f.short[i-1], f.short[j-1] = f.short[j-1], f.short[i-1]
	f.short[i-1].short, f.short[j-1].short = i, j
}

// unshort takes a group out of short.
func (f *family[C]) unshort(g *group[C]) {
	at, last := g.short, len(f.short)
	f.swap(at, last)
	f.short[last-1], f.short, g.short = nil, f.short[:last-1], 0
	if at < last {
		f.sift(f.short[at-1])
	}
}

// newest is the group with a need whose claim came last.
func (f *family[C]) newest() (last *group[C]) {
	for _, g := range f.short {
		if last == nil || g.came[len(g.came)-1] > last.came[len(last.came)-1] {
			last = g
		}
	}
	return last
}

// kept is the share that a group's environments were made for, nil if none.
func (g *group[C]) kept() *share {
	if g.family != nil {
		return g.family.generic.share
	}
	return g.share
}

// warmth is how a claim finds an environment that waits for one: one of a sub-tenant whose first call never came is bound in truth by
// the next.
func (e *environment[C]) warmth() schema.Start {
	if e.calls == 0 && e.group.family != nil {
		return schema.StartSpecialised
	}
	return schema.StartWarm
}

// bind makes a generic environment a sub-tenant's, for a claim that runs there now.
func (p *Pool[C]) bind(now time.Time, e *environment[C], to *group[C]) {
	from := e.group
	p.move(now, e, busy)
	from.busy--
	from.all--
	e.group = to
	to.busy++
	to.all++
	if from.share != nil && from.members() < from.share.Members {
		to.family.left++
	}
	p.settle(to)
}

// claimBound is claim for a sub-tenant.
func (p *Pool[C]) claimBound(now time.Time, home Home, spec *Spec, claim C, may bool) Decision {
	generic := p.groups[home.generic()]
	g := p.groups[home]
	own := g != nil && (g.idle > 0 || len(g.claims) < g.fresh)
	if !may && (p.draining || !own && (home.Reservation == 0 || generic == nil || generic.idle == 0 || g != nil && g.holds() ||
		p.barred(generic, home.Tenant))) {
		return Decision{}
	}
	switch {
	case g != nil:
	case home.Reservation != 0 && generic == nil, generic != nil && generic.family == nil:
		return Decision{Action: Refuse, Room: p.Room(), Places: 1}
	case home.Reservation != 0:
		g = p.newGroup(home, generic.spec)
	case spec == nil:
		return Decision{}
	default:
		g = p.newGroup(home, *spec)
	}
	f, t := g.family, g.tenant
	generic = f.generic
	full := t.full()
	d := Decision{Idle: g.idle + generic.idle, Cover: g.fresh + generic.start, Waiting: len(g.claims), Room: p.Room(), Places: g.spec.Places}
	defer p.settle(g)
	switch {
	case p.draining:
		d.Action = Refuse
		return d
	case g.top != nil:
		d.Action, d.Environment, d.Start = Run, g.top.id, g.top.warmth()
		p.move(now, g.top, busy)
		return d
	case len(g.claims) < g.fresh:
	case g.holds():
		p.hold(g)
	case t.stuck():
		d.Action = Throttle
		return d
	case generic.top != nil:
		p.exchange(now, t, full, &d)
		d.Action, d.Environment, d.Start = Run, generic.top.id, schema.StartSpecialised
		p.bind(now, generic.top, g)
		p.replace(now, f, &d)
		return d
	case f.need < generic.start:
		p.exchange(now, t, full, &d)
	case home.Reservation != 0 || p.reach() < g.spec.Places:
		d.Action = Refuse
		return d
	default:
		p.exchange(now, t, full, &d)
		d.End = append(d.End, p.clear(now, g.spec.Places)...)
		d.Make = []Make{p.make(now, generic)}
	}
	p.came++
	g.claims, g.came = append(g.claims, claim), append(g.came, p.came)
	p.waiting++
	d.Action = Wait
	return d
}

// barred reports whether nothing more may be bound to a sub-tenant.
func (p *Pool[C]) barred(generic *group[C], name string) bool {
	return p.tenant(&generic.spec, name).stuck()
}

// coveredBound is Covered for a sub-tenant.
func (p *Pool[C]) coveredBound(home Home) bool {
	if g := p.groups[home]; g != nil && (g.idle > 0 || len(g.claims) < g.fresh || g.holds()) {
		return true
	}
	generic := p.groups[home.generic()]
	return generic != nil && generic.family != nil && (generic.idle > 0 || generic.family.need < generic.start)
}

// replace makes the members that a share lacks because one was bound.
func (p *Pool[C]) replace(now time.Time, f *family[C], d *Decision) {
	if f.generic.share == nil {
		return
	}
	var plan Plan[C]
	p.refill(now, &plan)
	d.Make, d.End = append(d.Make, plan.Make...), append(d.End, plan.End...)
}

// redeemGeneric is Redeem of a generic member for a sub-tenant.
func (p *Pool[C]) redeemGeneric(now time.Time, e *environment[C], home Home) Decision {
	if p.barred(e.group, home.Tenant) {
		return Decision{}
	}
	g := p.groups[home]
	if g == nil {
		g = p.newGroup(home, e.group.spec)
	}
	d := Decision{Action: Run, Environment: e.id, Start: schema.StartSpecialised, Places: g.spec.Places}
	p.exchange(now, g.tenant, g.tenant.full(), &d)
	p.bind(now, e, g)
	p.replace(now, g.family, &d)
	return d
}

// turnGeneric is turn for a generic environment.
func (p *Pool[C]) turnGeneric(now time.Time, e *environment[C]) Turn[C] {
	from, began := e.group, e.state == starting
	defer p.settle(from)
	g := from.family.neediest()
	if g == nil {
		return p.rest(now, e)
	}
	t := Turn[C]{Run: true, Claim: p.shift(g), Start: schema.StartSpecialised, Arc: g.spec.Arc}
	if began {
		t.Start, t.Init = schema.StartCold, e.init
	}
	p.bind(now, e, g)
	if from.share != nil {
		t.More = &Plan[C]{}
		p.refill(now, t.More)
	}
	return t
}

// coverFamily is cover for a family.
func (p *Pool[C]) coverFamily(now time.Time, f *family[C], plan *Plan[C]) {
	generic := f.generic
	for g := f.neediest(); g != nil && generic.top != nil; g = f.neediest() {
		e := generic.top
		plan.Run = append(plan.Run, Started[C]{p.shift(g), e.id})
		p.bind(now, e, g)
		if generic.share != nil {
			p.refill(now, plan)
		}
	}
	for f.need > generic.start {
		if generic.home.Reservation == 0 && p.Room() >= generic.spec.Places {
			plan.End = append(plan.End, p.clear(now, generic.spec.Places)...)
			plan.Make = append(plan.Make, p.make(now, generic))
			continue
		}
		g := f.newest()
		p.refuseLast(g, plan)
		p.settle(g)
	}
	p.settle(generic)
}

// endBound ends what was bound to sub-tenants of a home that drains and that nobody used for so long.
func (p *Pool[C]) endBound(now time.Time, f *family[C], window time.Duration, plan *Plan[C]) {
	if f == nil {
		return
	}
	for _, g := range slices.Clone(f.bound) {
		for g.bottom != nil && now.Sub(g.bottom.since) > window {
			plan.End = append(plan.End, p.end(now, g.bottom))
		}
	}
}
