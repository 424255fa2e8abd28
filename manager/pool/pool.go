package pool

import (
	"slices"
	"strconv"
	"time"

	"github.com/hearth-run/hearth/schema"
)

// Patience is how long an environment that has answered counts as cover before it has asked for its next call.
const Patience = 50 * time.Millisecond

// Home says which environments a claim may use: those of one key, and within it the members of one reservation or the
// unreserved ones. Of a function with sub-tenants the home without one has the generic environments (family.go).
type Home struct {
	schema.Key
	Reservation uint64 // epoch of the reservation; 0: unreserved
}

// Spec is what the environments of a home have in common.
type Spec struct {
	Account, Function string
	Arc               string // short name of the arc on which they are offered
	Places            int    // each takes; less than 1 means 1
	Past              bool   // no new call should name the home: end its environments when they go idle
	Tenants           bool   // every call names a sub-tenant: environments are made generic
}

// Pool is the environments of one manager and the claims that wait for them. C names a claim; it is opaque to the
// pool. Not safe for concurrent use.
type Pool[C comparable] struct {
	prefix   string
	made     uint64
	capacity int       // places
	used     int       // places of environments that are not closing
	spare    int       // of these, places of idle ones that may be evicted: unreserved, or bound to a sub-tenant
	hot      int       // of spare, places of hot ones (hot.go)
	cools    time.Time // when the first of these has been idle for long enough, or before; of no meaning while there is none
	pressed  bool      // hot ones make way too, for the claim that is decided on now
	soon     int       // of these, places of such ones that will be idle and that no claim waits for
	leaving  int       // of these, places of dying ones
	owed     int       // places that reserved homes lack for their shares; see owes
	waiting  int
	came     uint64 // claims of sub-tenants that waited
	answered uint64
	freed    uint64
	draining bool
	now      time.Time // as it was told last

	environments map[string]*environment[C]
	groups       map[Home]*group[C]
	shared       []*group[C]    // reserved ones that have a share or had one, in the order in which they got it
	arcs         map[string]int // environments offered, by arc; no zero entries
	surplus      map[string]int // of these, members above their share; no zero entries
	stirred      []*group[C]    // whose offers changed since somebody asked
	changed      []*group[C]    // whose counts may have, since somebody asked
	idle         sequence[C]    // idle ones that may be evicted, least recently used first
	shed         map[Scope]int  // busy ones that are too many for a cap
	tenants      map[Scope]*tenants[C]
	limits       int // of these, that have a limit
	promises     map[uint64]*environment[C]
	promise      uint64      // the last one
	promised     sequence[C] // promised ones, oldest first
	finishing    sequence[C] // finishing ones that still cover, oldest first
	held         sequence[C] // finishing ones that cover for longer, in the order in which they began to
	states       [closing + 1]int
}

type state uint8

const (
	starting state = iota + 1
	idle
	busy
	finishing
	promised // kept for a claim that another manager sends
	dying    // ends by itself; its places are taken until it has gone
	closing  // told to end; its places are free
)

type environment[C comparable] struct {
	id      string
	group   *group[C]
	state   state
	since   time.Time // in this state
	rested  uint64    // Pool.freed when it went idle, or Pool.answered when it answered, which orders those that did
	init    time.Duration
	calls   int    // given to it
	promise uint64 // while it is promised
	cover   bool   // finishing, and no longer than Patience, or held
	held    bool   // covers for longer, since its sub-tenant may have no other (tenants.go)
	unasked bool   // dying because it is too many, so it does not end by itself
	hot     bool   // counted in Pool.hot

	below, above *environment[C] // in its group's stack of idle ones
	prev, next   *environment[C] // in Pool.idle, Pool.promised, Pool.finishing or Pool.held
}

// group is the environments of one home, and the claims that wait for one.
type group[C comparable] struct {
	home     Home
	spec     Spec
	all      int // environments that have not gone
	idle     int
	busy     int
	start    int
	fresh    int // finishing ones that cover
	finish   int // all finishing ones
	promised int
	spares   bool            // idle ones may be evicted
	top      *environment[C] // of the stack of idle ones
	bottom   *environment[C]
	claims   []C  // oldest first
	offered  int  // counted in Pool.arcs
	surplus  int  // counted in Pool.surplus
	stirred  bool // one of Pool.stirred
	changed  bool // one of Pool.changed
	soon     int  // counted in Pool.soon
	owed     int  // counted in Pool.owed
	share    *share

	family *family[C]        // of a function with sub-tenants, else nil
	tenant *tenant[C]        // whose it is, in such a family
	at     int               // in family.bound
	ends   []*environment[C] // its finishing ones, oldest first
	short  int               // in family.short, 1 the first; 0: it has no need
	came   []uint64          // of claims, in such a family: their order among all its claims
	need   int               // counted in family.need
	since  uint64            // of the claim that has needed a generic one for longest, while there is a need: what orders family.short
}

