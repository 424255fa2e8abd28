package manager

import (
	"context"
	"runtime"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/story"
	"github.com/hearth-run/hearth/manager/pool"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// Deliver hands a manager a delivery as if one of its pulls on that arc had brought it.
func (m *Manager) Deliver(arc string, msg *nats.Msg) { m.deliverBy(idle, arc, msg) }

// DeliverCaught is Deliver by the catcher's pull.
func (m *Manager) DeliverCaught(arc string, msg *nats.Msg) { m.deliverBy(caught, arc, msg) }

func (m *Manager) deliverBy(k kind, arc string, msg *nats.Msg) {
	m.mu.Lock()
	a := m.offers.arc(m, arc)
	m.mu.Unlock()
	m.deliver(&generation{arc: a, kind: k, retire: true}, msg)
}

// Settled reports whether the server was sent all that this manager offers, in the classes of the ring it sees, and all that it takes
// back: what a side has open counts from when the mutex is let go, before it is written.
func (m *Manager) Settled() bool {
	m.offers.round.Lock()
	defer m.offers.round.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	for _, a := range m.offers.arcs {
		for k := range kinds {
			s, wanted, class := m.offers.sideOf(m, a, k, now)
			if s.gen == nil && wanted > 0 || s.gen != nil && (s.gen.open < wanted && (k != caught || !k.few(wanted-s.gen.open, wanted)) || s.gen.class != class) {
				return false
			}
		}
	}
	return m.offers.unsent.Load() == 0 && m.nc.Flush() == nil
}

// StandStill makes it look as if the process had not run for a while: the pulse sees that the process did not run for so long.
func (m *Manager) StandStill() { m.pulse.doubt(m.now()) }

// Holding reports whether this manager is the controller.
func (m *Manager) Holding() bool {
	m.control.mu.Lock()
	defer m.control.mu.Unlock()
	return m.control.listed
}

// Waiting is how many claims this manager keeps for environments to come, and tells the server to be in hands.
func (m *Manager) Waiting() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.waiting.n
}

// Functions is how many functions this manager has seen.
func (m *Manager) Functions() int {
	n := 0
	m.versions.cache.Range(func(string, *schema.FunctionRecord, uint64) bool { n++; return true })
	return n
}

// Knows reports whether this manager has a status of another that tells something idle of a function.
func (m *Manager) Knows(id, function string) bool {
	m.peers.mu.Lock()
	defer m.peers.mu.Unlock()
	if s := m.peers.valid(id, m.now()); s != nil {
		for w, n := range s.idle {
			if w.function == function && n > 0 {
				return true
			}
		}
	}
	return false
}

// Hears reports whether this manager has a status of another that may be asked for what is idle there.
func (m *Manager) Hears(id string) bool { return m.peers.lives(id, m.now()) }

// Stalled reports whether the server has not answered for so long that every claim is in doubt.
func (m *Manager) Stalled() bool { return m.flow.stalled(m.now()) }

// Keep works the reservations as if this manager were the controller, beside whoever is, until ctx ends.
func (m *Manager) Keep(ctx context.Context) { newKeeper(m).run(ctx) }

// TakeIn is what the watch of bucket reservations does with a record.
func (m *Manager) TakeIn(rec schema.ReservationRecord, deleted bool) {
	m.reservationChanged(subjects.ReservationKey(rec.Account, rec.Function, rec.Version), rec, deleted)
}

// MakeMembers makes members of a reserved arc, and gives their ids.
func (m *Manager) MakeMembers(arc subjects.ArcCall, key schema.Key, n int) (ids []string) {
	return m.makeMembers(arc, key, n, false)
}

// MakeGeneric is MakeMembers for a function with sub-tenants.
func (m *Manager) MakeGeneric(arc subjects.ArcCall, key schema.Key, n int) {
	m.makeMembers(arc, key, n, true)
}

// Members are how many members another manager tells of a reserved arc, as this one heard, and what is bound there.
func (m *Manager) Members(id, arc string) (ready, bound int) {
	for _, s := range m.peers.members(arc, m.now()) {
		if s.Manager == id {
			return s.Ready, s.Bound
		}
	}
	return 0, 0
}

// MaxTold is the most that one number of a status counts for.
const MaxTold = maxTold

// RoomOf is the room that another manager told last, as this one counts it.
func (m *Manager) RoomOf(id string) int {
	m.peers.mu.Lock()
	defer m.peers.mu.Unlock()
	if s := m.peers.byID[id]; s != nil {
		return s.room
	}
	return 0
}

