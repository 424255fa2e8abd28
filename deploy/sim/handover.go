package sim

import (
	"time"

	"github.com/hearth-run/hearth/manager/pool"
)

// warmElsewhere is the manager to hand a claim to for which nothing is warm here, -1 if there is none: the first of the ring, from the
// arc's place on, that tells an idle environment of its kind. Of a reserved arc only calls of sub-tenants are handed on.
func (m *manager) warmElsewhere(c *call, g *generation) (to int, w pool.Home) {
	if c.handed || g.kind == caught || len(m.s.managers) < 2 {
		return -1, w
	}
	w = c.of.home(c.lies, c.Tenant)
	r := c.lies.res
	switch {
	case r == nil:
		return m.warmPeer(m.s.orders[c.lies.number], w, true), w
	case c.Tenant == "":
		return -1, w
	}
	if to = m.warmPeer(r.order, w, false); to < 0 {
		w.Tenant = "" // a generic one
		to = m.warmPeer(r.order, w, false)
	}
	return to, w
}

// handOn gives a claim to another manager if that one promises an environment, and else goes on with it here.
func (m *manager) handOn(c *call, g *generation, to int, w pool.Home) {
	c.handed = true
	other, hop := m.s.managers[to], 2*m.s.cfg.Hop
	home := c.of.home(c.lies, c.Tenant)
	seat := g.side.seat
	alone := &generation{side: &side{m: m, seat: seat}, kind: g.kind, class: g.class, retired: true}
	m.s.count(messageHandover)
	m.s.after(hop, func() {
		number, arc := other.pool.Promise(m.s.time(), home)
		if arc != "" {
			other.kick()
		}
		m.s.count(messageHandover)
		m.s.after(hop, func() {
			switch {
			case c.over:
			case number == 0:
				m.cold(to, w)
				m.decide(c, alone)
			default:
				m.s.count(messageHandover)
				m.s.report.HandedOver++
				m.s.after(hop, func() { other.takeOver(c, home, number) })
			}
		})
	})
}

// takeOver runs a claim that another manager handed over.
func (m *manager) takeOver(c *call, home pool.Home, promise uint64) {
	if c.over {
		return // the promise lapses
	}
	a := m.seat(c.lies)
	d := m.pool.Redeem(m.s.time(), home, promise)
	if d.Action != pool.Run {
		m.decide(c, &generation{side: &side{m: m, seat: a}, retired: true})
		return
	}
	a.needed = m.s.now
	m.begin(c, d.Environment, d.Start)
	m.carryOut(pool.Plan[*call]{Make: d.Make, End: d.End})
}

// peer is what a manager told last.
type peer struct {
	told    *status
	heard   time.Duration
	taken   map[pool.Home]int // that were handed claims since
	members map[memberKey]member
}

const peerValid = time.Second

// valid reports whether a manager was heard lately. A manager hears itself.
func (m *manager) valid(other int) bool {
	p := &m.peers[other]
	return p.told != nil && m.s.now-p.heard <= peerValid
}

func (m *manager) heardAll() bool {
	for i := range m.peers {
		if i != m.at && !m.valid(i) {
			return false
		}
	}
	return true
}

// withRoom is the rank of the first other manager that tells this much room, -1 if none does.
func (m *manager) withRoom(order []int, places int) int {
	for rank, i := range order {
		if i != m.at && m.valid(i) && m.peers[i].told.room >= places {
			return rank
		}
	}
	return -1
}

// anybody reports whether another manager tells this much room, and whether one tells as many places of hot environments.
func (m *manager) anybody(places int) (room, hot bool) {
	for i := range m.peers {
		if i != m.at && m.valid(i) {
			room, hot = room || m.peers[i].told.room >= places, hot || m.peers[i].told.hot >= places
		}
	}
	return room, hot
}

// warmPeer is the first other manager that tells an idle environment of this home. With take it counts as taken until its next status.
func (m *manager) warmPeer(order []int, home pool.Home, take bool) int {
	for _, i := range order {
		if i == m.at || !m.valid(i) {
			continue
		}
		p := &m.peers[i]
		if p.told.idle[home] <= p.taken[home] {
			continue
		}
		if take {
			p.take(home, 1)
		}
		return i
	}
	return -1
}

func (p *peer) take(home pool.Home, n int) {
	if p.taken == nil {
		p.taken = make(map[pool.Home]int)
	}
	p.taken[home] += n
}

// cold notes that a manager has nothing idle of this kind after all.
func (m *manager) cold(other int, home pool.Home) { m.peers[other].take(home, 1<<30) }
