package manager

import (
	"sync/atomic"
	"time"

	"github.com/hearth-run/hearth/subjects"
)

// clocks are the ages of claims by the stream that they come from. In a cluster each may lie on a server with a clock of its own, and a
// server that is ahead would make the calls of all others look old. The streams of a single server share its one clock, so that a stream
// of which nothing came for a minute is not in doubt where another is not. Safe for concurrent use.
type clocks struct {
	clustered atomic.Bool
	by        [subjects.UnreservedStreams + subjects.MaxShards]ages
}

// of is that of the stream of an arc.
func (c *clocks) of(t *subjects.ArcCall) *ages {
	switch {
	case !c.clustered.Load():
		return &c.by[0]
	case t.Reserved:
		return &c.by[subjects.UnreservedStreams+t.Number%subjects.MaxShards]
	}
	return &c.by[t.Number%subjects.UnreservedStreams]
}

// claimed is the highest sequence that was claimed from a stream of unreserved arcs, 0 if none was or where streams are not told apart.
func (c *clocks) claimed(stream int) uint64 {
	if !c.clustered.Load() {
		return 0
	}
	a := &c.by[stream]
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last
}

// stamp is the time of the server whose clock is ahead of all others of which something is known, Unix ns.
func (c *clocks) stamp(now time.Duration) (latest int64, known bool) {
	for i := range c.by {
		if at, ok := c.by[i].stamp(now); ok && (!known || at > latest) {
			latest, known = at, true
		}
	}
	return latest, known
}

// reset forgets everything: another server may keep another time.
func (c *clocks) reset(clustered bool) {
	c.clustered.Store(clustered)
	for i := range c.by {
		c.by[i].reset()
	}
}
