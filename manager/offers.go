package manager

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/subjects"
)

// An offer is an open pull on an arc's consumer (DESIGN 2). Every arc has three sides: idle environments, offered exactly,
// room, offered by a credit, and the catcher, one pull that takes what neither took (catcher.go). The pulls of one side come to an inbox of their own, its generation; they are taken
// back by draining it, after the next generation's pulls were sent. A pull that is still sent on an old generation
// finds no interest at the server and is dropped there.
const (
	pullExpires = 2 * time.Second // always before ackWait
	renewEvery  = time.Second
	debounce    = 2 * time.Millisecond  // of changes that only the loop repairs
	offersTick  = 25 * time.Millisecond // of the loop, for what is due
	holdOff     = 15 * time.Millisecond // of an arc's pulls after a second refusal of one call
	holdEvery   = 300 * time.Millisecond
	astrayFor   = 10 * time.Millisecond // that pulls are left open for environments that other claims took
	manyOffered = 8                     // pulls of a side's idle environments, for each that may wait for others
	minCredit   = 4
	maxCredit   = 16
	bodies      = 16                    // batches that are rendered ahead
	roomOut     = 20 * time.Millisecond // without any room until its pulls are taken back: at full load it comes and goes
)

// offers is what is open at the server. Its maps and counts are guarded by Manager.mu.
type offers struct {
	inbox  string // of this incarnation, with a dot at the end
	made   uint64
	arcs   map[string]*arc
	kicked chan struct{}
	out    shortage

	waiting []*arc                 // with idle environments that wait for others to be offered with; see few
	body    [10][bodies + 1][]byte // by class and batch
}

// arc is what this manager has to do with one arc.
type arc struct {
	name         string
	next         string // where pulls go
	number       int    // of an unreserved one
	rank, length int
	sides        [kinds]side
	held, heldAt time.Time // neither idle pulls nor room's until then; since when
	backoff      time.Time // no pulls at all until then: the server refused some
	need                   // of its last rank, and of another
}

// kind is one of the sides of an arc.
type kind uint8

const (
	idle kind = iota
	room
	caught
	kinds
)

type side struct {
	gen *generation
	due time.Time

	// Of the idle side: pulls that are too many because claims that came otherwise, by room's or the catcher's pull or one of
	// a generation gone by, took environments. They are not taken back at once: the next environments that come free are
	// offered by them. Taking them back would replace the generation, what is on its way by the old one would again be
	// claims that came otherwise, and so on: at 256 calls in flight that cost eight pulls a call, and every twelfth call came
	// to the catcher.
	astray   int
	astrayAt time.Time // the last

	waits bool // it is one of offers.waiting
}

// generation is one inbox for pulls of one side of an arc.
type generation struct {
	arc    *arc
	kind   kind
	class  int
	rank   int // when it was made
	inbox  string
	open   int  // pulls that the server holds, as far as is known; guarded by Manager.mu
	retire bool // replaced: counts no more; guarded by Manager.mu
	stale  bool // to be replaced, for its count is not known; guarded by Manager.mu
	once   sync.Once
	sub    *nats.Subscription // set by once
	line   *lineup            // set by once, used on the subscription's goroutine
}

// took counts a pull that brought a message. Manager.mu is held.
func (g *generation) took() {
	if !g.retire {
		g.open = max(0, g.open-1)
	}
}

