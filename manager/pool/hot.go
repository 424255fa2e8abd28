package pool

import "time"

// An idle environment is hot until it has been idle for as long as its init took: what has just run is likely to run again, and to make it
// anew would cost that much. It is no room for another until then. Without that a fabric at its limit works for inits: of two functions
// that take turns each ends the other's between two calls (measured: a burst of 1,500 calls a second for 320 places made
// 3,045 environments where 205 would have done, and 710 since; DESIGN 2). A claim that came back so often that it has waited for as long
// is let in ([Pool.Press]), and members of reservations are made in the place of hot ones too.

// MostHot is for how long an environment is hot at most, however long its init took.
const MostHot = time.Second

// Hot is the places beyond [Pool.Room] of hot environments: what claims that press may have. 0 while draining.
func (p *Pool[C]) Hot() int {
	if p.draining {
		return 0
	}
	return max(0, p.room()-p.owed) - p.Room()
}

// Press is [Pool.Claim] for a claim that has waited for so long that hot environments make way for it, where nothing else does.
func (p *Pool[C]) Press(now time.Time, home Home, spec *Spec, claim C) Decision {
	p.pressed = true
	defer func() { p.pressed = false }()
	return p.claim(now, home, spec, claim, true)
}

// reach is the places for the claim that is decided on.
func (p *Pool[C]) reach() int {
	if p.pressed {
		return p.Room() + p.Hot()
	}
	return p.Room()
}

// heat is for how long an environment that goes idle is hot.
func (e *environment[C]) heat() time.Duration { return min(e.init, MostHot) }

// heated counts one that went idle and may be evicted.
func (p *Pool[C]) heated(e *environment[C]) {
	if e.heat() <= 0 {
		return
	}
	if at := e.since.Add(e.heat()); p.hot == 0 || at.Before(p.cools) {
		p.cools = at
	}
	e.hot = true
	p.hot += e.group.spec.Places
}

func (p *Pool[C]) cooled(e *environment[C]) {
	if e.hot {
		e.hot = false
		p.hot -= e.group.spec.Places
	}
}

// cool looks which of the hot ones have been idle for long enough by now. They are among the last that went idle.
func (p *Pool[C]) cool(now time.Time) {
	if p.hot == 0 || now.Before(p.cools) {
		return
	}
	p.cools = now.Add(MostHot)
	for e, left := p.idle.last, p.hot; left > 0; e = e.prev {
		if !e.hot {
			continue
		}
		left -= e.group.spec.Places
		if at := e.since.Add(e.heat()); at.After(now) {
			p.cools = earlier(at, p.cools)
			continue
		}
		p.cooled(e)
		p.freed++
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// victim is the idle one that makes way first: the least recently used that is not hot, else of the hot ones.
func (p *Pool[C]) victim() *environment[C] {
	for e := p.idle.first; e != nil; e = e.next {
		if !e.hot {
			return e
		}
	}
	return p.idle.first
}
