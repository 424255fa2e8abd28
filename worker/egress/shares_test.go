package egress

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// greedy takes for environments of a function, one after the other and each as much as it is given, and tells how many that were.
func greedy(s *shares, function string, environments int) (all int, each []int) {
	for range environments {
		own := 0
		for {
			if !s.take(function, own) {
				break
			}
			own++
		}
		each = append(each, own)
		all += own
	}
	return all, each
}

// TestShares: one function, however many environments it has, leaves the half to others, several leave an equal share, and inside a
// function an environment leaves something to the others.
//
// Broken to see it fail: the bound of a function is away, that of an environment is.
func TestShares(t *testing.T) {
	t.Parallel()
	s := newShares(1000)
	one, each := greedy(s, "greedy", 20)
	if one != 500 || each[0] != 334 || each[1] < 50 {
		t.Errorf("one function has %d of 1000, its environments %v", one, each)
	}
	if other, _ := greedy(s, "other", 20); other != 250 {
		t.Errorf("the next one has %d", other)
	}
	s.give("greedy", one)
	if len(s.of) != 1 || s.used != 250 {
		t.Errorf("%d of %v are used", s.used, s.of)
	}
	// Many who come at once end with the same.
	s = newShares(1000)
	const functions = 9
	var has [functions]int
	for idle := 0; idle < functions; {
		idle = 0
		for i := range has {
			if s.take(fmt.Sprint(i), has[i]/20) { // of one of its 20 environments
				has[i]++
			} else {
				idle++
			}
		}
	}
	for i, n := range has {
		if n < 99 || n > 101 {
			t.Errorf("function %d has %d: %v", i, n, has)
		}
	}
}

// TestSharesNeverFull: whatever is taken and given, numbers are right, and a function that has nothing is given something unless
// there is nothing at all.
func TestSharesNeverFull(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	s := newShares(64)
	own, all := map[string]int{}, 0
	for range 100_000 {
		function := fmt.Sprint(r.IntN(4))
		if r.IntN(5) > 0 {
			if s.take(function, r.IntN(own[function]+1)) {
				own[function]++
				all++
			}
		} else if own[function] > 0 {
			s.give(function, 1)
			own[function]--
			all--
		}
		if s.used != all || s.of[function] != own[function] || all > 64 {
			t.Fatalf("%d used of %v, are %d of %v", s.used, s.of, all, own)
		}
		if all < 64 {
			if !s.take("new", 0) {
				t.Fatalf("nothing for a new one of %d: %v", 64-all, own)
			}
			s.give("new", 1)
		}
	}
}
