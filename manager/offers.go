package manager

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hearth-run/hearth/manager/pace"
	"github.com/hearth-run/hearth/subjects"
)

// An offer is an open pull on an arc's consumer (DESIGN 2). Every arc has three sides: idle environments, offered exactly,
// room, offered by a credit, and the catcher, one pull that takes what neither took (catcher.go). A reserved arc has no room; what
// is idle there above the share is a side of its own, in a worse class, so that surplus goes idle first. The pulls of one side
// are a generation; they come to an inbox of its own, or of many (turns.go), and are taken back by draining that, after the next
// generation's pulls were sent (renew.go). A pull that is still sent on an old generation finds no interest at the server and is
// dropped there.
const (
	pullExpires = 2 * time.Second // always before ackWait
	holdOff     = pace.HoldOff    // of an arc's pulls after a second refusal of one call
	holdEvery   = pace.HoldEvery
	manyOffered = 8  // pulls of a side's idle environments, for each that may wait for others
	bodies      = 16 // batches that are rendered ahead
)

// offers is what is open at the server. Its maps and counts are guarded by Manager.mu.
type offers struct {
	inbox           string // of this incarnation, with a dot at the end
	made            uint64
	arcs            map[string]*arc
	plain           []*arc // the unreserved ones
	turns           turns  // the reserved ones
	kicked          chan struct{}
	asked, askedAll atomic.Bool // by kick, and by kickAll
	out             pace.Shortage
	looked          time.Time // when all unreserved arcs were looked at last

	watched, watching []*arc // that are looked at next time; room for the list after it

	waiting []*arc                 // with idle environments that wait for others to be offered with; see few
	unsent  atomic.Int64           // pulls that count as open and are still to be written, for tests alone
	round   sync.Mutex             // held while what a look of the loop found is written: tests wait for it
	body    [10][bodies + 1][]byte // by class and batch
}

func newOffers(inbox, group string) *offers {
	o := &offers{inbox: inbox, arcs: make(map[string]*arc), kicked: make(chan struct{}, 1)}
	for class := range o.body {
		for n := 1; n <= bodies; n++ {
			o.body[class][n] = pullBody(class, n, group)
		}
	}
	return o
}

// pullBody is a JSApiConsumerGetNextRequest of nats-server.
func pullBody(class, n int, group string) []byte {
	return fmt.Appendf(nil, `{"batch":%d,"expires":%d,"group":%q,"priority":%d}`, n, int64(pullExpires), group, class)
}

// kick has the loop look soon at what changed, and at all unreserved arcs: there are few, and room is shared by them.
func (o *offers) kick() {
	o.asked.Store(true)
	signal(o.kicked)
}

// kickAll has it look at every arc: there may be a thousand.
func (o *offers) kickAll() {
	o.askedAll.Store(true)
	signal(o.kicked)
}

// watch has the loop look at one arc when it looks again. Manager.mu is held.
func (o *offers) watch(a *arc) {
	if !a.watched {
		a.watched = true
		o.watched = append(o.watched, a)
	}
}

// lookAt has the loop look soon at one arc. Manager.mu is held.
func (o *offers) lookAt(a *arc) {
	o.watch(a)
	signal(o.kicked)
}

// sideOf gives a side and how many pulls it should have open. Manager.mu is held.
func (o *offers) sideOf(m *Manager, a *arc, k kind, now time.Time) (s *side, wanted, class int) {
	s = &a.sides[k]
	switch k {
	case room:
		class = subjects.RoomClass(a.rank, a.length)
		if a.opening != nil || now.Before(a.held) {
			break
		}
		wanted = m.credit(m.view.Load(), a)
		if wanted == 0 && m.offering && a.rank >= 0 && !o.out.Lasts && s.gen != nil {
			wanted = s.gen.open // what comes for them meanwhile is given back
		}
	case caught:
		class = subjects.ClassCatcher
		if m.offering && a.catches() && !a.gone && (a.of == nil || a.hot || m.pool.Offered(a.name) == 0) {
			wanted = catchBatch
		}
	case surplus:
		class = a.after
		if m.offering && !a.gone && a.opening != nil {
			wanted = m.pool.Surplus(a.name)
		}
	default:
		class = a.class
		if m.offering && !a.gone && !now.Before(a.held) {
			wanted = m.pool.Offered(a.name) - m.pool.Surplus(a.name)
		}
	}
	return s, wanted, class
}

