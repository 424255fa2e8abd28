package manager

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hearth-run/hearth/manager/pool"
	"github.com/hearth-run/hearth/schema"
)

// reservedArcs is a manager with members on many reserved arcs, and what a server would hold of its pulls.
type reservedArcs struct {
	t       *testing.T
	m       *Manager
	arcs    []*arc
	homes   []pool.Home
	busy    map[string]*arc // environments
	now     time.Time
	held    map[*generation]int // open pulls
	drained map[*inbox]bool
}

func manyReserved(t *testing.T, arcs, members int) *reservedArcs {
	r := &reservedArcs{
		t: t, busy: make(map[string]*arc), now: time.Now(), held: make(map[*generation]int), drained: make(map[*inbox]bool),
		m: &Manager{cfg: Config{ID: "m1"}, offers: newOffers("_HM.m1.i.", "g"), pool: pool.New[*claim]("e", arcs*members), ends: newEnds(), offering: true, openings: newOpenings()},
	}
	r.m.view.Store(&view{fabric: schema.Fabric{Theta: 1}})
	for i := range arcs {
		o := &opening{name: fmt.Sprint("r.0.default.f.1.", 7*i), epoch: uint64(7 * i), order: []string{"m1", "m2", "m3"}}
		a := &arc{name: o.name, calls: fmt.Sprint("hearth.arc.r.0.default.f.1.", o.epoch), of: o, opening: o, length: 3, rank: 0}
		r.m.offers.arcs[a.name] = a
		r.m.offers.turns.add(a)
		r.arcs = append(r.arcs, a)
		home := pool.Home{Key: schema.Key{FunctionID: fmt.Sprint("f", i), Version: "1"}, Reservation: o.epoch + 1}
		r.homes = append(r.homes, home)
		for _, mk := range r.m.pool.SetShare(r.now, home, pool.Spec{Arc: a.name}, pool.Share{Members: members}).Make {
			r.m.pool.Parked(r.now, mk.Environment, 0)
		}
	}
	return r
}

// look lets so much time pass and looks as the loop does.
func (r *reservedArcs) look(after time.Duration, all, anew bool) {
	r.now = r.now.Add(after)
	p := r.m.offers.pass(r.m, r.now, all, anew)
	for _, add := range p.adds {
		r.send(add)
	}
	for _, i := range p.old {
		if r.drained[i] {
			r.t.Fatal("an inbox is drained twice")
		}
		r.drained[i] = true
	}
	for g := range r.held {
		if r.drained[g.at] {
			delete(r.held, g) // nobody listens
		}
	}
}

func (r *reservedArcs) send(p pull) {
	if p.gen != nil && !r.drained[p.gen.at] {
		r.held[p.gen] += p.n
	}
}

// exact checks that the server holds what the manager believes, and nothing besides.
func (r *reservedArcs) exact() {
	r.t.Helper()
	live := make(map[*generation]bool)
	for _, a := range r.arcs {
		for k := range kinds {
			g := a.sides[k].gen
			if g == nil {
				continue
			}
			live[g] = true
			switch {
			case r.drained[g.at]:
				r.t.Fatalf("side %d of %s waits at an inbox that was drained", k, a.name)
			case r.held[g] != g.open && !g.stale:
				r.t.Fatalf("side %d of %s: %d pulls are open, %d are believed to be", k, a.name, r.held[g], g.open)
			case g.at.shared && g.at.calls[a.calls] != g:
				r.t.Fatalf("calls of %s go to another", a.name)
			}
		}
		var open [2]int
		unsure := a.gone || r.now.Before(a.backoff)
		for k := idle; k.exact(); k++ {
			s := &a.sides[k]
			if s.gen != nil {
				open[k] = s.gen.open
			}
			unsure = unsure || s.astray > 0 || s.gen != nil && s.gen.stale
		}
		above := r.m.pool.Surplus(a.name)
		if within := r.m.pool.Offered(a.name) - above; !unsure && (open[idle] != within || open[surplus] != above) {
			r.t.Fatalf("%s: %v pulls for %d idle members within the share and %d above", a.name, open, within, above)
		}
	}
	for g, n := range r.held {
		if n > 0 && !live[g] {
			r.t.Fatalf("%d pulls of %s are open that nobody counts", n, g.arc.name)
		}
	}
}

// call has the server give a call to an open pull of an arc, if there is one.
func (r *reservedArcs) call(a *arc, g *generation) {
	if g == nil || r.held[g] == 0 {
		return
	}
	r.held[g]--
	i := int(a.of.epoch / 7)
	g.took()
	d := r.m.pool.Warm(r.now, r.homes[i], &claim{})
	if d.Action != pool.Run {
		r.send(r.m.offers.topSide(r.m, a, g.kind, true))
		return
	}
	r.busy[d.Environment] = a
	a.tookOtherwise(g, r.now)
	more := r.m.offers.tops(r.m, g)
	for k := range more {
		r.send(more[k])
	}
}

