package sim

import (
	"maps"
	"slices"

	"github.com/hearth-run/hearth/manager/pace"
	"github.com/hearth-run/hearth/manager/pool"
	"github.com/hearth-run/hearth/subjects"
)

// memberKey names the members of a reservation that are bound to one sub-tenant; "" the generic ones, and all of a function without.
type memberKey struct {
	res    *reservation
	tenant string
}

// member is what a manager tells of them.
type member struct{ ready, busy, share int }

// status is what a manager tells of itself. It is immutable.
type status struct {
	from    int
	partial bool // of one home: it went idle
	room    int  // places, those that come soon too
	hot     int  // places of hot environments
	idle    map[pool.Home]int
	members map[memberKey]member
}

func (s *status) same(other *status) bool {
	return other != nil && s.room == other.room && s.hot == other.hot && maps.Equal(s.idle, other.idle) && maps.Equal(s.members, other.members)
}

// eager reports whether frontends are to know of an idle member before all else; see package manager.
func (s *sim) eager() bool { return s.cfg.Fabric.Theta >= 1 }

// busyOf is what was told of a home's members, and how many are busy; nil of an unreserved one.
func (m *manager) busyOf(home pool.Home) (*pace.Busy, int) {
	if home.Reservation == 0 {
		return nil, 0
	}
	g, ok := m.pool.Group(home)
	if !ok {
		return nil, 0
	}
	return m.told(home), g.Counts.Busy + g.Counts.Promised
}

func (m *manager) told(home pool.Home) *pace.Busy {
	key := memberKey{m.s.reserved[home.Reservation-1], home.Tenant}
	b := m.busy[key]
	if b == nil {
		b = &pace.Busy{}
		m.busy[key] = b
	}
	return b
}

func (m *manager) busier(home pool.Home) bool {
	b, n := m.busyOf(home)
	return b != nil && b.Above(n)
}

func (m *manager) idler(home pool.Home) bool {
	b, n := m.busyOf(home)
	return b != nil && b.Fewer(n)
}

// tellMember tells that a member went idle, if fewer are busy than was told last. It is told before the call's answer.
func (m *manager) tellMember(home pool.Home) {
	g, ok := m.pool.Group(home)
	if b, n := m.busyOf(home); !ok || b == nil || !b.Below(n) {
		return
	}
	mem, _ := m.member(&g)
	m.tell(&status{from: m.at, partial: true, members: map[memberKey]member{{m.s.reserved[home.Reservation-1], home.Tenant}: mem}})
}

// member is what is told of one home, and whether more is to be told soon.
func (m *manager) member(g *pool.Group) (mem member, rising bool) {
	busy, rising := m.told(g.Home).Tell(g.Counts.Busy+g.Counts.Promised, m.s.eager())
	return member{ready: g.Counts.Ready(), busy: busy, share: g.Share.Members}, rising
}

// tellSoon has the status told soon: something changed that others act on.
func (m *manager) tellSoon() {
	if m.soon {
		return
	}
	m.soon = true
	m.s.after(pace.StatusSoon, func() {
		m.soon = false
		m.tellAll(false)
	})
}

// tellAll tells everything, if anything changed or always is asked for.
func (m *manager) tellAll(always bool) {
	s, rising := m.status()
	if always || !s.same(m.last) {
		m.last = s
		m.tell(s)
	}
	if rising {
		m.tellSoon()
	}
}

func (m *manager) status() (s *status, rising bool) {
	s = &status{from: m.at, room: m.pool.Room() + m.pool.Soon(), hot: m.pool.Hot(), idle: make(map[pool.Home]int), members: make(map[memberKey]member)}
	for g := range m.pool.Groups {
		n := g.Counts
		free := n.Idle + n.Finishing
		if g.Home.Reservation != 0 {
			mem, more := m.member(&g)
			rising = rising || more
			free += n.Busy + n.Promised - mem.busy
			if mem.ready+mem.share > 0 {
				s.members[memberKey{m.s.reserved[g.Home.Reservation-1], g.Home.Tenant}] = mem
			}
			if g.Unable {
				m.s.skip(m.s.reserved[g.Home.Reservation-1], m.id)
			}
		}
		if free > 0 {
			s.idle[g.Home] = free
		}
	}
	return s, rising
}

// skip leaves a manager out of the shares of a reservation, which cannot hold its own.
func (s *sim) skip(r *reservation, manager string) {
	if slices.Contains(r.skip, manager) || len(r.skip)+1 == len(s.managers) {
		return
	}
	r.skip = append(r.skip, manager)
	s.after(2*s.cfg.Hop, func() { s.share(r) })
}

// tell has managers and frontends hear a status.
func (m *manager) tell(t *status) {
	s := m.s
	s.count(messageStatus)
	s.after(2*s.cfg.Hop, func() {
		for _, other := range s.managers {
			other.hear(t)
		}
		for i, f := range s.frontends {
			if i == len(s.frontends)-1 && s.cfg.Lag > 0 {
				s.after(s.cfg.Lag, func() { f.hear(t) })
			} else {
				f.hear(t)
			}
		}
	})
}

// hear takes in a status.
func (m *manager) hear(t *status) {
	p := &m.peers[t.from]
	if t.partial {
		if p.members == nil {
			p.members = make(map[memberKey]member)
		}
		maps.Copy(p.members, t.members)
		return
	}
	if !sameHolders(p.members, t.members) {
		m.turned = true
	}
	p.told, p.heard, p.taken = t, m.s.now, nil
	p.members = maps.Clone(t.members)
}

// sameHolders reports whether the same reservations have members, as many within the share and above it or not.
func sameHolders(a, b map[memberKey]member) bool {
	return maps.EqualFunc(a, b, func(x, y member) bool { return x.ready == y.ready && x.share == y.share })
}

// rank puts this manager in its place in a reserved arc (manager/reserved.go): its rank, by which it is a catcher, and the classes of
// its pulls among the managers that hold members within their shares, and among those that hold some above them.
func (m *manager) rank(a *seat) {
	r := a.arc.res
	a.rank, a.length = subjects.OffArc, 0
	within, withins, above, aboves := subjects.OffArc, 0, subjects.OffArc, 0
	for _, i := range r.order {
		if skipped := slices.Contains(r.skip, m.s.managers[i].id); !skipped {
			if i == m.at {
				a.rank = a.length
			}
			a.length++
		}
		mem, bound := m.holds(i, r)
		if i == m.at {
			within, above = withins, aboves
		}
		if i == m.at || min(mem.ready, mem.share)+bound > 0 {
			withins++
		}
		if i == m.at || mem.ready > mem.share {
			aboves++
		}
	}
	a.class, a.after = subjects.ReservedClass(within, withins), subjects.SurplusClass(above, aboves)
}

// holds is what a manager tells of a reservation's generic members, and how many are bound.
func (m *manager) holds(other int, r *reservation) (mem member, bound int) {
	p := &m.peers[other]
	if p.told == nil || m.s.now-p.heard > peerValid {
		return mem, 0
	}
	for key, x := range p.members {
		switch {
		case key.res != r:
		case key.tenant == "":
			mem = x
		default:
			bound += x.ready
		}
	}
	return mem, bound
}

// rankAll looks again at who holds members, if anybody told of other ones.
func (m *manager) rankAll() {
	if !m.turned {
		return
	}
	m.turned = false
	for _, a := range m.seats {
		if a.arc.res == nil {
			continue
		}
		class, after := a.class, a.after
		if m.rank(a); class != a.class || after != a.after {
			m.kick()
		}
	}
}
