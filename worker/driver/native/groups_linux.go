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

	mu     sync.Mutex
	last   uint64
	spare  []group // the one that is spare for longest first: what the kernel frees behind an end is free then
	closed bool
	reused uint64
}

// spareMost is how many groups are kept that nobody has, at most: each takes some 50 KB of the kernel.
const spareMost = 64

// take is a group that nobody has.
func (g *groups) take() (group, error) {
	for {
		one, number := g.pop()
		if one == nil {
			return g.h.make(fmt.Sprintf("e%d", number))
		}
		next, err := one.again()
		if err == nil {
			g.mu.Lock()
			g.reused++
			g.mu.Unlock()
			return next, nil
		}
		if err := one.remove(); err != nil {
			return nil, err
		}
	}
}

// pop takes a spare one, or the number of the next.
func (g *groups) pop() (one group, number uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.spare) == 0 {
		g.last++
		return nil, g.last
	}
	one = g.spare[0]
	g.spare = g.spare[1:]
	return one, 0
}

// give takes the group of an environment that has ended. Whoever had it reads nothing of it any more.
func (g *groups) give(one group) error {
	if !one.end() || !g.keep(one) {
		return one.remove()
	}
	return nil
}

func (g *groups) keep(one group) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed || len(g.spare) >= spareMost {
		return false
	}
	g.spare = append(g.spare, one)
	return true
}

// trim removes spare groups beyond so many.
func (g *groups) trim(most int) error {
	g.mu.Lock()
	var old []group
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