// newGroup makes the group of a home known.
func (p *Pool[C]) newGroup(home Home, spec Spec) *group[C] {
	g := &group[C]{home: home, spec: spec, spares: home.Reservation == 0 || home.Tenant != ""}
	g.spec.Places = max(1, spec.Places)
	g.spec.Tenants = spec.Tenants || home.Tenant != ""
	p.groups[home] = g
	if g.spec.Tenants {
		p.join(g)
	}
	return g
}

// cover is how many waiting claims will find an environment without another being made.
func (g *group[C]) cover() int { return g.start + g.fresh }

// New makes the pool of a manager with this many places. Environments get ids that begin with prefix.
func New[C comparable](prefix string, capacity int) *Pool[C] {
	return &Pool[C]{
		prefix:       prefix,
		capacity:     capacity,
		environments: make(map[string]*environment[C]),
		groups:       make(map[Home]*group[C]),
		arcs:         make(map[string]int),
		surplus:      make(map[string]int),
		shed:         make(map[Scope]int),
		tenants:      make(map[Scope]*tenants[C]),
		promises:     make(map[uint64]*environment[C]),
	}
}

// Capacity is the number of places.
func (p *Pool[C]) Capacity() int { return p.capacity }

// Room is the places that are free or can be freed by evicting idle environments that are not hot, less those that reserved homes lack
// for their shares; 0 while draining.
func (p *Pool[C]) Room() int {
	if p.draining {
		return 0
	}
	return max(0, p.room()-p.hot-p.owed)
}

// room is the places that are free or can be freed. Where the pool has become smaller than what is in it, what can be freed
// makes up for that first.
func (p *Pool[C]) room() int { return max(0, p.capacity-p.used+p.spare) }

// Soon is the places that will be room in a moment: of environments that start or have answered and that no claim waits
// for, and of those that are about to go, less what reserved homes still lack then. 0 while draining.
func (p *Pool[C]) Soon() int {
	if p.draining {
		return 0
	}
	return max(0, p.soon+p.leaving-max(0, p.owed-p.room()))
}

// Freed counts the times that room came up: an environment went idle or gave its places back. Room that is 0 twice with
// the same count was out all the time between.
func (p *Pool[C]) Freed() uint64 { return p.freed }

// Offered is how many environments can take a call of this arc at once: idle ones, and finishing ones that no waiting
// claim will take. It is exactly how many idle pulls the manager must have open there (DESIGN 2).
func (p *Pool[C]) Offered(arc string) int { return p.arcs[arc] }

// Surplus is how many of the environments offered on an arc are members above their share: the last that calls should take. Which
// they are is nobody's choice: while fewer than the share are taken, one more call would take one within it.
func (p *Pool[C]) Surplus(arc string) int { return p.surplus[arc] }

// OfferedArcs calls yield for every arc with something to offer, until it returns false.
func (p *Pool[C]) OfferedArcs(yield func(arc string, environments int) bool) {
	for arc, n := range p.arcs {
		if !yield(arc, n) {
			return
		}
	}
}

// Stirred calls yield for every arc whose environments on offer, or those of them that are surplus, are not as many as when it was
// called last, or were not in between.
// An arc may come twice.
func (p *Pool[C]) Stirred(yield func(arc string)) {
	for i, g := range p.stirred {
		g.stirred = false
		yield(g.spec.Arc)
		p.stirred[i] = nil
	}
	p.stirred = p.stirred[:0]
}

func (p *Pool[C]) stir(g *group[C]) {
	if !g.stirred {
		g.stirred = true
		p.stirred = append(p.stirred, g)
	}
}

// Changed calls yield for every home of which something may be otherwise than when it was called last, once; with nothing but the
// home and its spec for one that has been forgotten.
func (p *Pool[C]) Changed(yield func(Group) bool) {
	all := p.changed
	for i, g := range all {
		g.changed = false
		if !yield(g.told(p.now)) {
			all = all[:i+1]
			break
		}
	}
	left := copy(p.changed, p.changed[len(all):])
	clear(p.changed[left:])
	p.changed = p.changed[:left]
}