// few reports whether a side lacks so little that it need not be sent yet: a catcher's pull lasts for many calls, a credit
// is no promise, and where many idle environments are offered those that came free last wait for others, at most [endsWait], to
// be offered by one request with them. An environment that is one of a few is offered at once: before its call is answered.
func (k kind) few(lacking, wanted int) bool {
	if k.exact() {
		return lacking <= min(bodies, (wanted-lacking)/manyOffered)
	}
	return lacking <= wanted/2
}

// top finds the pulls for idle environments that an arc lacks, on the path of a call: more is repaired by the loop. Manager.mu is
// held; the result is sent after it was let go.
func (o *offers) top(m *Manager, name string) (within, above pull) {
	if name == "" {
		return within, above
	}
	a := o.arc(m, name)
	if a == nil {
		return within, above
	}
	within = o.topSide(m, a, idle, true)
	if a.of != nil {
		above = o.topSide(m, a, surplus, true)
	}
	return within, above
}

// twinExcess is how many pulls the twin of an exact side has too many: as long as they are open they stand for members that this side
// would offer, for together the two never offer more than what is idle. Manager.mu is held.
func (o *offers) twinExcess(m *Manager, a *arc, k kind, now time.Time) (twin *side, excess int) {
	if a.of == nil || !k.exact() || a.sides[k.twin()].gen == nil {
		return nil, 0
	}
	twin, wanted, _ := o.sideOf(m, a, k.twin(), now)
	return twin, max(0, twin.gen.open-wanted)
}

// spared is how many pulls the loop leaves out because the twin has them, and keeps them for a while. Manager.mu is held.
func (o *offers) spared(m *Manager, a *arc, k kind, now time.Time) int {
	twin, excess := o.twinExcess(m, a, k, now)
	if excess == 0 || !m.offering || !twin.tolerates(excess, now) {
		return 0
	}
	return excess
}

// topSide finds what a side lacks. With more it may wait for what others lack.
func (o *offers) topSide(m *Manager, a *arc, k kind, more bool) pull {
	if o.out.Lasts && m.pool.Room() > 0 {
		o.kick()
	}
	var now time.Time
	if !a.held.IsZero() {
		now = time.Now()
	}
	s, wanted, class := o.sideOf(m, a, k, now)
	g := s.gen
	open := 0
	if g != nil {
		open = g.open
	}
	lacking := wanted - open
	if lacking > 0 {
		_, elsewhere := o.twinExcess(m, a, k, now)
		lacking = max(0, lacking-elsewhere)
	}
	s.astray = min(s.astray, max(0, -lacking))
	switch {
	case lacking < 0:
		if k.exact() && -lacking > s.astray || !k.exact() && wanted == 0 {
			o.lookAt(a)
		}
		return pull{}
	case lacking == 0 || g != nil && more && k.few(lacking, wanted):
		if k.exact() && lacking > 0 && !s.waits {
			s.waits = true
			o.waiting = append(o.waiting, a)
			signal(m.ends.wake)
		}
		return pull{}
	case !a.backoff.IsZero() || g != nil && (g.stale || g.class != class):
		o.lookAt(a)
		return pull{}
	default:
		if g == nil {
			g = o.generation(a, k, class)
			s.gen, s.due = g, time.Now().Add(a.stagger())
		}
		g.open += lacking
		o.unsent.Add(1)
		return pull{g, lacking}
	}
}

// offerWaiting sends the pulls that waited for others.
func (m *Manager) offerWaiting() {
	var buffer [4]pull
	pulls := buffer[:0]
	m.mu.Lock()
	for i, a := range m.offers.waiting {
		for k := idle; k.exact(); k++ {
			if s := &a.sides[k]; s.waits {
				s.waits = false
				if p := m.offers.topSide(m, a, k, false); p.gen != nil {
					pulls = append(pulls, p)
				}
			}
		}
		m.offers.waiting[i] = nil
	}
	m.offers.waiting = m.offers.waiting[:0]
	m.mu.Unlock()
	for _, p := range pulls {
		m.send(p)
	}
}

// spent notes that a pull of a generation brought a message, and finds what its side lacks now. Manager.mu is held.
func (o *offers) spent(m *Manager, g *generation) pull {
	if g.retire {
		return pull{}
	}
	g.took()
	p := o.topSide(m, g.arc, g.kind, true)
	if p.gen == nil && g.arc.of != nil && g.kind.exact() {
		p = o.topSide(m, g.arc, g.kind.twin(), true)
	}
	return p
}
