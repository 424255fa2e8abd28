package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hearth-run/hearth/frontend"
	"github.com/hearth-run/hearth/manager/pool"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// paper is S31 as a computation over the code that decides it, and nothing else: the ring's shares, the pools of eight managers,
// the classes of their pulls and the choice of the arc. Calls take 100 to 300 ms.
type paper struct {
	t       *testing.T
	random  *rand.Rand
	now     time.Time
	ring    *subjects.Ring
	order   []int // managers as the arc meets them
	pools   []*pool.Pool[int]
	home    pool.Home
	spec    pool.Spec
	turns   int // of managers of one class, which the server serves in turn
	callers []paperCall
	seen    []frontend.Load // of the last steps
	theta   float64
	limit   int

	idle, cold, coldBefore, moved int // unreserved environments that are idle; those that were made; as the limit fell
	last                          []time.Time
	most                          int // made within a second
}

// paperCall is what one caller waits for: a member of a manager, or an unreserved environment.
type paperCall struct {
	until       time.Time
	manager     int
	environment string
}

const (
	paperStep    = 10 * time.Millisecond
	paperReclaim = 2 * time.Second
)

func onPaper(t *testing.T, callers, limit int, theta float64) *paper {
	ids := make([]string, 8)
	for i := range ids {
		ids[i] = fmt.Sprintf("m%d", i+1)
	}
	p := &paper{
		t: t, random: rand.New(rand.NewPCG(5, 31)), now: time.Unix(0, 0), ring: subjects.NewRing(0, ids), theta: theta, callers: make([]paperCall, callers),
		home: pool.Home{Key: schema.Key{FunctionID: "f", Version: "1"}, Reservation: 7}, spec: pool.Spec{Arc: "r.0.default.f.1.7"},
	}
	p.order = p.ring.ReservedOrder(nil, "default", "f", "1")
	for range p.order {
		p.pools = append(p.pools, pool.New[int]("e", 40))
	}
	p.reserve(limit)
	for range 3 {
		p.seen = append(p.seen, p.load())
	}
	return p
}

// reserve changes the limit; what is made is ready at once.
func (p *paper) reserve(limit int) {
	p.limit, p.coldBefore = limit, p.cold
	shares := make(map[string]int)
	for _, place := range p.ring.Places(nil, "default", "f", "1", limit, 5, nil) {
		shares[place.Manager] = place.Share
	}
	for at, manager := range p.order {
		plan := p.pools[at].SetShare(p.now, p.home, p.spec, pool.Share{Members: shares[p.ring.Managers()[manager]]})
		for _, mk := range plan.Make {
			p.pools[at].Parked(p.now, mk.Environment, 0)
		}
	}
}

func (p *paper) load() frontend.Load {
	l := frontend.Load{Open: true, L: p.limit, Theta: p.theta}
	for _, m := range p.pools {
		g, _ := m.Group(p.home)
		l.S += g.Counts.Ready()
		l.B += g.Counts.Busy
	}
	return l
}

// claim has the first manager with an open pull run a call of the reserved arc.
func (p *paper) claim() (manager int, environment string, ok bool) {
	best := subjects.ClassCatcher
	var at []int
	within, above := 0, 0
	for _, m := range p.pools {
		g, _ := m.Group(p.home)
		within += min(1, min(g.Counts.Ready(), g.Share.Members))
		above += min(1, max(0, g.Counts.Ready()-g.Share.Members))
	}
	take := func(manager, class int) {
		if class < best {
			best, at = class, nil
		}
		if class == best {
			at = append(at, manager)
		}
	}
	rank, behind := 0, 0
	for i, m := range p.pools {
		g, _ := m.Group(p.home)
		if m.Offered(p.spec.Arc) > m.Surplus(p.spec.Arc) {
			take(i, subjects.ReservedClass(rank, within))
		}
		if m.Surplus(p.spec.Arc) > 0 {
			take(i, subjects.SurplusClass(behind, above))
		}
		rank += min(1, min(g.Counts.Ready(), g.Share.Members))
		behind += min(1, max(0, g.Counts.Ready()-g.Share.Members))
	}
	if len(at) == 0 {
		return 0, "", false
	}
	p.turns++
	manager = at[p.turns%len(at)]
	d := p.pools[manager].Warm(p.now, p.home, 1)
	if d.Action != pool.Run {
		p.t.Fatalf("a manager that offers runs nothing: %+v", d)
	}
	return manager, d.Environment, true
}

// pass lets so much time pass.
func (p *paper) pass(d time.Duration) {
	for end := p.now.Add(d); p.now.Before(end); p.now = p.now.Add(paperStep) {
		for i := range p.callers {
			if c := &p.callers[i]; !p.now.Before(c.until) {
				p.next(c)
			}
		}
		for _, m := range p.pools {
			m.Tick(p.now, 0, paperReclaim)
		}
		p.seen = append(p.seen[1:], p.load())
	}
}

// next ends a caller's call and makes the next one.
func (p *paper) next(c *paperCall) {
	switch {
	case c.environment != "":
		m := p.pools[c.manager]
		m.Finished(p.now, c.environment, true)
		m.Parked(p.now, c.environment, 0)
	case !c.until.IsZero():
		p.idle++
	}
	*c = paperCall{until: p.now.Add(100*time.Millisecond + time.Duration(p.random.IntN(21))*paperStep)}
	l := p.load()
	l.C = len(p.callers)
	for _, before := range p.seen {
		l.B = min(l.B, before.B) // that a member went idle is told at once, that it is busy a little later
	}
	if frontend.Route(l).Reserved {
		var ok bool
		if c.manager, c.environment, ok = p.claim(); ok {
			return
		}
		p.moved++
	}
	if p.idle > 0 {
		p.idle--
		return
	}
	p.cold++
	p.last = append(p.last, p.now)
	for len(p.last) > 0 && p.now.Sub(p.last[0]) >= time.Second {
		p.last = p.last[1:]
	}
	p.most = max(p.most, len(p.last))
}

// TestBleed is S31 on paper: 80 callers while 100 reserved members become 50. With theta 1.0 nothing goes cold and what is in use
// stays; with theta 0.9 the set bleeds down to the limit, and no more goes cold than the members that the callers lose.
func TestBleed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		theta        float64
		least, most  int // members in the end
		cold, second int // calls, at most: in all, and within a second
	}{{1, 80, 82, 0, 0}, {0.9, 50, 50, 35, 8}} {
		p := onPaper(t, 80, 100, c.theta)
		p.pass(5 * time.Second)
		p.reserve(50)
		p.most, p.last = 0, nil
		p.pass(time.Minute)
		l := p.load()
		t.Logf("theta %.1f: S %d, B %d, cold %d (%d before), at most %d in a second, moved %d", c.theta, l.S, l.B, p.cold-p.coldBefore, p.coldBefore, p.most, p.moved)
		if l.S < c.least || l.S > c.most || p.cold-p.coldBefore > c.cold || p.most > c.second {
			t.Errorf("theta %.1f: %d members, %d busy; %d calls were cold, at most %d in a second", c.theta, l.S, l.B, p.cold-p.coldBefore, p.most)
		}
	}
}
