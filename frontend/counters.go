package frontend

import (
	"sync/atomic"

	"github.com/hearth-run/hearth/schema"
)

// counters counts what happened since the start. They only grow. Tries are those of events, which came to no door.
type counters struct {
	calls, tries, dropped, unclaimed, lost, untold, again, gone, joined, fetched, spilled atomic.Uint64

	refused map[schema.Code]*atomic.Uint64 // a row for each code; the map itself never changes
}

func newCounters() *counters {
	c := &counters{refused: make(map[schema.Code]*atomic.Uint64)}
	for _, row := range schema.Table() {
		c.refused[row.Code] = new(atomic.Uint64)
	}
	return c
}

func (c *counters) refuse(err error) {
	if n := c.refused[schema.CodeOf(err)]; n != nil {
		n.Add(1)
	}
}

// Counters is a snapshot of what a frontend counted since its start.
type Counters struct {
	Calls     uint64                 // requests that came to any door
	Refused   map[schema.Code]uint64 // answered with an error, by its code; codes that did not occur are left out
	Dropped   uint64                 // requests that cannot be answered: no reply subject, or one that is not allowed
	Gone      uint64                 // callers of this process that left before their answer
	Unclaimed uint64                 // answers that came for nobody: the caller has gone
	Lost      uint64                 // calls answered with ExecutionLost
	Again     uint64                 // lost calls of idempotent functions that were published again
	Joined    uint64                 // tries of events that ran already and were joined
	Untold    uint64                 // calls whose answer went out and whose end nobody told
	Fetched   uint64                 // payloads that were handed to their claimers
	InFlight  int                    // calls in flight now
	Held      int64                  // bytes of payloads held now
	Spilled   uint64                 // calls that a reserved arc refused and that were published on their unreserved one

	// Routed is how the calls of each function went that have ended, by the reason that each had last; functions of which none
	// did are left out.
	Routed map[FunctionName]Reasons
}

// Counters is a snapshot; its numbers are each exact, and not all of the same instant.
func (f *Frontend) Counters() Counters {
	c := f.counters
	out := Counters{
		Calls: c.calls.Load(), Refused: make(map[schema.Code]uint64), Dropped: c.dropped.Load(), Gone: c.gone.Load(),
		Unclaimed: c.unclaimed.Load(), Lost: c.lost.Load(), Again: c.again.Load(), Untold: c.untold.Load(), Joined: c.joined.Load(),
		Fetched: c.fetched.Load(), InFlight: int(f.pending.count.Load()), Held: f.pending.held.bytes.Load(),
		Spilled: c.spilled.Load(), Routed: f.functions.reasons(),
	}
	for code, n := range c.refused {
		if v := n.Load(); v > 0 {
			out.Refused[code] = v
		}
	}
	return out
}
