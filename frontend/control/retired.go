package control

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// keepVariables is how long sealed variables stay after their last version has been replaced: as long as managers
	// keep what they know of it, for calls that were accepted before may still wait for an environment with them.
	keepVariables = 30 * time.Second
	// maxRetired is how many sets may stay; those of deploys beyond that go at once.
	maxRetired = 4096
	// retireTime bounds the removal of one set, and of all that are left when the service ends.
	retireTime = 2 * time.Second
)

// retired are sealed sets to which no version refers any more, oldest first, until their time comes. The zero value is
// ready.
type retired struct {
	mu    sync.Mutex
	sets  []retiredSet
	ended bool
	kick  chan struct{} // holds one: there is a first set
}

type retiredSet struct {
	key string
	due time.Time
}

// add keeps a set until its time comes; it reports false where it cannot.
func (r *retired) add(key string, due time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended || len(r.sets) >= maxRetired {
		return false
	}
	r.sets = append(r.sets, retiredSet{key, due})
	select {
	case r.kick <- struct{}{}:
	default:
	}
	return true
}

// first is the set whose time comes next.
func (r *retired) first() (retiredSet, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.sets) == 0 {
		return retiredSet{}, false
	}
	return r.sets[0], true
}

// pop forgets the first set.
func (r *retired) pop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sets = r.sets[1:]
}

// end gives what is left; nothing is taken any more.
func (r *retired) end() []retiredSet {
	r.mu.Lock()
	defer r.mu.Unlock()
	left := r.sets
	r.sets, r.ended = nil, true
	return left
}

// retire removes replaced sets when their time comes, until the service stops, and then those that are left: nobody else
// would.
func (s *Service) retire() {
	wait := time.NewTimer(0)
	defer wait.Stop()
	for {
		var due <-chan time.Time
		set, ok := s.retired.first()
		if ok {
			wait.Reset(time.Until(set.due))
			due = wait.C
		}
		select {
		case <-s.stop:
			ctx, cancel := context.WithTimeoutCause(context.Background(), retireTime, errors.New("removing what was replaced"))
			defer cancel()
			for _, set := range s.retired.end() {
				s.dropSecrets(ctx, nil, set.key)
			}
			return
		case <-s.retired.kick:
		case <-due:
			ctx, cancel := context.WithTimeoutCause(context.Background(), retireTime, errors.New("removing what was replaced"))
			s.dropSecrets(ctx, nil, set.key)
			cancel()
			s.retired.pop()
		}
	}
}
