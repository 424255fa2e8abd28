package frontend

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/hearth-run/hearth/schema"
)

// model is a manager as statuses tell of it, without sums.
type model struct {
	number uint64
	life   int
	heard  bool
	silent bool
	told   uint64 // last status
	whole  uint64 // last whole one
	arcs   map[part]schema.ArcStatus
}

// Sums that are kept as statuses come and go are those of adding everything up, over any history of whole and partial statuses,
// lives, silence and returns.
func TestSumsAgainstAddingUp(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	v := newView()
	arcs := []string{"r.0.default.f.1.7", "r.0.default.g.1.9", "u.3"}
	sums := map[string]*members{}
	for _, arc := range arcs[:2] {
		sums[arc], _ = v.join(arc, "id.1")
	}
	managers := map[string]*model{}
	for i := range 4 {
		managers[fmt.Sprintf("m%d", i)] = &model{arcs: map[part]schema.ArcStatus{}}
	}
	tick, quiet := uint64(10), map[string]bool{}
	for step := range 20_000 {
		id := fmt.Sprintf("m%d", random.IntN(4))
		m := managers[id]
		status := func(partial bool) schema.ManagerStatus {
			m.number++
			s := schema.ManagerStatus{ID: id, Incarnation: fmt.Sprint(m.life), Number: m.number, Partial: partial}
			for range random.IntN(4) {
				a := schema.ArcStatus{Arc: arcs[random.IntN(3)], Tenant: []string{"", "a"}[random.IntN(2)], Ready: random.IntN(9) - 1}
				a.Busy = random.IntN(max(1, a.Ready+1))
				if !slices.ContainsFunc(s.Arcs, func(b schema.ArcStatus) bool { return sameArc(&a, &b) }) {
					s.Arcs = append(s.Arcs, a)
				}
			}
			return s
		}
		switch random.IntN(8) {
		case 0: // another life, of which a partial status is not believed
			m.life++
			m.number = 0
			v.told(status(true), tick)
		case 1:
			quiet[id] = !quiet[id]
		case 2:
			tick++
			v.tick(tick)
			for _, m := range managers {
				switch {
				case m.heard && tick-m.told >= twoSeconds:
					m.heard, m.arcs = false, map[part]schema.ArcStatus{}
				case m.heard && tick-m.whole >= oneSecond:
					m.silent = true
				}
			}
		case 3, 4:
			if quiet[id] || !m.heard || m.silent {
				break // of a silent one a partial status is fresher than the rest; not modelled
			}
			known := v.managers[id].status.Incarnation == fmt.Sprint(m.life)
			s := status(true)
			v.told(s, tick)
			if known {
				m.told = tick
				for _, a := range s.Arcs {
					m.arcs[part{a.Arc, a.Tenant}] = a
				}
			}
		case 5: // an old one, by a second path
			if m.heard && v.managers[id].status.Incarnation == fmt.Sprint(m.life) {
				s := status(false)
				m.number--
				s.Number = v.managers[id].status.Number - 1
				v.told(s, tick)
			}
		default:
			if quiet[id] {
				break
			}
			s := status(false)
			v.told(s, tick)
			m.heard, m.silent, m.told, m.whole, m.arcs = true, false, tick, tick, map[part]schema.ArcStatus{}
			for _, a := range s.Arcs {
				m.arcs[part{a.Arc, a.Tenant}] = a
			}
		}
		for arc, sum := range sums {
			ready, busy, bound, boundBusy := 0, 0, 0, 0
			for _, m := range managers {
				for key, a := range m.arcs {
					if key.arc != arc {
						continue
					}
					if key.tenant != "" {
						bound += max(0, a.Ready)
						if !m.silent {
							boundBusy += max(0, a.Busy)
						}
						continue
					}
					ready += max(0, a.Ready)
					if !m.silent {
						busy += max(0, a.Busy)
					}
				}
			}
			if s, b := sum.load(); s != ready || b != busy {
				t.Fatalf("step %d: %s has S = %d, B = %d; added up %d, %d", step, arc, s, b, ready, busy)
			}
			for tenant, n := range map[string]Load{"a": {S: ready + bound, B: busy + boundBusy}, "b": {S: ready, B: busy}} {
				l := Load{S: ready, B: busy}
				if v.addBound(&l, arc, tenant); l != n {
					t.Fatalf("step %d: %s has %+v for %q, want %+v", step, arc, l, tenant, n)
				}
			}
		}
	}
	for _, arc := range arcs[:2] {
		v.leave(arc, "id.1")
	}
	tick += twoSeconds
	v.tick(tick)
	if len(v.arcs) != 0 || len(v.elsewhere) != 0 {
		t.Errorf("%d arcs and %d versions are remembered of nobody", len(v.arcs), len(v.elsewhere))
	}
}

