package sim

import (
	"time"

	"github.com/hearth-run/hearth/manager/pace"
	"github.com/hearth-run/hearth/manager/pool"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// catch takes what no other pull took: a first delivery is kept for a moment and given back, a second one acted on.
func (m *manager) catch(c *call, g *generation) {
	m.s.report.Caught++
	if c.delivered > 1 {
		m.decide(c, g)
		return
	}
	if d := m.warm(m.s.time(), c); d.Action != pool.Unknown {
		g.took()
		m.decided(c, g, &d)
		return
	}
	m.s.after(m.s.cfg.Fabric.Catch, func() {
		if !c.over {
			m.giveBackAfter(c, 0)
		}
		m.spent(g)
	})
}

// giveBack returns a claim that this manager cannot use: at once the first time, then after 10 ms.
func (m *manager) giveBack(c *call) {
	if c.delivered == 1 {
		m.giveBackAfter(c, 0)
	} else {
		m.giveBackAfter(c, pace.Later)
	}
}

func (m *manager) giveBackAfter(c *call, delay time.Duration) {
	a := c.lies
	if c.over || a == nil {
		return
	}
	m.s.count(messageNak)
	m.s.after(m.s.cfg.Hop+delay, func() {
		if c.lies == a && !c.over {
			a.again.add(c)
			a.match()
		}
	})
}

// turnAway decides what becomes of a claim that came back and for which this manager has no room.
func (m *manager) turnAway(c *call, g *generation, d *pool.Decision) {
	if c.lies.res != nil {
		if g.kind == caught {
			m.overflow(c)
		} else {
			m.giveBack(c)
		}
		return
	}
	a := g.side.seat
	order := m.s.orders[a.arc.number]
	length := subjects.UnreservedLength(len(m.s.managers), a.arc.stored)
	_, hot := m.anybody(d.Places)
	look := pace.Look{
		Now: m.s.now, Here: m.pool.Room()+m.pool.Soon() >= d.Places, First: m.withRoom(order, d.Places), Length: length,
		Heard: m.heardAll(), Delivered: c.delivered, Hot: hot || m.pool.Hot() >= d.Places,
	}
	full, grow := a.Judge(look)
	switch {
	case full:
		m.refuse(c, refusedFull)
		return
	case grow:
		m.grow(a.arc, length)
	}
	if g.kind == caught {
		m.giveBackAfter(c, pace.Again(c.delivered))
	} else {
		m.giveBack(c)
	}
}

// overflow moves a caught call off its reserved arc: the lock, then a copy on the unreserved one.
func (m *manager) overflow(c *call) {
	m.s.count(messageLock)
	m.s.after(2*m.s.cfg.Hop, func() {
		if c.over {
			return
		}
		m.s.remove(c)
		m.s.count(messageMove)
		m.s.after(m.s.cfg.Hop, func() {
			if c.over {
				return
			}
			c.reason = schema.ReasonOverflow
			if !m.s.publish(c, m.s.unreserved(c.of, c.Tenant)) {
				m.s.refused(c, refusedQueue)
			}
		})
	})
}

// grow makes an unreserved arc longer by one, if its length is still this when the server hears it.
func (m *manager) grow(a *arc, length int) {
	m.s.resize(a, length, length+1, func() { m.s.report.Arcs.Grown++ })
}

// shrink makes those arcs shorter by this manager in which it stands last and was not needed for a while.
func (m *manager) shrink() {
	used := make(map[string]bool)
	for g := range m.pool.Groups {
		if n := g.Counts; g.Waiting+n.Busy+n.Starting+n.Finishing+n.Promised > 0 {
			used[g.Spec.Arc] = true
		}
	}
	least := subjects.UnreservedLength(len(m.s.managers), 0)
	for _, a := range m.seats {
		switch {
		case a.arc.res != nil || a.rank < 0 || a.rank != a.length-1 || a.length <= least:
		case used[a.arc.name]:
			a.needed = m.s.now
		case m.s.now-a.needed >= m.s.cfg.Fabric.Quiet:
			m.s.resize(a.arc, a.length, a.length-1, func() { m.s.report.Arcs.Shrunk++ })
		}
	}
}

// resize stores a length for an arc by compare-and-set, and has all managers read it.
func (s *sim) resize(a *arc, from, to int, stored func()) {
	s.count(messageStore)
	s.after(s.cfg.Hop, func() {
		if subjects.UnreservedLength(len(s.managers), a.stored) != from {
			return
		}
		a.stored = to
		stored()
		s.after(s.cfg.Hop, func() {
			for _, m := range s.managers {
				m.place(a)
			}
		})
	})
}
