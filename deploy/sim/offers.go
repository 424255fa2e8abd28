package sim

import (
	"time"

	"github.com/hearth-run/hearth/manager/pace"
	"github.com/hearth-run/hearth/subjects"
)

// sideKind is one of the sides of an arc at a manager, as package manager has them (manager/generation.go).
type sideKind uint8

const (
	idle    sideKind = iota // of a reserved arc: members within the share
	surplus                 // of a reserved arc alone: idle members above the share
	room                    // of an unreserved arc alone
	caught
	kinds
)

// exact reports whether a side has a pull for each environment.
func (k sideKind) exact() bool { return k <= surplus }

// seat is what a manager has to do with one arc.
type seat struct {
	arc          *arc
	rank, length int
	class, after int // of idle pulls, and of surplus ones
	sides        [kinds]*side
	held, heldAt time.Duration // neither idle pulls nor room's until then; since when
	needed       time.Duration
	pace.Need
}

// side is the pulls of one kind on one arc.
type side struct {
	m        *manager
	seat     *seat
	gen      *generation
	astray   int // pulls too many, since claims that came otherwise took environments
	astrayAt time.Duration
}

// generation is pulls that are taken back together.
type generation struct {
	side    *side
	kind    sideKind
	class   int
	open    int  // that the server holds, as far as the manager knows
	retired bool // the manager has replaced it
	drained bool // at the server
}

func (g *generation) took() {
	if !g.retired {
		g.open = max(0, g.open-1)
	}
}

// seat is this manager's seat in an arc, taken if need be.
func (m *manager) seat(a *arc) *seat {
	if at := m.byArc[a]; at != nil {
		return at
	}
	at := &seat{arc: a, rank: subjects.OffArc, needed: m.s.now, held: -1, heldAt: -time.Hour}
	for k := range at.sides {
		at.sides[k] = &side{m: m, seat: at}
	}
	m.byArc[a] = at
	m.seats = append(m.seats, at)
	m.place(a)
	return at
}

// place computes the manager's rank in an arc and the classes of its pulls.
func (m *manager) place(a *arc) {
	if a.res != nil {
		m.rank(m.seat(a))
		return
	}
	order := m.s.orders[a.number]
	length := subjects.UnreservedLength(len(order), a.stored)
	rank := subjects.OffArc
	for i, o := range order[:length] {
		if o == m.at {
			rank = i
		}
	}
	at := m.byArc[a]
	if at == nil {
		if rank < 0 {
			return
		}
		m.seat(a)
		return
	}
	switch was := at.rank; {
	case was < 0 && rank >= 0:
		m.ranked++
	case was >= 0 && rank < 0:
		m.ranked--
	}
	if length > at.length && at.length > 0 {
		at.needed = m.s.now
		at.Longer(max(1, m.s.now))
	}
	at.rank, at.length, at.class = rank, length, subjects.IdleClass(rank, length)
	m.kick()
}

// sideOf is how many pulls a side should have open, in which class.
func (m *manager) sideOf(a *seat, k sideKind) (s *side, wanted, class int) {
	s = a.sides[k]
	reserved := a.arc.res != nil
	switch k {
	case room:
		class = subjects.RoomClass(a.rank, a.length)
		if reserved || m.s.now < a.held || a.rank < 0 {
			break
		}
		wanted = pace.Credit(m.pool.Room(), m.ranked)
		if wanted == 0 && !m.out.Lasts && s.gen != nil {
			wanted = s.gen.open // what comes for them meanwhile is given back
		}
	case caught:
		class = subjects.ClassCatcher
		if reserved && a.rank >= 0 && a.rank < pace.ReservedCatchers || !reserved && a.rank >= 0 && a.rank >= a.length-2 {
			wanted = pace.CatchBatch
		}
	case surplus:
		class = a.after
		if reserved {
			wanted = m.pool.Surplus(a.arc.name)
		}
	default:
		class = a.class
		if m.s.now >= a.held {
			wanted = m.pool.Offered(a.arc.name) - m.pool.Surplus(a.arc.name)
		}
	}
	return s, wanted, class
}

// excess is how many pulls the twin of an exact side of a reserved arc has too many, which stand for members of this side.
func (m *manager) excess(a *seat, k sideKind) int {
	if a.arc.res == nil || !k.exact() {
		return 0
	}
	twin, wanted, _ := m.sideOf(a, surplus-k)
	if twin.gen == nil {
		return 0
	}
	return max(0, twin.gen.open-wanted)
}

// topSide sends what a side lacks, on the path of a call. What is more than that is for the next look.
func (m *manager) topSide(a *seat, k sideKind) {
	s, wanted, class := m.sideOf(a, k)
	opened := 0
	if s.gen != nil {
		opened = s.gen.open
	}
	lacking := wanted - opened
	if lacking > 0 {
		lacking = max(0, lacking-m.excess(a, k))
	}
	s.astray = min(s.astray, max(0, -lacking))
	switch {
	case lacking < 0:
		if k.exact() && -lacking > s.astray || !k.exact() && wanted == 0 {
			m.kick()
		}
	case lacking == 0 || s.gen != nil && !k.exact() && lacking <= wanted/2: // a credit is no promise
	case s.gen != nil && s.gen.class != class:
		m.kick()
	default:
		m.send(s, k, class, lacking)
	}
}

