package frontend

import (
	"cmp"
	"math"
	"slices"
	"sync/atomic"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// members are the members of one part of a reserved arc over all managers that tell of it: S in the upper half, B in the lower, so that
// one load reads both as they were at one moment. Sums are kept as statuses come and go; a call never adds anything up.
type members struct {
	sum atomic.Uint64

	// Guarded by view.mu.
	ready, busy int // exactly what all shares say: what one of them added it takes out again, whatever the others say
	refs        int // reservations and managers' shares that hold it
}

// load gives S and B.
func (m *members) load() (ready, busy int) {
	sum := m.sum.Load()
	return int(sum >> 32), int(uint32(sum))
}

// add changes the sums. view.mu is held.
func (m *members) add(ready, busy int) {
	m.ready, m.busy = m.ready+ready, m.busy+busy
	m.sum.Store(uint64(min(m.ready, math.MaxUint32))<<32 | uint64(min(m.busy, math.MaxUint32)))
}

// part is what one status names: a version on an arc, and of which sub-tenant; "" is the generic members of a function with
// sub-tenants, and all of any other.
type part struct{ arc, tenant string }

// addBound counts what is bound to a sub-tenant in: for its calls S and B are the generic members and those (DESIGN 7).
func (v *view) addBound(to *Load, arc, tenant string) {
	v.mu.Lock()
	m := v.arcs[part{arc, tenant}]
	v.mu.Unlock()
	if m != nil {
		ready, busy := m.load()
		to.S, to.B = to.S+ready, to.B+busy
	}
}

// share is what one manager told of a part. view.mu is held.
type share struct {
	of          *members
	ready, busy int  // as they count
	seen        bool // in the status that is being taken in
}

// set counts a share anew.
func (s *share) set(ready, busy int) {
	s.of.add(ready-s.ready, busy-s.busy)
	s.ready, s.busy = ready, busy
}

// mostMembers bounds what one status says of one part, mostArcs of how many parts partial ones speak beside the whole one.
const (
	mostMembers = 1 << 20
	mostArcs    = 1 << 15
)

// sums takes in what a manager tells of reserved arcs: all of it, or with partial what changed. mu is held.
func (v *view) sums(m *managerSeen, told []schema.ArcStatus, partial bool) {
	for i := range told {
		a := &told[i]
		if !subjects.IsReservedName(a.Arc) {
			continue
		}
		key := part{a.Arc, a.Tenant}
		s := m.shares[key]
		if s == nil {
			if m.shares == nil {
				m.shares = make(map[part]*share)
			}
			s = &share{of: v.hold(key)}
			m.shares[key] = s
		}
		ready := min(max(0, a.Ready), mostMembers)
		s.set(ready, min(max(0, a.Busy), ready)) // more busy ones than there are would keep calls from idle ones elsewhere
		s.seen = !partial
	}
	if partial {
		return
	}
	for key, s := range m.shares {
		if !s.seen {
			v.drop(m, key)
		}
		s.seen = false
	}
}

// silent counts what a manager told as busy as idle: nobody who is busy tells it too seldom, and the view may err towards the
// reserved arc alone, where the catcher repairs it (DESIGN 5). mu is held.
func (m *managerSeen) silent() {
	for _, s := range m.shares {
		s.set(s.ready, 0)
	}
}

// unsum takes everything out that a manager told. mu is held.
func (v *view) unsum(m *managerSeen) {
	for key := range m.shares {
		v.drop(m, key)
	}
}

func (v *view) drop(m *managerSeen, key part) {
	m.shares[key].set(0, 0)
	delete(m.shares, key)
	v.release(key)
}

// hold gives the sums of a part, release gives them back; they are forgotten with the last holder. mu is held.
func (v *view) hold(of part) *members {
	m := v.arcs[of]
	if m == nil {
		m = new(members)
		v.arcs[of] = m
	}
	m.refs++
	return m
}

func (v *view) release(of part) {
	if m := v.arcs[of]; m != nil {
		if m.refs--; m.refs == 0 {
			delete(v.arcs, of)
		}
	}
}

// merge puts what a partial status tells into the whole one that is kept. mu is held.
func merge(whole *schema.ManagerStatus, part *schema.ManagerStatus) {
	whole.Number = part.Number
	if part.Counted {
		arcs, stock := whole.Arcs, whole.Stock
		*whole = *part
		whole.Arcs, whole.Stock, whole.Partial, whole.Counted = arcs, stock, false, false
	}
	for i := range part.Arcs {
		a := &part.Arcs[i]
		at, found := slices.BinarySearchFunc(whole.Arcs, a, byArc) // a whole status is in this order, what came since stands behind it
		if !found || !sameArc(&whole.Arcs[at], a) {
			for at = 0; at < len(whole.Arcs) && !sameArc(&whole.Arcs[at], a); at++ {
			}
		}
		if at == len(whole.Arcs) {
			if at < mostArcs {
				whole.Arcs = append(whole.Arcs, *a)
			}
		} else {
			whole.Arcs[at] = *a
		}
	}
}

func byArc(a schema.ArcStatus, b *schema.ArcStatus) int { return cmp.Compare(a.Arc, b.Arc) }

func sameArc(a, b *schema.ArcStatus) bool {
	return a.Arc == b.Arc && a.Function == b.Function && a.Version == b.Version && a.Tenant == b.Tenant && a.Account == b.Account
}