// share changes how many members of an arc are within the share; none goes and none is made.
func (r *reservedArcs) share(a *arc, members int) {
	home := r.homes[a.of.epoch/7]
	r.m.pool.SetShare(r.now, home, pool.Spec{Arc: a.name}, pool.Share{Members: members, Hold: true})
}

func (r *reservedArcs) end(environment string) {
	delete(r.busy, environment)
	within, above := r.m.offers.top(r.m, r.m.pool.Finished(r.now, environment, true))
	r.send(within)
	r.send(above)
	r.m.pool.Parked(r.now, environment, 0)
}

// Whatever happens to a hundred arcs that share inboxes, the server holds exactly what each of them offers.
func TestTurnsAreExact(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Log("seed", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	r := manyReserved(t, 100, 3)
	r.look(0, true, false)
	for range 5000 {
		a := r.arcs[random.IntN(len(r.arcs))]
		switch random.IntN(24) {
		case 0, 1, 2, 3, 4, 5, 6:
			r.call(a, a.sides[idle].gen)
		case 7:
			r.call(a, a.sides[caught].gen)
		case 17:
			r.call(a, a.sides[surplus].gen) // before its turn, or not
		case 18:
			r.share(a, random.IntN(4))
		case 8, 9, 10, 11, 12, 13:
			for e := range r.busy {
				r.end(e)
				break
			}
		case 14:
			a.class, a.after = random.IntN(4), 4+random.IntN(4)
			r.m.offers.watch(a)
		case 15:
			if g := a.sides[random.IntN(2)].gen; g != nil && random.IntN(4) == 0 { // refused, nobody knows how many
				delete(r.held, g)
				g.stale = true
				a.backOff(r.now, func(d time.Duration) time.Duration { return d / 2 })
				r.m.offers.watch(a)
			}
		case 16:
			if random.IntN(100) == 0 {
				r.look(0, true, true)
				r.exact()
			}
		default:
			r.look(time.Duration(random.IntN(40))*time.Millisecond, false, false)
			r.exact()
		}
	}
	for e := range r.busy {
		r.end(e)
	}
	for _, a := range r.arcs {
		r.share(a, 3)
	}
	for range 2 * calmFor / renewEvery { // all are calm and share again
		for range turnCount {
			r.look(turnEvery, false, false)
		}
		r.exact()
	}
	inboxes := make(map[*inbox]bool)
	for _, a := range r.arcs {
		inboxes[a.sides[idle].gen.at] = true
		if a.sides[caught].gen != nil {
			t.Errorf("%s has its catcher's pull open though all members are idle and nobody calls", a.name)
		}
	}
	if len(inboxes) > turnCount {
		t.Errorf("%d arcs have %d inboxes, at most %d turns", len(r.arcs), len(inboxes), turnCount)
	}
	for _, a := range r.arcs {
		a.gone = true
		r.m.offers.watch(a)
	}
	r.look(time.Millisecond, false, false)
	r.exact()
	if len(r.held) != 0 || len(r.m.offers.arcs) != 0 {
		t.Errorf("of retired arcs %d pulls and %d arcs are left", len(r.held), len(r.m.offers.arcs))
	}
}

// A reserved arc with an idle member has no catcher until a call came, and then as long as they come.
func TestCatcherOpensWithTheFirstCall(t *testing.T) {
	t.Parallel()
	r := manyReserved(t, 2, 2)
	r.look(0, true, false)
	a, other := r.arcs[0], r.arcs[1]
	if a.sides[caught].gen != nil {
		t.Error("the catcher's pull is open where both members are idle")
	}
	r.call(a, a.sides[idle].gen)
	g := a.sides[caught].gen
	if g == nil || r.held[g] != catchBatch || other.sides[caught].gen != nil {
		t.Fatalf("after a call: %+v, of the other arc %+v", g, other.sides[caught].gen)
	}
	for range 3 { // calls go on
		for range turnCount {
			r.look(turnEvery, false, false)
		}
		if a.sides[caught].gen == nil {
			t.Error("the catcher has gone while calls come")
		}
		for e := range r.busy {
			r.end(e)
		}
		r.call(a, a.sides[idle].gen)
	}
	for range 3 * turnCount {
		r.look(turnEvery, false, false)
	}
	if r.exact(); a.sides[caught].gen != nil {
		t.Error("the catcher's pull is open long after the last call")
	}
	r.call(a, a.sides[idle].gen) // the other member
	for range 3 * turnCount {
		r.look(turnEvery, false, false)
	}
	if r.exact(); a.sides[caught].gen == nil {
		t.Error("no catcher while both members are busy")
	}
}