// pull is n pulls to be sent on a generation; the zero value is none.
type pull struct {
	gen *generation
	n   int
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

// kick has the loop look soon at what is offered.
func (o *offers) kick() {
	select {
	case o.kicked <- struct{}{}:
	default:
	}
}

// sideOf gives a side and how many pulls it should have open. Manager.mu is held.
func (o *offers) sideOf(m *Manager, a *arc, k kind, now time.Time) (s *side, wanted, class int) {
	s = &a.sides[k]
	switch k {
	case room:
		class = subjects.RoomClass(a.rank, a.length)
		if now.Before(a.held) {
			break
		}
		wanted = m.credit(m.view.Load(), a)
		if wanted == 0 && m.offering && a.rank >= 0 && !o.out.lasts && s.gen != nil {
			wanted = s.gen.open // what comes for them meanwhile is given back
		}
	case caught:
		class = subjects.ClassCatcher
		if m.offering && a.catches() {
			wanted = catchBatch
		}
	default:
		class = subjects.IdleClass(a.rank, a.length)
		if m.offering && !now.Before(a.held) {
			wanted = m.pool.Offered(a.name)
		}
	}
	return s, wanted, class
}

// few reports whether a side lacks so little that it need not be sent yet: a catcher's pull lasts for many calls, a credit
// is no promise, and where many idle environments are offered those that came free last wait for others, at most [endsWait], to
// be offered by one request with them. An environment that is one of a few is offered at once: before its call is answered.
func (k kind) few(lacking, wanted int) bool {
	if k == idle {
		return lacking <= min(bodies, (wanted-lacking)/manyOffered)
	}
	return lacking <= wanted/2
}

// top finds the idle pulls that an arc lacks, on the path of a call: more is repaired by the loop. Manager.mu is held;
// the result is sent after it was let go.
func (o *offers) top(m *Manager, name string) pull {
	if name == "" {
		return pull{}
	}
	a := o.arc(m, name)
	if a == nil {
		return pull{}
	}
	return o.topSide(m, a, idle, true)
}

// topSide finds what a side lacks. With more it may wait for what others lack.
func (o *offers) topSide(m *Manager, a *arc, k kind, more bool) pull {
	if o.out.lasts && m.pool.Room() > 0 {
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
	s.astray = min(s.astray, max(0, -lacking))
	switch {
	case lacking < 0:
		if k == idle && -lacking > s.astray || k != idle && wanted == 0 {
			o.kick()
		}
		return pull{}
	case lacking == 0 || g != nil && more && k.few(lacking, wanted):
		if k == idle && lacking > 0 && !s.waits {
			s.waits = true
			o.waiting = append(o.waiting, a)
			signal(m.ends.wake)
		}
		return pull{}
	case !a.backoff.IsZero() || g != nil && (g.stale || g.class != class):
		o.kick()
		return pull{}
	default:
		if g == nil {
			g = o.generation(a, k, class)
			s.gen, s.due = g, time.Now().Add(a.stagger())
		}
		g.open += lacking
		return pull{g, lacking}
	}
}

// offerWaiting sends the pulls that waited for others.
func (m *Manager) offerWaiting() {
	var buffer [4]pull
	pulls := buffer[:0]
	m.mu.Lock()
	for i, a := range m.offers.waiting {
		a.sides[idle].waits = false
		if p := m.offers.topSide(m, a, idle, false); p.gen != nil {
			pulls = append(pulls, p)
		}
		m.offers.waiting[i] = nil
	}
	m.offers.waiting = m.offers.waiting[:0]
	m.mu.Unlock()
	for _, p := range pulls {
		m.send(p)
	}
}

// arc is the arc of this name, made known if need be. Manager.mu is held.
func (o *offers) arc(m *Manager, name string) *arc {
	if a := o.arcs[name]; a != nil {
		return a
	}
	nn, ok := unreservedNumber(name)
	if !ok {
		return nil
	}
	a := &arc{
		name: name, number: nn, rank: subjects.OffArc,
		next: "$JS.API.CONSUMER.MSG.NEXT." + m.names.CallsU() + "." + m.names.UnreservedDurable(nn),
	}
	m.view.Load().place(m.cfg.ID, a)
	o.arcs[name] = a
	return a
}

// stagger is the time to the first renewal: spread over a second, for all arcs at once would be a burst.
func (a *arc) stagger() time.Duration { return renewEvery * time.Duration(1+a.number%32) / 32 }

func unreservedNumber(name string) (int, bool) {
	if len(name) < 3 || name[:2] != "u." {
		return 0, false
	}
	nn, err := strconv.Atoi(name[2:])
	return nn, err == nil && nn >= 0 && nn < subjects.MaxArcs
}

func (o *offers) generation(a *arc, k kind, class int) *generation {
	o.made++
	return &generation{arc: a, kind: k, class: class, rank: a.rank, inbox: o.inbox + strconv.FormatUint(o.made, 36)}
}

// tookOtherwise notes that a claim took an environment that is offered on an arc by a pull that stays open. Manager.mu is held.
func (a *arc) tookOtherwise(g *generation, now time.Time) {
	if g.kind == idle && !g.retire {
		return
	}
	s := &a.sides[idle]
	s.astray++
	s.astrayAt = now
}

// spent notes that a pull of a generation brought a message, and finds what its side lacks now. Manager.mu is held.
func (o *offers) spent(m *Manager, g *generation) pull {
	if g.retire {
		return pull{}
	}
	g.took()
	return o.topSide(m, g.arc, g.kind, true)
}

// change is what the loop does to one side of one arc after it has let the mutex go.
type change struct {
	add pull
	old *generation
}

// offersLoop renews offers, takes back what is too much, and sends what is lacking.
func (m *Manager) offersLoop(ctx context.Context) {
	ticker := time.NewTicker(offersTick)
	defer ticker.Stop()
	wait := time.NewTimer(debounce)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if v := m.view.Load(); v.served > v.fabric.Arcs && time.Now().After(v.servedUntil) {
				m.reread()
			}
		case <-m.offers.kicked:
			wait.Reset(debounce)
			select {
			case <-ctx.Done():
				return
			case <-wait.C:
			}
		}
		m.offerAgain(false)
	}
}

