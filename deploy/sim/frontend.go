package sim

import (
	"maps"
	"time"

	route "github.com/hearth-run/hearth/frontend"
	"github.com/hearth-run/hearth/schema"
)

const (
	coalesce = 10 * time.Millisecond // between two tellings of calls in flight
	silence  = time.Second           // after which what a manager told as busy counts as idle
)

// frontend is one frontend: its own calls in flight, and what it heard of the others'.
type frontend struct {
	s       *sim
	at      int                 // in sim.frontends
	calls   map[*function]int   // of functions with a reservation
	others  []map[*function]int // as the other frontends told them
	members []map[memberKey]member
	heard   []time.Duration
	pause   time.Duration // changes are told again from then on
	soon    bool
}

// take takes a call in: it chooses the arc and publishes.
func (f *frontend) take(c *call) {
	s := f.s
	r := c.of.res
	a := s.unreserved(c.of, c.Tenant)
	c.reason = schema.ReasonUnreserved
	if r != nil {
		l := route.Load{Open: r.open, L: r.limit, C: 1 + f.inFlight(c.of), Theta: s.cfg.Fabric.Theta}
		l.S, l.B = f.sizes(r, c.Tenant)
		d := s.rules.route(l)
		if c.reason = d.Reason; d.Reserved {
			a = r.arc
		}
		c.counted = true
		f.change(c.of, 1)
	}
	s.count(messageCall)
	s.after(s.cfg.Hop, func() {
		if !s.publish(c, a) {
			s.refused(c, refusedQueue)
		}
	})
	s.after(s.cfg.Fabric.StartBy, func() { s.expire(c) })
}

// inFlight is the calls of a function in flight, as far as this frontend knows.
func (f *frontend) inFlight(of *function) int {
	n := f.calls[of]
	for _, told := range f.others {
		n += told[of]
	}
	return n
}

// sizes are S and B of a reservation as the managers told them; for a sub-tenant the generic members and its own.
func (f *frontend) sizes(r *reservation, tenant string) (ready, busy int) {
	for i, told := range f.members {
		m := told[memberKey{r, ""}]
		if tenant != "" {
			own := told[memberKey{r, tenant}]
			m.ready, m.busy = m.ready+own.ready, m.busy+own.busy
		}
		ready += m.ready
		if f.s.now-f.heard[i] < silence {
			busy += min(m.busy, m.ready)
		}
	}
	return ready, busy
}

// ended takes in that a call has ended.
func (f *frontend) ended(c *call) {
	if c.counted {
		c.counted = false
		f.change(c.of, -1)
	}
}

// change counts a call in flight, and tells the other frontends: at once, and then at most each 10 ms.
func (f *frontend) change(of *function, n int) {
	if f.calls[of] += n; f.calls[of] == 0 {
		delete(f.calls, of)
	}
	if len(f.s.frontends) < 2 || f.soon {
		return
	}
	f.soon = true
	f.s.after(max(0, f.pause-f.s.now), func() {
		f.soon = false
		f.pause = f.s.now + coalesce
		f.tell()
	})
}

// tell broadcasts the calls in flight.
func (f *frontend) tell() {
	s := f.s
	s.count(messageFrontend)
	from, calls := f, maps.Clone(f.calls)
	s.after(2*s.cfg.Hop, func() {
		for i, other := range s.frontends {
			if other == from {
				continue
			}
			if i == len(s.frontends)-1 && s.cfg.Lag > 0 {
				s.after(s.cfg.Lag, func() { other.others[from.at] = calls })
			} else {
				other.others[from.at] = calls
			}
		}
	})
}

// hear takes in a manager's status.
func (f *frontend) hear(t *status) {
	if !t.partial {
		f.members[t.from], f.heard[t.from] = maps.Clone(t.members), f.s.now
		return
	}
	if f.members[t.from] == nil {
		f.members[t.from] = make(map[memberKey]member)
	}
	maps.Copy(f.members[t.from], t.members)
}
