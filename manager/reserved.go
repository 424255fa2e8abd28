package manager

import (
	"slices"
	"time"

	"github.com/hearth-run/hearth/manager/pace"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// A reserved arc is one opening of a reservation (DESIGN 5, 6). It has no room: what runs its calls are the members of that
// opening alone, offered exactly, in classes by ring order over the managers that hold some. Each manager offers what it has within
// its share before what it has above it, and all shares come before any surplus: so what nobody needs of a set that shrank falls
// idle where it may go, at the last managers that hold surplus first. (With one order for all members the first managers'
// surplus is always busy and what is idle is the last ones' share: such a set never bleeds down to L.) Its length and its members are not decided here: what this file knows of
// a reservation is where its calls come from, and who stands where.
//
//	record (KV) ──► openings ──► an arc each, where this manager has members or is the catcher
//	ring (KV) ──────► order ───┐
//	statuses ──► who holds ────┴──► classes of idle pulls: 0-3 within the shares, 4-7 above them
const rankEvery = pace.RankEvery // who holds members is looked at again

// opening is a reserved arc on which calls may lie: it has been opened, and its consumer may still stand.
type opening struct {
	name                       string // short name of its arc
	account, function, version string
	shard                      int
	epoch                      uint64
	marker                     uint64
	skip                       []string // managers that cannot hold their share
	order                      []string // all managers of the ring, from the arc's place on
}

// takes reports whether a call's subject is that of the opening.
func (o *opening) takes(t *subjects.ArcCall) bool {
	return t.Reserved && t.Epoch == o.epoch && t.Number == o.shard && t.Function == o.function && t.Version == o.version &&
		t.Account == o.account
}

// openings are all that this manager has seen, also those in which it has nothing to do. Manager.mu guards it.
type openings struct {
	byName map[string]*opening
	byKey  map[string][]*opening // by key of bucket reservations: the present one, and those that close
	ranked time.Time             // when who holds members was looked at last
	turned uint64                // what managers had told of them by then
}

func newOpenings() openings {
	return openings{byName: make(map[string]*opening), byKey: make(map[string][]*opening)}
}

// openingsOf are the openings of a record on whose arcs calls may lie: all but one that is provisioned, which takes none before
// its marker stands. One that closes has no marker any more, and what was stored before that has to be taken or moved all the same.
func openingsOf(rec *schema.ReservationRecord) []*opening {
	var all []*opening
	add := func(epoch uint64, shard int, marker uint64) {
		if epoch == 0 || shard < 0 || shard >= subjects.MaxShards {
			return
		}
		all = append(all, &opening{
			name: rec.Arc(epoch, shard).ArcName(), account: rec.Account, function: rec.Function, version: rec.Version,
			shard: shard, epoch: epoch, marker: marker, skip: rec.Skip,
		})
	}
	if rec.State != schema.ReservationProvisioning || rec.Marker != 0 {
		add(rec.Epoch, rec.Shard, rec.Marker)
	}
	for _, c := range rec.Closing {
		add(c.Epoch, c.Shard, c.Marker)
	}
	return all
}

// reservationChanged takes in a key of bucket reservations: offers begin on arcs that were opened, and end on those that are no
// more. What members there shall be is not looked at here.
func (m *Manager) reservationChanged(key string, rec schema.ReservationRecord, deleted bool) {
	var now []*opening
	if !deleted && key == subjects.ReservationKey(rec.Account, rec.Function, rec.Version) { // shares.go says so where it is not
		now = openingsOf(&rec)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	defer m.offers.kick()
	open := &m.openings
	v := m.view.Load()
	for _, o := range now {
		o.order = v.order(o)
		if a := m.offers.arcs[o.name]; a != nil {
			if a.opening.marker != o.marker {
				a.backoff, a.refusals = time.Time{}, 0 // the consumer was made anew
			}
			a.opening, a.gone = o, false
			m.rank(a)
			m.offers.watch(a)
		}
		open.byName[o.name] = o
	}
	for _, o := range open.byKey[key] {
		if slices.ContainsFunc(now, func(n *opening) bool { return n.name == o.name }) {
			continue
		}
		delete(open.byName, o.name)
		if a := m.offers.arcs[o.name]; a != nil {
			a.gone = true
			m.offers.watch(a)
		}
	}
	delete(open.byKey, key)
	if len(now) > 0 {
		open.byKey[key] = now
	}
	for _, o := range now {
		m.offerCatcher(o)
	}
}

// offerCatcher makes an opening's arc known where this manager is one of its catchers. Where it has members it becomes known by
// what the pool offers. Manager.mu is held.
func (m *Manager) offerCatcher(o *opening) {
	if rank, _ := o.rank(m.cfg.ID); rank >= 0 && rank < reservedCatchers || m.pool.Offered(o.name) > 0 {
		m.offers.watch(m.offers.arc(m, o.name))
	}
}

// reorder puts every opening in the order of another ring. Manager.mu is held.
func (m *Manager) reorder(v *view) {
	for _, o := range m.openings.byName {
		o.order = v.order(o)
		if a := m.offers.arcs[o.name]; a != nil {
			m.rank(a)
		}
		m.offerCatcher(o)
	}
}

// order is all managers of the ring, from an opening's place on.
func (v *view) order(o *opening) []string {
	if v.ring == nil {
		return nil
	}
	var room [64]int
	at := v.ring.ReservedOrder(room[:0], o.account, o.function, o.version)
	order := make([]string, len(at))
	for i, manager := range at {
		order[i] = v.ring.Managers()[manager]
	}
	return order
}

// rank is a manager's rank in the arc, and how many have one: those of the ring without the ones that cannot hold their share,
// as shares are computed. Where none could hold it, all of them: somebody has to catch.
func (o *opening) rank(manager string) (rank, managers int) {
	all := !slices.ContainsFunc(o.order, func(id string) bool { return !slices.Contains(o.skip, id) })
	rank = subjects.OffArc
	for _, id := range o.order {
		if !all && slices.Contains(o.skip, id) {
			continue
		}
		if id == manager {
			rank = managers
		}
		managers++
	}
	return rank, managers
}

// rank puts this manager in its place in a reserved arc: its rank, by which it is a catcher, and the classes of its idle pulls
// among the managers that hold members within their shares, and among those that hold some above them: also those that a join, a
// lower limit or their own lack of room left outside of the arc.
// Manager.mu is held.
func (m *Manager) rank(a *arc) {
	o := a.opening
	a.rank, a.length = o.rank(m.cfg.ID)
	held := m.peers.members(a.name, m.now())
	within, above := seat{place: subjects.OffArc}, seat{place: subjects.OffArc}
	for _, id := range o.order {
		own := id == m.cfg.ID
		var s memberSeen
		if at := slices.IndexFunc(held, func(s memberSeen) bool { return s.Manager == id }); at >= 0 {
			s = held[at]
		}
		within.add(own, min(s.Ready, s.Share)+s.Bound > 0)
		above.add(own, s.Ready > s.Share)
	}
	a.class, a.after = subjects.ReservedClass(within.place, within.holders), subjects.SurplusClass(above.place, above.holders)
}

// seat is a manager's place among those that hold members of one kind, of which it counts as one.
type seat struct{ place, holders int }

func (s *seat) add(own, holds bool) {
	if own {
		s.place = s.holders
	}
	if own || holds {
		s.holders++
	}
}

// reclassed reports whether pulls of an arc are open in another class than the present one. Manager.mu is held.
func (a *arc) reclassed() bool {
	within, above := a.sides[idle].gen, a.sides[surplus].gen
	return within != nil && within.class != a.class || above != nil && above.class != a.after
}

// rankAll looks again at who holds members, once in a while. Manager.mu is held.
func (m *Manager) rankAll(now time.Time) {
	since := now.Sub(m.openings.ranked)
	if since < rankEvery {
		return
	}
	turned := m.peers.turned.Load()
	if turned == m.openings.turned && since < peerValid {
		return // nobody told of other members
	}
	m.openings.ranked, m.openings.turned = now, turned
	for _, a := range m.offers.arcs {
		if a.opening != nil && (a.sides[idle].gen != nil || a.sides[surplus].gen != nil) {
			if m.rank(a); a.reclassed() {
				m.offers.watch(a)
			}
		}
	}
}

// reservedArc is the arc of an opening that this manager knows, else nil. Manager.mu is held.
func (o *offers) reservedArc(m *Manager, name string) *arc {
	open := m.openings.byName[name]
	if open == nil {
		return nil
	}
	a := &arc{
		name: name, of: open, opening: open,
		next:  "$JS.API.CONSUMER.MSG.NEXT." + m.names.CallsR(open.shard) + "." + m.names.ReservedDurable(open.epoch),
		calls: m.names.ReservedCall(open.shard, open.account, open.function, open.version, open.epoch),
	}
	m.rank(a)
	o.arcs[name] = a
	o.turns.add(a)
	o.watch(a)
	return a
}
