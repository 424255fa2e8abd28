package pool_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/hearth-run/hearth/manager/pool"
)

// naive is the rules of the pool in their plainest form: it keeps what happened to each environment and claim in lists,
// counts nothing ahead, and finds every answer by looking at all of them.
type naive struct {
	t        *testing.T
	capacity int
	now      time.Time
	envs     []*naiveEnvironment
	claims   []naiveClaim // that wait, oldest first
	past     map[pool.Home]bool
	shares   map[pool.Home]*naiveShare
	shared   []pool.Home // of shares, oldest first
	specs    map[pool.Home]pool.Spec
	over     int                    // places that were too many when the pool became smaller
	limits   map[string]*naiveLimit // by sub-tenant, of functions
	held     int                    // how often one was held
	presses  bool                   // the claim that is looked at does
}

type naiveEnvironment struct {
	id     string
	home   pool.Home
	spec   pool.Spec
	state  string // starting idle busy finishing dying closing
	since  time.Time
	number uint64 // of its promise
	stale  bool   // finishing for longer than Patience at a tick
	held   bool   // it was, and covers again
	turn   int    // that it has among those held
	calls  int    // that it ran
	shed   bool   // dying, because its sub-tenant has too many
	order  int    // of its last change of state, to order equal times
	init   time.Duration
	cooled time.Time // since when it was idle when it had been for long enough to make way
}

type naiveClaim struct {
	home pool.Home
	id   int
}

func (n *naive) in(home pool.Home, state string) []*naiveEnvironment {
	var out []*naiveEnvironment
	for _, e := range n.envs {
		if e.home == home && e.state == state {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b *naiveEnvironment) int { return cmp.Compare(a.order, b.order) })
	return out
}

func (n *naive) evictable() []*naiveEnvironment {
	var out []*naiveEnvironment
	for _, e := range n.envs {
		if e.state == "idle" && spares(e.home) {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b *naiveEnvironment) int { return cmp.Compare(a.order, b.order) })
	return out
}

func (n *naive) free() int {
	free := n.capacity
	for _, e := range n.envs {
		if e.state != "closing" {
			free -= e.spec.Places
		}
	}
	return free
}

// room is the places for claims, evictions done.
func (n *naive) room() int { return max(0, n.all()-n.hotPlaces()-n.owed()) }

// reach is room for a claim that may press.
func (n *naive) reach() int {
	if n.presses {
		return max(0, n.all()-n.owed())
	}
	return n.room()
}

// hot reports whether an idle environment makes way for no claim that does not press.
func (n *naive) hot(e *naiveEnvironment) bool { return e.init > 0 && !e.cooled.Equal(e.since) }

func (n *naive) hotPlaces() (places int) {
	for _, e := range n.evictable() {
		if n.hot(e) {
			places += e.spec.Places
		}
	}
	return places
}

// cool looks which have been idle for as long as their init took.
func (n *naive) cool() {
	for _, e := range n.evictable() {
		if n.now.Sub(e.since) >= min(e.init, pool.MostHot) {
			e.cooled = e.since
		}
	}
}

// all is the places that are free, or of environments that may be evicted.
func (n *naive) all() int {
	room := n.free()
	for _, e := range n.evictable() {
		room += e.spec.Places
	}
	return max(0, room)
}

func (n *naive) soon(homes []pool.Home, specs map[pool.Home]pool.Spec) int {
	soon := 0
	for _, h := range homes {
		if spares(h) {
			soon += max(0, n.cover(h)-n.beyond(h)) * specs[h].Places
		}
		soon += len(n.in(h, "dying")) * specs[h].Places
	}
	return max(0, soon-max(0, n.owed()-n.all()))
}

func (n *naive) waiting(home pool.Home) []int {
	var out []int
	for _, c := range n.claims {
		if c.home == home {
			out = append(out, c.id)
		}
	}
	return out
}

func (n *naive) fresh(home pool.Home) int {
	fresh := 0
	for _, e := range n.in(home, "finishing") {
		if !e.stale {
			fresh++
		}
	}
	return fresh
}

func (n *naive) cover(home pool.Home) int { return len(n.in(home, "starting")) + n.fresh(home) }

func (n *naive) offered(arc string, homes []pool.Home, specs map[pool.Home]pool.Spec) int {
	sum := 0
	for _, h := range homes {
		if specs[h].Arc == arc && !n.past[h] {
			sum += max(0, len(n.in(h, "idle"))+n.fresh(h)-n.beyond(h))
		}
	}
	return sum
}

