package manager

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hearth-run/hearth/manager/pace"
	"github.com/hearth-run/hearth/manager/pool"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

const (
	statusEvery = pace.StatusEvery // all numbers are told, and the whole
	wholeEvery  = 4                // of these times, where arcs are many: what changed is in between, and that nothing did
	statusSoon  = pace.StatusSoon  // changes wait for others
)

// tellSoon has the status told soon: something changed that others act on.
func (m *Manager) tellSoon() { signal(m.statusKick) }

// statusLoop tells this manager's status.
func (m *Manager) statusLoop(ctx context.Context) {
	tick := time.NewTicker(statusEvery)
	defer tick.Stop()
	wait := time.NewTimer(statusSoon)
	defer wait.Stop()
	for n := 1; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			m.shrink()
			m.forgetBound()
			if n++; m.peers.fresh.Swap(false) || n >= wholeEvery {
				n = 0
			}
			m.tellStatus(n == 0, true)
			continue
		case <-m.statusKick:
			wait.Reset(statusSoon)
			select {
			case <-ctx.Done():
				return
			case <-wait.C:
			}
		}
		m.tellStatus(false, false)
	}
}

// telling numbers this manager's statuses, whole and partial ones. What a status says is looked at, numbered and handed to the
// connection under its lock, for whoever hears them takes none that is older than the last.
type telling struct {
	mu     sync.Mutex
	number uint64
	last   schema.ManagerStatus           // what was told of the whole, without Arcs
	arcs   []schema.ArcStatus             // of the last that was looked at as a whole
	told   map[pool.Home]schema.ArcStatus // as it was told last
	rising []pool.Home                    // more of whose members are busy than was told; see arcStatus
	owing  bool                           // the numbers are others than was told, for a member was told alone
}

// tellStatus tells every number: always, or if one changed. With whole it tells every arc, else those alone that changed where there
// are many: with 1,000 reservations a whole status takes 100 KB, which every manager and every frontend reads, and it was a quarter of
// what they cost idle. Who missed one in between hears that by the numbers of those after it, and takes what it knows for old.
func (m *Manager) tellStatus(whole, always bool) {
	if !m.nc.IsConnected() {
		return
	}
	t := &m.telling
	t.mu.Lock()
	var s schema.ManagerStatus
	changes := false
	if !whole {
		s, changes = m.statusChanges(t, always)
	}
	if !changes {
		s = m.statusWhole(t, always)
	}
	if s.Number != 0 {
		if w, ok := m.worker.(Isolating); ok {
			s.Tenants = w.Tenants()
		}
		if w, ok := m.worker.(Stocked); ok && !s.Partial {
			s.Stock = w.Stock()
		}
		m.tell(m.names.ManagerStatus(m.cfg.ID), s)
	}
	s.Number = t.number
	stirred := m.peers.toldOwn(&s, m.now())
	rising := len(t.rising) > 0
	t.mu.Unlock()
	m.stirred(stirred)
	if rising {
		m.tellSoon()
	}
}

// statusWhole is the status to tell of everything, numbered if it is to be told: always, or where anything changed. telling.mu is held.
func (m *Manager) statusWhole(t *telling, always bool) schema.ManagerStatus {
	if t.told == nil {
		t.told = make(map[pool.Home]schema.ArcStatus)
	}
	var s schema.ManagerStatus
	s, t.rising = m.status(t.told)
	if always || t.owing || !sameNumbers(&t.last, &s) || !slices.Equal(t.arcs, s.Arcs) {
		t.number++
		s.Number, t.owing = t.number, false
		t.last, t.arcs = s, s.Arcs
		t.last.Arcs = nil
	}
	return s
}

