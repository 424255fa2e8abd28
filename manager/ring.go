package manager

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hearth-run/hearth/manager/pool"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// view is the ring, the fabric's numbers and the arcs' lengths as this manager has seen them. It is immutable.
type view struct {
	record  schema.RingRecord
	fabric  schema.Fabric
	ring    *subjects.Ring
	lengths map[int]int // stored lengths of unreserved arcs
	member  bool        // this manager is on the ring
	ranked  int         // unreserved arcs in which it has a rank

	// Arcs below served are offered on: those that the fabric uses, and for a while after their number was lowered those
	// that it used, until no call waits there any more. DESIGN 5.
	served      int
	servedUntil time.Time
}

// servedFor is how long arcs are served that the fabric uses no more, beyond the start-by of their last calls.
const servedFor = 5 * time.Second

// place computes this manager's rank in an unreserved arc, the arc's length and the class of idle pulls.
func (v *view) place(id string, a *arc) {
	a.rank, a.length, a.class = subjects.OffArc, 0, subjects.ClassUnreservedStranger
	if v.ring == nil || a.number >= v.served {
		return
	}
	var room [16]int
	managers := v.ring.Unreserved(room[:0], a.number, v.lengths[a.number])
	a.length = len(managers)
	a.rank = slices.IndexFunc(managers, func(i int) bool { return v.ring.Managers()[i] == id })
	a.class = subjects.IdleClass(a.rank, a.length)
}

// reread makes a new view of what is watched and brings ranks and offers in line with it.
func (m *Manager) reread() {
	m.viewing.Lock()
	defer m.viewing.Unlock()
	previous := m.view.Load()
	v := &view{fabric: previous.fabric, lengths: make(map[int]int)}
	if f, _, ok := m.fabrics.Get(schema.FabricKey); ok {
		v.fabric = f
	}
	if r, _, ok := m.rings.Get(schema.RingKey); ok {
		v.record = r
		if len(r.Members) > 0 {
			v.ring = subjects.NewRing(v.fabric.Vnodes, r.Members)
		}
		v.member = slices.Contains(r.Members, m.cfg.ID)
	}
	m.lengths.Range(func(key string, rec schema.ArcRecord, _ uint64) bool {
		if nn, ok := unreservedNumber(key); ok {
			v.lengths[nn] = rec.Length
		}
		return true
	})
	v.serve(previous, time.Now())
	places := make([]arc, v.served)
	for nn := range places {
		places[nn].number = nn
		v.place(m.cfg.ID, &places[nn])
		if places[nn].rank >= 0 {
			v.ranked++
		}
	}
	m.mu.Lock()
	m.view.Store(v)
	for nn := range places {
		if places[nn].rank >= 0 {
			m.offers.arc(m, m.arcNames[nn])
		}
	}
	for _, a := range m.offers.arcs {
		if a.opening != nil {
			continue
		}
		before := a.length
		v.place(m.cfg.ID, a)
		if a.length > before {
			a.needed = time.Now()
			a.Longer(m.now())
		}
	}
	if !slices.Equal(v.record.Members, previous.record.Members) || v.fabric.Vnodes != previous.fabric.Vnodes {
		m.reorder(v)
	}
	if v.fabric.Arcs != previous.fabric.Arcs {
		m.pool.Rehome(func(h pool.Home, s pool.Spec) string {
			return subjects.UnreservedName(subjects.UnreservedArc(s.Account, s.Function, h.Tenant, v.fabric.Arcs))
		})
	}
	m.mu.Unlock()
	if v.fabric.Arcs != previous.fabric.Arcs {
		m.setUpSoon()
	}
	m.control.turned(v)
	m.shares.ringChanged()
	m.offers.kickAll()
	m.tellSoon()
	m.settled()
}

// serve settles how many arcs are offered on, with what was before.
func (v *view) serve(before *view, now time.Time) {
	v.served = v.fabric.Arcs
	switch {
	case before.served <= v.served:
	case before.fabric.Arcs > v.fabric.Arcs:
		v.served, v.servedUntil = before.served, now.Add(max(before.fabric.StartBy, v.fabric.StartBy)+servedFor)
	case now.Before(before.servedUntil):
		v.served, v.servedUntil = before.served, before.servedUntil
	}
}

func decode[T any](b []byte) (v T, err error) {
	err = schema.Unmarshal(b, &v)
	return v, err
}

// arcNames are the short names of all unreserved arcs that there can be.
func arcNames() []string {
	names := make([]string, subjects.MaxArcs)
	for nn := range names {
		names[nn] = subjects.UnreservedName(nn)
	}
	return names
}

// checkServer refuses a server that lacks what the arcs rest on: prioritized pulls came with 2.12.
func checkServer(version string) error {
	part := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	if len(part) >= 2 {
		major, err1 := strconv.Atoi(part[0])
		minor, err2 := strconv.Atoi(part[1])
		if err1 == nil && err2 == nil && (major > 2 || major == 2 && minor >= 12) {
			return nil
		}
	}
	return schema.Errorf(schema.CodeUnavailable, "the NATS server is version %q; 2.12 or later is needed", version)
}