// evict says which environments must go for so many places, where there is so much room.
func (n *naive) evict(places, room int) (ids []string, ok bool) {
	if room < places {
		return nil, false
	}
	all := n.evictable()
	slices.SortStableFunc(all, func(a, b *naiveEnvironment) int {
		switch {
		case n.hot(a) == n.hot(b):
			return 0
		case n.hot(a):
			return 1
		default:
			return -1
		}
	})
	for _, e := range all {
		if n.free() >= places {
			break
		}
		e.state = "closing"
		ids = append(ids, e.id)
	}
	return ids, true
}

// made checks what the pool made and takes note of it.
func (n *naive) made(got []pool.Make, home pool.Home, order int) {
	for _, m := range got {
		if m.Home != home {
			n.t.Fatalf("made for %v, want %v", m.Home, home)
		}
		n.envs = append(n.envs, &naiveEnvironment{id: m.Environment, home: m.Home, spec: m.Spec, state: "starting", order: order})
	}
}

// covered does what must follow when a home's cover shrank, and compares.
func (n *naive) covered(home pool.Home, spec pool.Spec, plan *pool.Plan[int], order int) {
	if spec.Tenants {
		n.coveredFamily(home, spec, plan, order)
		return
	}
	for w := n.waiting(home); len(w) > n.cover(home); w = n.waiting(home) {
		var ids []string
		ok := false
		if home.Reservation == 0 {
			ids, ok = n.evict(spec.Places, n.room())
		}
		if ok {
			if len(plan.Make) == 0 || len(plan.End) < len(ids) || !slices.Equal(plan.End[:len(ids)], ids) {
				n.t.Fatalf("plan %+v, want one made and %v ended", plan, ids)
			}
			n.made(plan.Make[:1], home, order)
			plan.Make, plan.End = plan.Make[1:], plan.End[len(ids):]
			continue
		}
		last := w[len(w)-1]
		if len(plan.Refuse) == 0 || plan.Refuse[0] != last {
			n.t.Fatalf("plan %+v, want claim %d refused", plan, last)
		}
		plan.Refuse = plan.Refuse[1:]
		n.drop(last)
	}
}

func (n *naive) drop(claim int) {
	n.claims = slices.DeleteFunc(n.claims, func(c naiveClaim) bool { return c.id == claim })
}

// Random histories: the pool decides as the plain rules do, after every step.
func TestHistories(t *testing.T) {
	t.Parallel()
	for range 60 {
		seed := rand.Uint64()
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			history(t, seed, 600)
		})
	}
}

// inits are how long those of histories take.
var inits = []time.Duration{0, time.Millisecond, 20 * time.Millisecond, 200 * time.Millisecond, 2 * pool.MostHot}

