package manager

import (
	"math/rand/v2"
	"testing"

	"github.com/hearth-run/hearth/manager/pool"
	"github.com/hearth-run/hearth/schema"
)

// Whatever happened to a hundred homes, who lays what was told of changes over the last whole status knows what a whole one would say.
func TestChangesSayAsMuchAsTheWhole(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Log("seed", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	r := manyReserved(t, 100, 3)
	r.m.shares = newShares()
	for _, home := range r.homes {
		r.m.shares.byEpoch[home.Reservation] = &stake{epoch: home.Reservation, home: home, known: true, kept: true, share: pool.Share{Members: 3}}
	}
	r.look(0, true, false)
	tell := &r.m.telling
	known := make(map[string]schema.ArcStatus)
	var numbers schema.ManagerStatus
	heard := func(s *schema.ManagerStatus) {
		if s.Number == 0 {
			return
		}
		if !s.Partial {
			clear(known)
		}
		for _, a := range s.Arcs {
			known[a.Arc] = a
		}
		numbers = *s
		numbers.Arcs = nil
	}
	whole := r.m.statusWhole(tell, true)
	heard(&whole)
	partial := 0
	for i := range 5000 {
		at := random.IntN(len(r.arcs))
		switch random.IntN(12) {
		case 0, 1, 2:
			r.call(r.arcs[at], r.arcs[at].sides[idle].gen)
		case 3, 4:
			for e := range r.busy {
				r.end(e)
				break
			}
		case 5:
			plan := r.m.pool.SetShare(r.now, r.homes[at], pool.Spec{Arc: r.arcs[at].name}, pool.Share{Members: random.IntN(5)})
			for _, mk := range plan.Make {
				r.m.pool.Parked(r.now, mk.Environment, 0)
			}
		case 6:
			r.look(turnEvery, false, false)
			for _, id := range r.m.pool.Tick(r.now, 0, 0).End {
				r.m.pool.Gone(r.now, id)
			}
		default:
			always := random.IntN(4) == 0
			s, ok := r.m.statusChanges(tell, always)
			if !ok {
				t.Fatal("of so many homes the whole is to be told")
			}
			if always && s.Number == 0 {
				t.Fatal("that nothing changed is not told")
			}
			if s.Partial && s.Number != 0 {
				partial++
			}
			heard(&s)
		}
		if i%50 != 0 {
			continue
		}
		for range 3 { // who has been busy since the last look is told busy with the next
			s, _ := r.m.statusChanges(tell, false)
			heard(&s)
		}
		want := r.m.Status()
		if !sameNumbers(&numbers, &want) {
			t.Fatalf("told %+v, it is %+v", numbers, want)
		}
		told := 0
		for _, a := range known {
			if tells(&a) {
				told++
			}
		}
		for _, a := range want.Arcs {
			if known[a.Arc] != a {
				t.Fatalf("told %+v, it is %+v", known[a.Arc], a)
			}
		}
		if told != len(want.Arcs) {
			t.Fatalf("%d arcs were told of, there are %d", told, len(want.Arcs))
		}
	}
	if partial == 0 {
		t.Error("nothing was told by what changed alone")
	}
}