// offerAgain makes every side of every arc have exactly what it should. With anew every generation is replaced, since
// nobody knows what the server still holds.
func (m *Manager) offerAgain(anew bool) {
	if !m.nc.IsConnected() {
		return
	}
	now := time.Now()
	var changes []change
	m.mu.Lock()
	if m.offers.out.look(m.pool.Room(), m.pool.Freed(), now) {
		m.tellSoon() // catchers elsewhere act on it
	}
	for name := range m.pool.OfferedArcs {
		m.offers.arc(m, name)
	}
	for _, a := range m.offers.arcs {
		if now.Before(a.backoff) {
			continue
		}
		a.backoff = time.Time{}
		if !a.held.IsZero() && !now.Before(a.held) {
			a.held = time.Time{}
		}
		for k := range kinds {
			if c, ok := m.offers.settle(m, a, k, now, anew); ok {
				changes = append(changes, c)
			}
		}
	}
	m.mu.Unlock()
	for _, c := range changes {
		m.send(c.add)
		if c.old != nil {
			m.withdraw(c.old)
		}
	}
}

// settle finds what one side needs. Manager.mu is held.
func (o *offers) settle(m *Manager, a *arc, k kind, now time.Time, anew bool) (change, bool) {
	s, wanted, class := o.sideOf(m, a, k, now)
	g := s.gen
	if g == nil {
		if wanted == 0 {
			return change{}, false
		}
		s.gen = o.generation(a, k, class)
		s.due = now.Add(a.stagger())
		s.gen.open = wanted
		return change{add: pull{s.gen, wanted}}, true
	}
	lacking := wanted - g.open
	due := !now.Before(s.due)
	// A credit is no promise: a little too much of it is taken back by the next renewal, all of it when room is out.
	excess := lacking < 0 && (k == idle || wanted == 0)
	s.astray = min(s.astray, max(0, -lacking))
	if excess && -lacking <= s.astray && m.offering && now.Sub(s.astrayAt) < astrayFor && !now.Before(a.held) {
		excess = false
	}
	if !anew && !excess && !g.stale && g.class == class && !(due && g.open > 0) {
		if lacking <= 0 || k == caught && k.few(lacking, wanted) {
			return change{}, false
		}
		g.open = wanted
		return change{add: pull{g, lacking}}, true
	}
	g.retire = true
	if excess {
		m.count.withdrawals.Add(1)
	}
	s.gen, s.astray = nil, 0
	if wanted == 0 {
		return change{old: g}, true
	}
	s.gen = o.generation(a, k, class)
	s.gen.open = wanted
	s.due = now.Add(renewEvery)
	if !due {
		s.due = now.Add(a.stagger())
	}
	return change{add: pull{s.gen, wanted}, old: g}, true
}
