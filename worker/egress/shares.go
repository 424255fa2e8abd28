package egress

import "sync"

// shares divides room among functions, and what a function has among its environments, so that neither one function nor one
// environment of it takes all of it: who has less than what nobody has may take one more. So a function alone comes to a half of
// all, two to a third each, n to a share of n+1, and there is always one left for whoever comes next. Of what its function may still
// take an environment may have as much. Safe for concurrent use.
type shares struct {
	mu   sync.Mutex
	most int // of all
	used int
	of   map[string]int // by function
}

func newShares(most int) *shares { return &shares{most: most, of: map[string]int{}} }

// take takes one more for an environment that has own of its function's; false if that is beyond its share.
func (s *shares) take(function string, own int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	free, has := s.most-s.used, s.of[function]
	if has >= free || own >= free-has {
		return false
	}
	s.used++
	s.of[function] = has + 1
	return true
}

// taken tells how many a function and all have.
func (s *shares) taken(function string) (theirs, all int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.of[function], s.used
}

// give gives n back.
func (s *shares) give(function string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used -= n
	if s.of[function] -= n; s.of[function] <= 0 {
		delete(s.of, function)
	}
}
