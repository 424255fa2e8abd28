package pool

import "time"

// PromiseFor is how long an environment is kept for a claim that another manager sends (DESIGN 2).
const PromiseFor = 100 * time.Millisecond

// Promise keeps an idle environment of this home for a claim that another manager will send, and gives the number by which
// [Pool.Redeem] finds it; 0 is none. A promised environment is neither offered nor evicted. arc is where it was offered. On a
// reserved arc, where a sub-tenant has none of its own, a generic one is promised, which stays generic until then.
func (p *Pool[C]) Promise(now time.Time, home Home) (number uint64, arc string) {
	g := p.groups[home]
	if home.Tenant != "" && home.Reservation != 0 && (g == nil || g.top == nil) {
		if g = p.groups[home.generic()]; g != nil && p.barred(g, home.Tenant) {
			return 0, ""
		}
	}
	if p.draining || g == nil || g.spec.Past || g.top == nil || home.Tenant == "" && g.family != nil {
		return 0, ""
	}
	e := g.top
	p.move(now, e, promised)
	p.settle(g)
	return e.promise, g.spec.Arc
}

// Redeem runs a claim of this home in the environment that was promised under this number. [Unknown] is the answer where the
// promise has lapsed, or was another's.
func (p *Pool[C]) Redeem(now time.Time, home Home, number uint64) Decision {
	e := p.promises[number]
	switch {
	case e == nil:
		return Decision{}
	case e.group.home == home && (home.Tenant != "" || e.group.family == nil):
	case home.Tenant != "" && e.group.home == home.generic():
		return p.redeemGeneric(now, e, home)
	default:
		return Decision{}
	}
	d := Decision{Action: Run, Environment: e.id, Start: e.warmth(), Places: e.group.spec.Places}
	p.move(now, e, busy)
	p.settle(e.group)
	return d
}

// Lapsed names an environment whose promise is older than [PromiseFor]; [Pool.Release] makes it ready for others.
func (p *Pool[C]) Lapsed(now time.Time) (id string, ok bool) {
	if e := p.promised.first; e != nil && now.Sub(e.since) > PromiseFor {
		return e.id, true
	}
	return "", false
}
