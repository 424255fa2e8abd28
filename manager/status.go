package manager

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/hearth-run/hearth/manager/pool"
	"github.com/hearth-run/hearth/schema"
)

const (
	statusEvery = 500 * time.Millisecond // the whole is told
	statusSoon  = 20 * time.Millisecond  // changes wait for others
)

// tellSoon has the status told soon: something changed that others act on.
func (m *Manager) tellSoon() { signal(m.statusKick) }

// statusLoop tells this manager's status.
func (m *Manager) statusLoop(ctx context.Context) {
	tick := time.NewTicker(statusEvery)
	defer tick.Stop()
	wait := time.NewTimer(statusSoon)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			m.shrink()
			m.tellAll(true)
			continue
		case <-m.statusKick:
			wait.Reset(statusSoon)
			select {
			case <-ctx.Done():
				return
			case <-wait.C:
			}
		}
		m.tellAll(false)
	}
}

// telling numbers this manager's statuses, whole and partial ones. What a status says is looked at, numbered and handed to the
// connection under its lock, for whoever hears them takes none that is older than the last.
type telling struct {
	mu     sync.Mutex
	number uint64
	last   schema.ManagerStatus // what was told of the whole, without Arcs
	told   []schema.ArcStatus   // as it was told last, in the order of compareArcs
}

// tellAll tells everything; with whole every arc, else those alone that changed where there are many: with 1,000 reservations a whole
// status takes 100 KB, and while they change it would be told fifty times a second to everybody.
func (m *Manager) tellAll(whole bool) {
	if !m.nc.IsConnected() {
		return
	}
	t := &m.telling
	t.mu.Lock()
	s, rising := m.status(true)
	if w, ok := m.worker.(Stocked); ok && whole {
		s.Stock = w.Stock()
	}
	all := s.Arcs
	var changed []schema.ArcStatus
	if !whole {
		changed = changedArcs(t.told, all)
	}
	if whole || len(changed) > 0 || !sameNumbers(&t.last, &s) {
		t.number++
		s.Number = t.number
		t.last, t.told = s, all
		t.last.Arcs = nil
		told := s
		if !whole && len(all) > fewTold && len(changed) <= len(all)/2 {
			told.Arcs, told.Partial, told.Counted = changed, true, true
		}
		m.tell(m.names.ManagerStatus(m.cfg.ID), told)
	}
	s.Number = t.number
	stirred := m.peers.toldOwn(&s, m.now())
	t.mu.Unlock()
	m.stirred(stirred)
	if rising {
		m.tellSoon()
	}
}

// sameNumbers reports whether two statuses say the same of everything but arcs.
func sameNumbers(a, b *schema.ManagerStatus) bool {
	return a.RingEpoch == b.RingEpoch && a.State == b.State && a.Capacity == b.Capacity && a.Room == b.Room && a.Soon == b.Soon &&
		a.Idle == b.Idle && a.Busy == b.Busy && a.Starting == b.Starting && a.Reserved == b.Reserved && a.Surplus == b.Surplus
}

// fewTold is how many arcs are always told whole.
const fewTold = 32

// changedArcs are what is told otherwise than before, and with nothing of it what is told no more. Both are in the order of
// compareArcs.
func changedArcs(before, now []schema.ArcStatus) (changed []schema.ArcStatus) {
	for len(before)+len(now) > 0 {
		order := 0
		switch {
		case len(before) == 0:
			order = 1
		case len(now) == 0:
			order = -1
		default:
			order = compareArcs(before[0], now[0])
		}
		switch {
		case order < 0:
			b := &before[0]
			changed = append(changed, schema.ArcStatus{Arc: b.Arc, Account: b.Account, Function: b.Function, Version: b.Version, Tenant: b.Tenant})
			before = before[1:]
		case order > 0:
			changed = append(changed, now[0])
			now = now[1:]
		default:
			if before[0] != now[0] {
				changed = append(changed, now[0])
			}
			before, now = before[1:], now[1:]
		}
	}
	return changed
}

func compareArcs(a, b schema.ArcStatus) int {
	return cmp.Or(cmp.Compare(a.Arc, b.Arc), cmp.Compare(a.Account, b.Account), cmp.Compare(a.Function, b.Function),
		cmp.Compare(a.Version, b.Version), cmp.Compare(a.Tenant, b.Tenant))
}

// tellMember tells that a member of a reservation went idle, if fewer are busy than was told last. It is told after the offer and
// before the call's answer: who reads both in order finds the member idle (DESIGN 5).
func (m *Manager) tellMember(home pool.Home) {
	if !m.nc.IsConnected() {
		return
	}
	m.telling.mu.Lock()
	defer m.telling.mu.Unlock()
	m.mu.Lock()
	g, ok := m.pool.Group(home)
	if !ok || !m.fewer(&g) { // another end told it
		m.mu.Unlock()
		return
	}
	a, _ := m.arcStatus(&g, true)
	m.mu.Unlock()
	m.telling.number++
	if at, ok := slices.BinarySearchFunc(m.telling.told, a, compareArcs); ok {
		m.telling.told[at] = a
	}
	m.tell(m.names.ManagerStatus(m.cfg.ID), schema.ManagerStatus{
		V: schema.Version, ID: m.cfg.ID, Incarnation: m.incarnation, Number: m.telling.number, RingEpoch: m.view.Load().record.Epoch,
		State: m.State(), Capacity: m.Capacity(), Partial: true, Arcs: []schema.ArcStatus{a},
	})
}