// The same for the calls of other frontends.
func TestElsewhereAgainstAddingUp(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	v := newView()
	versions := []string{"a.1", "b.1", "c.1"}
	type frontend struct {
		life   int
		number uint64
		known  int // life of which the whole was told
		calls  map[string]int
	}
	all := map[string]*frontend{"f1": {known: -1}, "f2": {known: -1}}
	watched := map[string]*others{}
	for step := range 20_000 {
		id := []string{"f1", "f2"}[random.IntN(2)]
		f := all[id]
		told := func() map[string]int {
			m := map[string]int{}
			for _, name := range versions {
				if random.IntN(2) == 0 {
					m[name] = random.IntN(5)
				}
			}
			return m
		}
		switch random.IntN(8) {
		case 0:
			f.life++
			f.number = 0
		case 1, 2:
			name := versions[random.IntN(3)]
			if watched[name] == nil {
				_, watched[name] = v.join("r."+name, name)
			} else {
				v.leave("r."+name, name)
				delete(watched, name)
			}
		case 3, 4, 5:
			f.number++
			s := schema.FrontendStatus{ID: id, Incarnation: fmt.Sprint(f.life), Number: f.number, InFlight: told(), Partial: true}
			v.heardFrom(s)
			if f.known == f.life {
				for name, n := range s.InFlight {
					f.calls[name] = n
				}
			}
		case 6:
			v.mu.Lock()
			if seen := v.frontends[id]; seen != nil {
				v.uncount(seen) // as after a second of silence
			}
			v.mu.Unlock()
			f.number++
			v.heardFrom(schema.FrontendStatus{ID: id, Incarnation: fmt.Sprint(f.life), Number: f.number, Partial: true})
			if f.known != f.life {
				f.calls = nil // the life before is silent, and of this one nothing is known
			}
		default:
			f.number++
			f.known, f.calls = f.life, told()
			in := map[string]int{}
			for name, n := range f.calls {
				in[name] = n
			}
			v.heardFrom(schema.FrontendStatus{ID: id, Incarnation: fmt.Sprint(f.life), Number: f.number, InFlight: in})
		}
		for name, o := range watched {
			want := int64(0)
			for _, f := range all {
				want += int64(f.calls[name])
			}
			if got := o.calls.Load(); got != want {
				t.Fatalf("step %d: %d calls of %s elsewhere, added up %d", step, got, name, want)
			}
		}
	}
}