// send opens pulls on a side's generation, a new one if it has none.
func (m *manager) send(s *side, k sideKind, class, n int) {
	if s.gen == nil {
		s.gen = &generation{side: s, kind: k, class: class}
	}
	g := s.gen
	g.open += n
	m.s.count(messagePull)
	m.s.after(m.s.cfg.Hop, func() { s.seat.arc.pull(g, n) })
}

// retire takes a side's pulls back. Called after those that replace them were sent.
func (m *manager) retire(g *generation) {
	g.retired = true
	m.s.after(m.s.cfg.Hop, func() { g.side.seat.arc.drain(g) })
}

// renew replaces a side's pulls by as many as it should have.
func (m *manager) renew(a *seat, k sideKind) {
	s, wanted, class := m.sideOf(a, k)
	old := s.gen
	s.gen, s.astray = nil, 0
	if wanted > 0 {
		m.send(s, k, class, wanted)
	}
	if old != nil {
		m.retire(old)
	}
}

// top sends the pulls for idle environments that an arc lacks.
func (m *manager) top(name string) {
	if name == "" {
		return
	}
	a := m.seatOf(name)
	if a == nil {
		return
	}
	m.topSide(a, idle)
	if a.arc.res != nil {
		m.topSide(a, surplus)
	}
}

// seatOf is the seat in the arc of this name.
func (m *manager) seatOf(name string) *seat {
	a := m.s.byName[name]
	if a == nil {
		return nil
	}
	return m.seat(a)
}

// tops sends what the sides of a generation's arc lack that brought a claim.
func (m *manager) tops(g *generation) {
	if m.out.Lasts && m.pool.Room() > 0 {
		m.kick()
	}
	a := g.side.seat
	m.topSide(a, idle)
	if a.arc.res == nil {
		m.topSide(a, room)
	} else {
		m.topSide(a, surplus)
	}
	m.topSide(a, caught)
}

// spent notes that a pull brought nothing that could be run.
func (m *manager) spent(g *generation) {
	g.took()
	if !g.retired {
		m.topSide(g.side.seat, g.kind)
	}
}

// tookOtherwise notes that a claim took an environment that is offered by a pull that stays open.
func (a *seat) tookOtherwise(g *generation, now time.Duration) {
	for k := idle; k.exact(); k++ {
		s := a.sides[k]
		if k == surplus && s.gen == nil || g.kind == k && !g.retired {
			continue
		}
		s.astray++
		s.astrayAt = now
	}
}

// holdOff closes an arc's pulls, but the catcher's, for a moment when a call came back by them that cannot be used here.
func (m *manager) holdOff(c *call, g *generation) {
	a := g.side.seat
	if a.arc.res == nil && g.kind != caught && c.delivered > 1 && a.length > 1 && m.s.now-a.heldAt > pace.HoldEvery {
		a.heldAt, a.held = m.s.now, m.s.now+pace.HoldOff
		m.kick()
		m.s.after(pace.HoldOff, m.kick)
	}
}

// kick has the offers looked at soon.
func (m *manager) kick() {
	if m.kicked {
		return
	}
	m.kicked = true
	m.s.after(debounce, func() {
		m.kicked = false
		m.look()
	})
}

// look brings the offers of all arcs in line with what is here.
func (m *manager) look() {
	if m.out.Look(m.pool.Room(), m.pool.Freed(), m.s.time()) {
		m.tellSoon()
	}
	m.pool.Stirred(func(arc string) { m.seatOf(arc) })
	for _, a := range m.seats {
		for k := range kinds {
			m.settle(a, k)
		}
		if a.sides[surplus].gen != nil {
			m.settle(a, idle) // what was left out because surplus had pulls too many
		}
	}
}

// settle brings one side in line.
func (m *manager) settle(a *seat, k sideKind) {
	s, wanted, class := m.sideOf(a, k)
	if s.gen == nil {
		if wanted -= m.excess(a, k); wanted > 0 {
			m.send(s, k, class, wanted)
		}
		return
	}
	lacking := wanted - s.gen.open
	s.astray = min(s.astray, max(0, -lacking))
	excess := lacking < 0 && (k.exact() || wanted == 0)
	if excess && -lacking <= s.astray && m.s.now-s.astrayAt < pace.AstrayFor && m.s.now >= a.held {
		excess = false
	}
	switch {
	case excess:
		m.s.count(messageWithdrawal)
		m.renew(a, k)
	case s.gen.class != class:
		m.renew(a, k)
	case lacking > 0 && k != caught:
		if lacking -= m.excess(a, k); lacking > 0 {
			m.send(s, k, class, lacking)
		}
	}
}

// lookAgain reports whether something of the offers is due soon by time alone.
func (m *manager) lookAgain() bool {
	if m.out.Is {
		return true
	}
	for _, a := range m.seats {
		if a.sides[idle].astray+a.sides[surplus].astray > 0 {
			return true
		}
	}
	return false
}

// openSides is how many sides have pulls open.
func (m *manager) openSides() (n int) {
	for _, a := range m.seats {
		for k := range kinds {
			if a.sides[k].gen != nil {
				n++
			}
		}
	}
	return n
}

// renewAll sends all pulls anew.
func (m *manager) renewAll() {
	for _, a := range m.seats {
		for k := range kinds {
			if g := a.sides[k].gen; g != nil && (g.open > 0 || k == caught) {
				m.renew(a, k)
			}
		}
	}
}