// statusChanges is the status to tell of what changed, numbered if anything did, or always; false where the whole is to be looked at:
// it is small, or says what no home does. telling.mu is held.
func (m *Manager) statusChanges(t *telling, always bool) (s schema.ManagerStatus, ok bool) {
	if len(t.told) <= fewTold {
		return s, false
	}
	was := t.last
	s = m.statusNumbers()
	s.Idle, s.Busy, s.Starting, s.Reserved, s.Surplus = was.Idle, was.Busy, was.Starting, was.Reserved, was.Surplus
	m.mu.Lock()
	if m.shares.lost > 0 {
		m.mu.Unlock()
		return s, false
	}
	m.statusRoom(&s)
	again := make(map[pool.Home]bool, len(t.rising))
	for _, home := range t.rising {
		again[home] = true
	}
	t.rising = t.rising[:0]
	look := func(g *pool.Group) {
		delete(again, g.Home)
		a, more := m.arcStatus(g, true)
		if more {
			t.rising = append(t.rising, g.Home)
		}
		before := t.told[g.Home]
		if tells(&a) {
			t.told[g.Home] = a
		} else {
			delete(t.told, g.Home)
		}
		if a != before && (tells(&a) || tells(&before)) {
			count(&s, &before, -1)
			count(&s, &a, 1)
			s.Arcs = append(s.Arcs, a)
		}
	}
	for g := range m.pool.Changed {
		look(&g)
	}
	for home := range again {
		if g, ok := m.pool.Group(home); ok {
			look(&g)
		}
	}
	m.mu.Unlock()
	s.Partial, s.Counted = true, true
	if len(s.Arcs) > len(t.told)/2 {
		s.Partial, s.Counted, s.Arcs = false, false, slices.Collect(maps.Values(t.told))
	}
	slices.SortStableFunc(s.Arcs, compareArcs) // a home that was forgotten and is there again comes twice, in this order
	if always || len(s.Arcs) > 0 || t.owing || !sameNumbers(&was, &s) {
		t.number++
		s.Number, t.owing = t.number, false
	}
	t.last = s
	t.last.Arcs = nil
	return s, true
}

// tells reports whether a home is told of.
func tells(a *schema.ArcStatus) bool { return a.Ready+a.Starting+a.Share > 0 }

// count adds a home's numbers to a status's, so many times.
func count(s *schema.ManagerStatus, a *schema.ArcStatus, times int) {
	s.Idle += times * a.Idle
	s.Busy += times * a.Busy
	s.Starting += times * a.Starting
	if subjects.IsReservedName(a.Arc) && a.Tenant == "" { // what is bound left its share
		s.Reserved += times * a.Ready
		s.Surplus += times * max(0, a.Ready-a.Share)
	}
}

// sameNumbers reports whether two statuses say the same of everything but arcs.
func sameNumbers(a, b *schema.ManagerStatus) bool {
	return a.RingEpoch == b.RingEpoch && a.State == b.State && a.Capacity == b.Capacity && a.Room == b.Room && a.Hot == b.Hot && a.Soon == b.Soon &&
		a.Idle == b.Idle && a.Busy == b.Busy && a.Starting == b.Starting && a.Reserved == b.Reserved && a.Surplus == b.Surplus
}

// fewTold is how many arcs are always told whole.
const fewTold = 32

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
	if before, ok := m.telling.told[home]; ok {
		m.telling.told[home] = a
		count(&m.telling.last, &before, -1)
		count(&m.telling.last, &a, 1)
		m.telling.owing = true
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
	return h.told(home.Tenant).Fewer(taken(g.Counts))
}

func (m *Manager) busier(home pool.Home) bool {
	if home.Reservation == 0 {
		return false
	}
	g, ok := m.pool.Group(home)
	h := m.shares.byEpoch[home.Reservation]
	return ok && h != nil && h.told(home.Tenant).Above(taken(g.Counts))
}

func (m *Manager) fewer(g *pool.Group) bool {
	h := m.shares.byEpoch[g.Home.Reservation]
	return h != nil && h.told(g.Home.Tenant).Below(taken(g.Counts))
}

