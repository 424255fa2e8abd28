package frontend

import (
	"sync/atomic"

	"github.com/hearth-run/hearth/schema"
)

// Reasons are the calls of a function that have ended, or were refused after their publication, each under its last reason
// (S15). Calls that were refused at the door have none.
type Reasons struct {
	Reserved, Spillover, Scale, Overflow, Unreserved uint64
}

// Sum is all of them.
func (r Reasons) Sum() uint64 { return r.Reserved + r.Spillover + r.Scale + r.Overflow + r.Unreserved }

// FunctionName names a function of an account.
type FunctionName struct{ Account, Function string }

// routed counts the calls of one function by reason. It lives as long as the function is known here.
type routed struct {
	reserved, spillover, scale, overflow, unreserved atomic.Uint64
}

// count counts a call that left, under the reason that it had last.
func (r *routed) count(reason schema.Reason) {
	switch reason {
	case schema.ReasonReserved:
		r.reserved.Add(1)
	case schema.ReasonSpillover:
		r.spillover.Add(1)
	case schema.ReasonScale:
		r.scale.Add(1)
	case schema.ReasonOverflow:
		r.overflow.Add(1)
	case schema.ReasonUnreserved:
		r.unreserved.Add(1)
	}
}

func (r *routed) load() Reasons {
	return Reasons{
		Reserved: r.reserved.Load(), Spillover: r.spillover.Load(), Scale: r.scale.Load(), Overflow: r.overflow.Load(),
		Unreserved: r.unreserved.Load(),
	}
}

// settle counts a call that left for good. A lost one that is published again is counted with its last attempt; a joined
// event's call has no reason here, for it was another frontend's.
func (c *call) settle() {
	c.version.routed.count(c.reason)
	c.version.told.count(c.reason)
	c.show()
}

// reasons are those of all functions of which calls have ended here.
func (fs *functions) reasons() map[FunctionName]Reasons {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	out := make(map[FunctionName]Reasons)
	for t, fn := range fs.known {
		if r := fn.routed.load(); r != (Reasons{}) {
			out[FunctionName{t.account, t.function}] = r
		}
	}
	return out
}