// A partial status changes what it names and nothing else, also of what is shown of the manager; whoever was shown it keeps it.
func TestPartialStatus(t *testing.T) {
	t.Parallel()
	f := &Frontend{view: newView()}
	whole := schema.ManagerStatus{ID: "m1", Incarnation: "1", Number: 1, Capacity: 9, Arcs: []schema.ArcStatus{
		{Arc: "r.0.a.f.1.7", Ready: 2, Busy: 2}, {Arc: "u.1", Ready: 1},
	}}
	f.view.told(whole, 5)
	before := f.Managers()
	f.view.told(schema.ManagerStatus{ID: "m1", Incarnation: "1", Number: 2, Partial: true, Arcs: []schema.ArcStatus{
		{Arc: "r.0.a.f.1.7", Ready: 2, Busy: 1, Idle: 1}, {Arc: "r.0.a.g.1.8", Ready: 1},
	}}, 5)
	if before[0].Arcs[0].Busy != 2 {
		t.Error("what was shown has changed")
	}
	got := f.Managers()[0]
	if got.Capacity != 9 || len(got.Arcs) != 3 || got.Arcs[0].Busy != 1 || got.Arcs[1].Arc != "u.1" || got.Arcs[2].Arc != "r.0.a.g.1.8" || got.Number != 2 {
		t.Errorf("merged to %+v", got)
	}
	f.view.told(schema.ManagerStatus{
		ID: "m1", Incarnation: "1", Number: 3, Partial: true, Counted: true, Capacity: 8, Room: 4, Arcs: []schema.ArcStatus{{Arc: "u.1"}},
	}, 5)
	got = f.Managers()[0]
	if got.Capacity != 8 || got.Room != 4 || len(got.Arcs) != 3 || got.Arcs[1].Ready != 0 || got.Partial || got.Number != 3 {
		t.Errorf("merged with numbers to %+v", got)
	}
	f.view.told(schema.ManagerStatus{ID: "m1", Incarnation: "2", Number: 9, Partial: true}, 5)
	if got := f.Managers()[0]; got.Incarnation != "1" {
		t.Errorf("a part of another life made it %+v", got)
	}
}

// What a manager with many arcs tells between two whole statuses is enough for as long as none of it was missed: after that what it
// says to be busy counts as idle, until it tells the whole.
func TestMissedStatus(t *testing.T) {
	t.Parallel()
	v := newView()
	arc := schema.ArcStatus{Arc: "r.0.default.f.1.7", Ready: 4, Busy: 3}
	sum, _ := v.join(arc.Arc, "id.1")
	number, tick := uint64(1), uint64(10)
	tell := func(partial bool) {
		s := schema.ManagerStatus{ID: "m1", Incarnation: "1", Number: number, Partial: partial, Counted: partial}
		if !partial {
			s.Arcs = []schema.ArcStatus{arc}
		}
		v.told(s, tick)
		number++
	}
	busy := func(want int, when string) {
		t.Helper()
		for range 3 {
			tick += oneSecond / 2
			tell(true)
			v.tick(tick)
		}
		if s, b := sum.load(); s != 4 || b != want {
			t.Errorf("%s: S = %d, B = %d, want 4 and %d", when, s, b, want)
		}
	}
	tell(false)
	busy(3, "nothing was missed")
	number++
	busy(0, "one was missed")
	tell(false)
	busy(3, "the whole was told")
}

// A manager that tells more than there can be, more busy ones than it has, or nonsense, changes nothing of what the others told once
// it is gone, and never makes idle members elsewhere look busy.
func TestSumsOfALiar(t *testing.T) {
	t.Parallel()
	v := newView()
	sum, _ := v.join("r.0.default.f.1.7", "id.1")
	tell := func(id string, number uint64, arcs ...schema.ArcStatus) {
		for i := range arcs {
			arcs[i].Arc = "r.0.default.f.1.7"
		}
		v.told(schema.ManagerStatus{ID: id, Incarnation: "1", Number: number, Arcs: arcs}, 5)
	}
	tell("m1", 1, schema.ArcStatus{Ready: 3, Busy: 1})
	lies := make([]schema.ArcStatus, 5000)
	for i := range lies {
		lies[i] = schema.ArcStatus{Tenant: fmt.Sprint(i), Ready: math.MaxInt, Busy: math.MaxInt}
	}
	lies[0].Tenant = ""
	tell("m2", 1, lies...)
	if s, b := sum.load(); s < mostMembers || b > s {
		t.Errorf("S = %d, B = %d", s, b)
	}
	tell("m2", 2, schema.ArcStatus{Ready: 2, Busy: 9}, schema.ArcStatus{Tenant: "a", Ready: math.MinInt, Busy: math.MaxInt})
	if s, b := sum.load(); s != 5 || b != 3 {
		t.Errorf("S = %d, B = %d, want 5 and 3", s, b)
	}
	tell("m2", 3)
	if s, b := sum.load(); s != 3 || b != 1 {
		t.Errorf("S = %d, B = %d of the other alone, want 3 and 1", s, b)
	}
}