// eager reports whether the frontends are to know of an idle member before all else, and may take a busy one for idle: with theta 1
// no call goes cold while a member is idle. Below that theta asks which part is busy, and calls go cold by it on purpose: then a
// member that went idle waits for others as one that is busy does. Told first, the idle ones made the busy ones look fewer, by
// about one for each manager, and a set of 79 at eight managers under 80 callers never came down to 0.9.
func (m *Manager) eager() bool { return m.view.Load().fabric.Theta >= 1 }

// taken are the environments that are busy, or as good as that.
func taken(n pool.Counts) int { return n.Busy + n.Promised }

// arcStatus is what is told of one home. With told it is remembered how many members of a reserved one were told busy: those that
// were busy all the time since the last telling, and rising is that more are by now, or that its share may soon be called unable. A
// member that is busy for less than that is told neither busy nor idle again, which would be a message to everybody for each call; the
// frontends' view may err towards the reserved arc (DESIGN 5). With theta below 1 it is told how many are busy, see eager. Manager.mu
// is held.
func (m *Manager) arcStatus(g *pool.Group, told bool) (a schema.ArcStatus, rising bool) {
	n := g.Counts
	a = schema.ArcStatus{
		Arc: g.Spec.Arc, Account: g.Spec.Account, Function: g.Spec.Function, Version: g.Home.Version, Tenant: g.Home.Tenant,
		Share: g.Share.Members, Unable: g.Unable, Failed: g.Failing,
		Ready: n.Ready(), Idle: n.Idle + n.Finishing, Busy: taken(n), Starting: n.Starting,
	}
	h := m.shares.byEpoch[g.Home.Reservation]
	waits := g.Short && !g.Unable // time alone makes it so
	if !told || g.Home.Reservation == 0 || h == nil {
		return a, waits
	}
	busy, rising := h.told(g.Home.Tenant).Tell(a.Busy, m.eager())
	a.Idle += a.Busy - busy
	a.Busy = busy
	return a, rising || waits
}

// Status is what this manager tells of itself, with Number 0. Safe for concurrent use.
func (m *Manager) Status() schema.ManagerStatus {
	s, _ := m.status(nil)
	return s
}

// status is the whole. With told it is what is about to be told, which is noted there, and rising are the homes of which more members
// are busy than it says; see arcStatus.
func (m *Manager) status(told map[pool.Home]schema.ArcStatus) (s schema.ManagerStatus, rising []pool.Home) {
	s = m.statusNumbers()
	clear(told)
	m.mu.Lock()
	m.statusRoom(&s)
	for g := range m.pool.Groups {
		a, more := m.arcStatus(&g, told != nil)
		if more {
			rising = append(rising, g.Home)
		}
		count(&s, &a, 1)
		if tells(&a) {
			s.Arcs = append(s.Arcs, a)
			if told != nil {
				told[g.Home] = a
			}
		}
	}
	if told != nil {
		for range m.pool.Changed { // all of it is here
		}
	}
	if m.shares.lost > 0 {
		for _, h := range m.shares.byEpoch {
			if h.lost != "" {
				s.Arcs = h.tellLost(s.Arcs)
			}
		}
	}
	m.mu.Unlock()
	slices.SortFunc(s.Arcs, compareArcs)
	return s, rising
}

func (m *Manager) statusNumbers() schema.ManagerStatus {
	return schema.ManagerStatus{
		V: schema.Version, ID: m.cfg.ID, Incarnation: m.incarnation, RingEpoch: m.view.Load().record.Epoch, State: m.State(), Capacity: m.Capacity(),
	}
}

// statusRoom adds what room there is. Manager.mu is held.
func (m *Manager) statusRoom(s *schema.ManagerStatus) {
	if m.offering {
		s.Hot, s.Soon = m.pool.Hot(), m.pool.Soon()
		s.Room = m.pool.Room() + s.Hot
	}
}