func (m *Manager) makeMembers(arc subjects.ArcCall, key schema.Key, n int, tenants bool) (ids []string) {
	home := pool.Home{Key: key, Reservation: arc.Epoch}
	spec := pool.Spec{Account: arc.Account, Function: arc.Function, Arc: arc.ArcName(), Places: 1, Tenants: tenants}
	now := time.Now()
	m.mu.Lock()
	plan := m.pool.SetShare(now, home, spec, pool.Share{Members: n})
	m.mu.Unlock()
	for _, mk := range plan.Make {
		ids = append(ids, mk.Environment)
	}
	m.carryOut(plan, nil)
	return ids
}

// Denied reports whether none of these environments is there any more, or has a permit.
func (m *Manager) Denied(ids []string) bool {
	m.mu.Lock()
	there := m.pool.Environments(nil)
	m.mu.Unlock()
	return !slices.ContainsFunc(ids, func(id string) bool { return slices.Contains(there, id) })
}

// Leased reports whether this manager's lease surely stands.
func (m *Manager) Leased() bool { return m.leased() }

// TakePermit asks for the permits of an environment that is not made, and tells what came of it.
func (m *Manager) TakePermit(function string, key schema.Key) <-chan error {
	done := make(chan error, 1)
	mk := pool.Make{Environment: random(), Home: pool.Home{Key: key}, Spec: pool.Spec{Account: subjects.DefaultAccount, Function: function}}
	m.spawn(func() {
		_, err := m.permits.take(m.life, mk, nil)
		m.permits.back(mk.Environment)
		done <- err
	})
	return done
}

// Caps are how many caps, and how many windows of growth, this manager keeps something of.
func (m *Manager) Caps() (caps, windows int) {
	m.permits.mu.Lock()
	defer m.permits.mu.Unlock()
	return len(m.permits.scopes), len(m.permits.growth)
}

// PassWindows makes it look as if the windows of growth were over.
func (m *Manager) PassWindows() {
	m.permits.mu.Lock()
	defer m.permits.mu.Unlock()
	for _, g := range m.permits.growth {
		g.began = g.began.Add(-growthEvery)
	}
}

// Offers reports how many generations of pulls are open on an arc.
func (m *Manager) Offers(arc string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	if a := m.offers.arcs[arc]; a != nil {
		for k := range kinds {
			if a.sides[k].gen != nil {
				n++
			}
		}
	}
	return n
}

// Shares reports whether the idle pulls of a reserved arc share their inbox with those of others.
func (m *Manager) Shares(arc string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.offers.arcs[arc]
	return a != nil && a.sides[idle].gen != nil && a.sides[idle].gen.at.shared
}

// Class is that of a manager's idle pulls on an arc, 10 where it has none.
func (m *Manager) Class(arc string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if a := m.offers.arcs[arc]; a != nil && a.sides[idle].gen != nil {
		return a.sides[idle].gen.class
	}
	return 10
}

// SurplusClass is that of a manager's pulls for members above its share, 10 where it has none.
func (m *Manager) SurplusClass(arc string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if a := m.offers.arcs[arc]; a != nil && a.sides[surplus].gen != nil {
		return a.sides[surplus].gen.class
	}
	return 10
}

// Refused is how often in a row pulls on an arc were refused.
func (m *Manager) Refused(arc string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if a := m.offers.arcs[arc]; a != nil {
		return a.refusals
	}
	return 0
}

// RunMember has a member of a reservation run a call as if it had come by the reserved arc, and reports whether there was one.
func (m *Manager) RunMember(subject string, call *schema.Call) bool {
	c := &claim{call: *call, subject: subject, ackReply: "ignored.ack", reconnects: m.reconnects(), came: m.now(), touched: m.now()}
	var ok bool
	if c.target, ok = m.names.ParseArc(subject); !ok {
		return false
	}
	c.home, c.arc = pool.Home{Key: call.Key, Reservation: c.target.Epoch}, c.target.ArcName()
	for {
		m.mu.Lock()
		d := m.pool.Warm(time.Now(), c.home, c)
		if d.Action == pool.Wait {
			m.pool.Abandon(time.Now(), c.home, c) // until the one that has answered asks for its next call
		}
		m.mu.Unlock()
		switch d.Action {
		case pool.Run:
			m.crossed(c, crossed, d.Environment, d.Start, 0)
			return true
		case pool.Unknown:
			return false
		}
		runtime.Gosched()
	}
}

// Stakes is how many openings of reservations this manager remembers.
func (m *Manager) Stakes() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.shares.byEpoch)
}

// DeliverHanded is Deliver of a claim that is handed to nobody.
func (m *Manager) DeliverHanded(arc string, msg *nats.Msg) {
	m.mu.Lock()
	a := m.offers.arc(m, arc)
	m.mu.Unlock()
	c, ok := m.read(msg, a)
	if !ok {
		panic("not a call")
	}
	c.handed = true
	m.judge(c, m.now())
	m.storyArrival(c, story.PullNone)
	m.decide(c, &generation{arc: a, retire: true})
}