func history(t *testing.T, seed uint64, steps int) {
	r := rand.New(rand.NewPCG(seed, 1))
	capacity, places, most, reserving := 1+r.IntN(12), 3, 5, r.IntN(2) == 0
	if reserving {
		capacity, places, most = 8+r.IntN(12), 1, 12
	}
	p := pool.New[int]("e", capacity)
	n := &naive{t: t, capacity: capacity, now: t0, past: make(map[pool.Home]bool), shares: make(map[pool.Home]*naiveShare)}
	specs := make(map[pool.Home]pool.Spec)
	n.specs, n.limits = specs, make(map[string]*naiveLimit)
	var homes []pool.Home
	if r.IntN(2) == 0 {
		homes = tenantHomes(specs, func() int { return 1 + r.IntN(places) })
	}
	for i := len(homes); i < 5; i++ {
		h := home(fmt.Sprint("f", i))
		if i >= 3 {
			h.Reservation = uint64(i)
		}
		homes = append(homes, h)
		specs[h] = pool.Spec{Account: "default", Function: h.FunctionID, Arc: fmt.Sprint("u.", i%2), Places: 1 + r.IntN(places)}
	}
	claims := 0
	for step := range steps {
		n.now = n.now.Add(time.Duration(5*r.IntN(4)) * time.Millisecond)
		if r.IntN(60) == 0 {
			n.now = n.now.Add(time.Duration(r.IntN(3000)) * time.Millisecond)
		}
		h := homes[r.IntN(len(homes))]
		if reserving {
			h = homes[2+r.IntN(len(homes)-2)]
		}
		s := specs[h]
		sick := step/50%4 == 3 // environments fail
		var e *naiveEnvironment
		if len(n.envs) > 0 {
			e = n.envs[r.IntN(len(n.envs))]
		}
		claim := p.Claim
		if n.presses = r.IntN(4) == 0; n.presses {
			claim = p.Press
		}
		what := r.IntN(14)
		switch {
		case s.Tenants && r.IntN(40) == 0:
			n.setLimit(p, s.Function, r.IntN(4))
		case what < 3 && s.Tenants:
			if h.Tenant != "" {
				claims++
				n.claimBound(claim(n.now, h, &s, claims), h, s, claims, step)
			}
		case what < 3:
			claims++
			n.claim(claim(n.now, h, &s, claims), h, s, claims, step)
		case what >= 12 && h.Reservation != 0 && r.IntN(3) == 0 && h.Tenant == "":
			n.setShare(p, h, s, pool.Share{Members: r.IntN(most), Hold: r.IntN(4) == 0, Draining: r.IntN(2) == 0}, step)
		case what == 13 && r.IntN(8) == 0:
			n.resize(p, r.IntN(2*capacity), step)
		case what == 13 && r.IntN(4) == 0:
			n.retire(p, r, step)
		case what == 12 && (reserving || r.IntN(4) == 0):
			n.tick(p, specs, step)
		case sick && what < 6 && e != nil && e.home.Reservation != 0 && e.home.Tenant == "" && (e.state == "starting" || e.state == "idle" && e.calls == 0):
			n.gone(p, e, specs[e.home], step)
		case what < 6 && e != nil:
			init := inits[r.IntN(len(inits))]
			if e.state == "starting" {
				e.init = init
			}
			turn := p.Parked(n.now, e.id, init)
			if e.shed && e.state == "dying" {
				if !turn.End || turn.Run {
					t.Fatalf("seed %d step %d: %+v, want %s ended", seed, step, turn, e.id)
				}
				e.state = "closing"
				break
			}
			n.parked(turn, e, step, e.state == "starting" || e.state == "finishing")
		case what == 6 && e != nil:
			reusable := r.IntN(8) > 0
			p.Finished(n.now, e.id, reusable)
			if e.state == "busy" {
				e.shed = reusable && n.overLimit(e.home)
				reusable = reusable && !e.shed
				e.state, e.since, e.order, e.stale, e.held = "finishing", n.now, step, false, false
				if !reusable {
					e.state = "dying"
				} else if s := n.shares[generic(e.home)]; s != nil {
					s.deaths = 0
				}
			}
		case what == 7 && e != nil && r.IntN(3) == 0:
			n.gone(p, e, specs[e.home], step)
		case what == 8 && e != nil && r.IntN(2) == 0:
			turn := p.Release(n.now, e.id)
			if e.state == "busy" {
				e.calls--
			}
			n.parked(turn, e, step, e.state == "busy" || e.state == "promised")
		case what == 10:
			n.promise(p, h, s, step)
		case what == 11 && e != nil:
			n.redeem(p, e, homes[r.IntN(len(homes))], step)
			n.lapse(p, step)
		case what == 9 && r.IntN(4) == 0:
			n.tick(p, specs, step)
		case what == 9 && len(n.claims) > 0 && r.IntN(4) == 0:
			c := n.claims[r.IntN(len(n.claims))]
			if !p.Abandon(n.now, c.home, c.id) {
				t.Fatalf("seed %d step %d: claim %d does not wait", seed, step, c.id)
			}
			n.drop(c.id)
		}
		n.settleShares(p)
		n.families(homes)
		n.bounded()
		if got, want := p.Room(), n.room(); got != want {
			t.Fatalf("seed %d step %d: room %d, want %d", seed, step, got, want)
		}
		if got, want := p.Hot(), max(0, n.all()-n.owed())-n.room(); got != want {
			t.Fatalf("seed %d step %d: %d places are hot, want %d", seed, step, got, want)
		}
		if got, want := p.Soon(), n.soon(homes, specs); got != want {
			t.Fatalf("seed %d step %d: room %d soon, want %d", seed, step, got, want)
		}
		if got := p.Waiting(); got != len(n.claims) {
			t.Fatalf("seed %d step %d: %d wait, want %d", seed, step, got, len(n.claims))
		}
		for _, arc := range []string{"u.0", "u.1"} {
			if got, want := p.Offered(arc), n.offered(arc, homes, specs); got != want {
				t.Fatalf("seed %d step %d: %d offered on %s, want %d", seed, step, got, arc, want)
			}
			if got, want := p.Surplus(arc), n.surplus(arc, homes, specs); got != want {
				t.Fatalf("seed %d step %d: %d surplus offered on %s, want %d", seed, step, got, arc, want)
			}
		}
		if got := p.Live(); got != len(n.envs) {
			t.Fatalf("seed %d step %d: %d environments, want %d", seed, step, got, len(n.envs))
		}
		if n.over = min(n.over, max(0, -n.free())); -n.free() > n.over {
			t.Fatalf("seed %d step %d: %d places too many are used", seed, step, -n.free())
		}
	}
}
