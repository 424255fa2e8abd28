//go:build amd64 || arm64

package native

import (
	"errors"
	"fmt"
	"sync"
)

// groups hands out the cgroups of environments, and uses those of ended ones again where the hierarchy allows it: to make and remove
// one is a tenth of the processor time that a sandbox costs, most of it behind everybody's back (measured). What such a group holds is
// numbers that no function sees; those that the worker reads begin anew, and one that holds memory still is not used again. Safe for
// concurrent use.
type groups struct {
	h hierarchy

	given chan<- struct{} // of the stock: there is one more to trim; nil: nobody trims

	mu     sync.Mutex
	last   uint64
	spare  []group // the one that is spare for longest first: what the kernel frees behind an end is free then
	unfit  []group // were spare, and nobody can use them: the next trim removes them
	closed bool
	reused uint64
}

// spareMost is how many groups are kept that nobody has, at most: each takes some 50 KB of the kernel.
const spareMost = 64

// take is a group that nobody has. It waits for the removal of none: where the one that is spare for longest cannot be used, it makes one.
func (g *groups) take() (group, error) {
	if one := g.pop(); one != nil {
		if next, err := one.again(); g.note(one, err == nil) {
			return next, nil
		}
	}
	g.mu.Lock()
	g.last++
	number := g.last
	g.mu.Unlock()
	return g.h.make(fmt.Sprintf("e%d", number))
}

// pop takes a spare one, nil if there is none.
func (g *groups) pop() (one group) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.spare) > 0 {
		one = g.spare[0]
		g.spare = g.spare[1:]
	}
	return one
}

// note notes whether a spare one is used again, or is to be removed.
func (g *groups) note(one group, again bool) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if again {
		g.reused++
	} else {
		g.unfit = append(g.unfit, one)
	}
	return again
}

// give takes the group of an environment that has ended. Whoever had it reads nothing of it any more.
func (g *groups) give(one group) error {
	if !one.end() || !g.keep(one) {
		return one.remove()
	}
	select {
	case g.given <- struct{}{}:
	default:
	}
	return nil
}

func (g *groups) keep(one group) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed || len(g.spare)+len(g.unfit) >= spareMost {
		return false
	}
	g.spare = append(g.spare, one)
	return true
}

// trim removes spare groups beyond so many, and those that nobody can use.
func (g *groups) trim(most int) error {
	g.mu.Lock()
	old := g.unfit
	g.unfit = nil
	if n := len(g.spare) - most; n > 0 {
		old = append(old, g.spare[:n]...)
		g.spare = append([]group(nil), g.spare[n:]...)
	}
	g.mu.Unlock()
	var errs []error
	for _, one := range old {
		errs = append(errs, one.remove())
	}
	return errors.Join(errs...)
}

// close removes what is spare, and keeps none from now on.
func (g *groups) close() error {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	return g.trim(0)
}