// idler reports whether fewer members of a reserved home are busy than was told last, busier whether more are. Manager.mu is held.
func (m *Manager) idler(home pool.Home) bool {
	if home.Reservation == 0 {
		return false
	}
	g, ok := m.pool.Group(home)
	h := m.shares.byEpoch[home.Reservation]
	if !ok || h == nil {
		return false
	}
	n := taken(g.Counts)
	h.low = min(h.low, n)
	return n < h.busy
}

func (m *Manager) busier(home pool.Home) bool {
	if home.Reservation == 0 {
		return false
	}
	g, ok := m.pool.Group(home)
	h := m.shares.byEpoch[home.Reservation]
	return ok && h != nil && taken(g.Counts) > h.busy
}

func (m *Manager) fewer(g *pool.Group) bool {
	h := m.shares.byEpoch[g.Home.Reservation]
	return h != nil && taken(g.Counts) < h.busy
}

// eager reports whether the frontends are to know of an idle member before all else, and may take a busy one for idle: with theta 1
// no call goes cold while a member is idle. Below that theta asks which part is busy, and calls go cold by it on purpose: then a
// member that went idle waits for others as one that is busy does. Told first, the idle ones made the busy ones look fewer, by
// about one for each manager, and a set of 79 at eight managers under 80 callers never came down to 0.9.
func (m *Manager) eager() bool { return m.view.Load().fabric.Theta >= 1 }

// taken are the environments that are busy, or as good as that.
func taken(n pool.Counts) int { return n.Busy + n.Promised }

// arcStatus is what is told of one home. With told it is remembered how many members of a reserved one were told busy: those that
// were busy all the time since the last telling, and rising is that more are by now. A member that is busy for less than that is
// told neither busy nor idle again, which would be a message to everybody for each call; the frontends' view may err towards
// the reserved arc (DESIGN 5). With theta below 1 it is told how many are busy, see eager. Manager.mu is held.
func (m *Manager) arcStatus(g *pool.Group, told bool) (a schema.ArcStatus, rising bool) {
	n := g.Counts
	a = schema.ArcStatus{
		Arc: g.Spec.Arc, Account: g.Spec.Account, Function: g.Spec.Function, Version: g.Home.Version, Tenant: g.Home.Tenant,
		Share: g.Share.Members, Unable: g.Unable, Failed: g.Failing,
		Ready: n.Ready(), Idle: n.Idle + n.Finishing, Busy: taken(n), Starting: n.Starting,
	}
	h := m.shares.byEpoch[g.Home.Reservation]
	if !told || g.Home.Reservation == 0 || h == nil {
		return a, false
	}
	if h.busy = a.Busy; m.eager() {
		h.busy = min(h.low, a.Busy)
	}
	h.low = a.Busy
	a.Idle += a.Busy - h.busy
	a.Busy, rising = h.busy, a.Busy > h.busy
	return a, rising
}

// Status is what this manager tells of itself, with Number 0. Safe for concurrent use.
func (m *Manager) Status() schema.ManagerStatus {
	s, _ := m.status(false)
	return s
}

// status also reports whether more members are busy than it tells, see arcStatus.
func (m *Manager) status(told bool) (s schema.ManagerStatus, rising bool) {
	v := m.view.Load()
	s = schema.ManagerStatus{
		V: schema.Version, ID: m.cfg.ID, Incarnation: m.incarnation, RingEpoch: v.record.Epoch, State: m.State(),
		Capacity: m.Capacity(),
	}
	m.mu.Lock()
	if m.offering {
		s.Room, s.Soon = m.pool.Room(), m.pool.Soon()
	}
	for g := range m.pool.Groups {
		a, more := m.arcStatus(&g, told)
		rising = rising || more
		s.Idle += a.Idle
		s.Busy += a.Busy
		s.Starting += a.Starting
		if g.Home.Reservation != 0 {
			s.Reserved += a.Ready
			s.Surplus += max(0, a.Ready-a.Share)
		}
		if a.Ready+a.Starting+a.Share > 0 {
			s.Arcs = append(s.Arcs, a)
		}
	}
	for _, h := range m.shares.byEpoch {
		if h.lost != "" {
			s.Arcs = h.tellLost(s.Arcs)
		}
	}
	m.mu.Unlock()
	slices.SortFunc(s.Arcs, compareArcs)
	return s, rising
}
