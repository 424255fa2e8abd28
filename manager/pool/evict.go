package pool

import "time"

// Scope is whose environments a cap counts: those of one function by its name, whatever became of the name, or all with the zero
// value.
type Scope struct{ Account, Function string }

func (s Scope) has(spec *Spec) bool {
	return s == Scope{} || s.Function == spec.Function && s.Account == spec.Account
}

// Evict takes the least recently used idle unreserved environment of a scope out of the pool's use, for its owner to end. ok is false
// where there is none. It serves caps on the number of environments: for room the pool evicts by itself.
func (p *Pool[C]) Evict(now time.Time, of Scope) (id string, ok bool) {
	for e := p.idle.first; e != nil; e = e.next {
		if of.has(&e.group.spec) {
			return p.end(now, e), true
		}
	}
	return "", false
}

// LongestIdle is for how long the environment has been idle that [Pool.Evict] would take, 0 where there is none.
func (p *Pool[C]) LongestIdle(now time.Time, of Scope) time.Duration {
	for e := p.idle.first; e != nil; e = e.next {
		if of.has(&e.group.spec) {
			return max(1, now.Sub(e.since))
		}
	}
	return 0
}

// Warms reports whether an environment of this home is idle that claims of it may use.
func (p *Pool[C]) Warms(home Home) bool {
	g := p.groups[home]
	return g != nil && g.idle > 0 && !g.spec.Past && !p.draining
}

// Needs is the home whose oldest claim gets an environment of this one that is being made, and fails where it is not made: for a
// generic environment that of the sub-tenant that has needed one for longest. ok is false where no claim needs one: what has just
// answered is there for all that wait.
func (p *Pool[C]) Needs(home Home) (of Home, ok bool) {
	g := p.groups[home]
	switch {
	case g == nil:
		return of, false
	case g.family != nil:
		if g = g.family.neediest(); g == nil {
			return of, false
		}
	case len(g.claims) <= g.fresh:
		return of, false
	}
	return g.home, true
}

// Within reports whether an environment that has not gone is one of a scope.
func (p *Pool[C]) Within(of Scope, id string) bool {
	e := p.environments[id]
	return e != nil && of.has(&e.group.spec)
}

// Restore undoes that an idle environment was taken out of the pool's use in place of one that is not made after all: it gets its turn
// again. ok is false where it has gone meanwhile. The one in whose place it is back is unmade by the next call, until when there may
// be too many.
func (p *Pool[C]) Restore(now time.Time, id string) (turn Turn[C], ok bool) {
	e := p.environments[id]
	if e == nil || e.state != closing {
		return turn, false
	}
	if t := e.group.tenant; t.limited() && t.ready() >= t.of.most {
		return Turn[C]{End: true, Arc: e.group.spec.Arc}, true
	}
	p.used += e.group.spec.Places
	return p.turn(now, e), true
}

// Shed has so many unreserved environments of a scope end that are too many for its cap: idle ones now, whose ids it gives, least
// recently used first, and the others when their calls have ended, instead of being offered again. Those on their way out count. It
// replaces what was said of the scope before; 0 ends it.
func (p *Pool[C]) Shed(now time.Time, of Scope, n int) (end []string) {
	delete(p.shed, of)
	if n <= 0 {
		return nil
	}
	p.now = now
	for _, g := range p.groups {
		if of.has(&g.spec) {
			n -= g.all - g.members()
		}
	}
	for ; n > 0; n-- {
		id, ok := p.Evict(now, of)
		if !ok {
			break
		}
		end = append(end, id)
	}
	if n > 0 {
		p.shed[of] = n
	}
	return end
}

// sheds reports whether an environment whose call has ended is one too many.
func (p *Pool[C]) sheds(g *group[C]) bool {
	if len(p.shed) == 0 || !g.spares {
		return false
	}
	for _, of := range [2]Scope{{g.spec.Account, g.spec.Function}, {}} {
		if n := p.shed[of]; n > 1 {
			p.shed[of] = n - 1
			return true
		} else if n == 1 {
			delete(p.shed, of)
			return true
		}
	}
	return false
}
