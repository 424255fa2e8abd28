package subjects_test

import (
	"fmt"
	"testing"

	"github.com/hearth-run/hearth/subjects"
)

func ringOf(n int) *subjects.Ring {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprint("m", i+1)
	}
	return subjects.NewRing(0, ids)
}

// The shares of a reservation add up to its limit, whoever is left out, and those that were there stay when it grows (S03).
func TestPlaces(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 9; n++ {
		r := ringOf(n)
		var before []subjects.Place
		for l := 1; l <= 70; l++ {
			places := r.Places(nil, "default", "resize", "1", l, 5, nil)
			sum := 0
			for rank, p := range places {
				if p.Rank != rank {
					t.Fatalf("n %d l %d: rank %d at %d", n, l, p.Rank, rank)
				}
				if rank < len(before) && (before[rank].Manager != p.Manager || before[rank].Share > p.Share) {
					t.Fatalf("n %d l %d: %v was %v", n, l, p, before[rank])
				}
				sum += p.Share
			}
			if sum != l || len(places) != subjects.ReservedLength(l, 5, n) {
				t.Fatalf("n %d l %d: %d members on %d managers", n, l, sum, len(places))
			}
			before = places
		}
	}
}

// Whoever cannot hold its share is left out, the others keep their order; with nobody left there is no place.
func TestPlacesSkip(t *testing.T) {
	t.Parallel()
	r := ringOf(4)
	all := r.Places(nil, "default", "resize", "1", 20, 5, nil)
	without := r.Places(nil, "default", "resize", "1", 20, 5, []string{all[1].Manager})
	if len(all) != 4 || len(without) != 3 || without[0].Manager != all[0].Manager || without[1].Manager != all[2].Manager ||
		without[2].Manager != all[3].Manager {
		t.Fatalf("%v without %s is %v", all, all[1].Manager, without)
	}
	if got := r.Places(nil, "default", "resize", "1", 20, 5, []string{"m1", "m2", "m3", "m4"}); len(got) != 0 {
		t.Fatalf("with nobody left: %v", got)
	}
	if got := r.Places(nil, "default", "resize", "1", 0, 5, nil); len(got) != 0 {
		t.Fatalf("with nothing reserved: %v", got)
	}
}