// Waiting is how many claims wait.
func (p *Pool[C]) Waiting() int { return p.waiting }

// make adds an environment to a group. The caller has seen to its places.
func (p *Pool[C]) make(now time.Time, g *group[C]) Make {
	p.now = now
	p.made++
	e := &environment[C]{id: p.prefix + strconv.FormatUint(p.made, 36), group: g, state: starting, since: now}
	p.environments[e.id] = e
	p.used += g.spec.Places
	p.states[starting]++
	g.all++
	g.start++
	m := Make{Environment: e.id, Home: g.home, Spec: g.spec}
	if f := g.family; f != nil && f.left > 0 {
		f.left--
		m.Replaces = true
	}
	return m
}

// move takes an environment out of its state and puts it into another, with everything that is counted by state.
func (p *Pool[C]) move(now time.Time, e *environment[C], to state) {
	g := e.group
	p.now = now
	switch e.state {
	case starting:
		g.start--
	case idle:
		g.idle--
		g.unstack(e)
		if g.spares {
			p.idle.remove(e)
			p.spare -= g.spec.Places
			p.cooled(e)
		}
	case busy:
		g.busy--
	case finishing:
		g.finish--
		p.uncover(e)
		if g.tenant != nil {
			g.ends = slices.DeleteFunc(g.ends, func(other *environment[C]) bool { return other == e })
		}
	case promised:
		g.promised--
		p.promised.remove(e)
		delete(p.promises, e.promise)
	case dying:
		p.leaving -= g.spec.Places
	}
	p.states[e.state]--
	e.state, e.since = to, now
	p.states[to]++
	switch to {
	case idle:
		p.freed++
		e.rested = p.freed
		g.idle++
		g.stack(e)
		if g.spares {
			p.idle.append(e)
			p.spare += g.spec.Places
			p.heated(e)
		}
	case busy:
		g.busy++
		e.calls++
	case finishing:
		g.finish++
		g.fresh++
		e.cover = true
		p.finishing.append(e)
		if g.tenant != nil {
			p.answered++
			e.rested = p.answered
			g.ends = append(g.ends, e)
		}
	case promised:
		g.promised++
		p.promised.append(e)
		p.promise++
		e.promise = p.promise
		p.promises[e.promise] = e
	case dying:
		p.leaving += g.spec.Places
	case closing:
		p.freed++
		p.used -= g.spec.Places
	}
}

// uncover takes a finishing environment off the cover of its group.
func (p *Pool[C]) uncover(e *environment[C]) {
	if e.cover {
		e.cover = false
		e.group.fresh--
		if e.held {
			e.held = false
			p.held.remove(e)
		} else {
			p.finishing.remove(e)
		}
	}
}

// drop forgets an environment that has gone.
func (p *Pool[C]) drop(now time.Time, e *environment[C]) {
	if e.state != closing {
		p.move(now, e, closing)
	}
	p.states[closing]--
	e.group.all--
	delete(p.environments, e.id)
}

// settle brings what is offered for a group, and what will be room of it, up to date, and forgets a group that is empty.
func (p *Pool[C]) settle(g *group[C]) {
	if !g.changed {
		g.changed = true
		p.changed = append(p.changed, g)
	}
	waiting := len(g.claims)
	if g.family != nil {
		waiting = p.settleNeed(g)
	}
	offered := 0
	if !p.draining && !g.spec.Past && g.spec.Arc != "" {
		offered = max(0, g.idle+g.fresh-waiting)
	}
	if d := offered - g.offered; d != 0 {
		g.offered = offered
		p.stir(g)
		if n := p.arcs[g.spec.Arc] + d; n == 0 {
			delete(p.arcs, g.spec.Arc)
		} else {
			p.arcs[g.spec.Arc] = n
		}
	}
	soon := 0
	if g.spares {
		soon = max(0, g.cover()-waiting) * g.spec.Places
	}
	p.soon += soon - g.soon
	g.soon = soon
	if g.share != nil {
		p.settleShare(g)
	}
	if g.all == 0 && len(g.claims) == 0 && (g.share == nil || g.share.Members == 0) {
		p.forget(g)
	}
	if f := g.family; f != nil && f.generic != g {
		p.settle(f.generic)
	}
}
