package manager

import (
	"context"
	"sync"
	"time"

	"github.com/hearth-run/hearth/internal/story"
	"github.com/hearth-run/hearth/manager/pace"
	"github.com/hearth-run/hearth/manager/pool"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// The last two ranks of an unreserved arc keep one pull of the worst class open (DESIGN 2): what comes by it found neither an idle
// environment nor room.
//
//	first delivery, something is warm here ───────────────────► it takes it
//	first delivery ── 2 ms ──► NAK          something may come free meanwhile, and then takes it
//	second, first that holds:
//	  this manager has room (or something warm by now) ─────────► the path of every claim or a cap's 429
//	  a manager of the arc tells room ──────────────────────────► NAK, 10 ms: it takes it
//	  a manager outside the arc tells room ─────────────────────► the arc grows by one (arcs.go), NAK, 10 ms
//	  somebody's environments are hot (manager/pool) ───────────► NAK, 10 ms; where they are here they make way for who waits
//	  full for so long that every status would have said more ──► 429
//	  else ─────────────────────────────────────────────────────► NAK, 10 ms
//
// The statuses are behind by what they wait for others, so one look that sees nobody with room proves nothing: of nine
// places and eight callers calls were refused. A call that is larger than the room of every manager never comes to a catcher,
// for there is room: whoever was given it twice and cannot use it decides in the same way. Reserved arcs: overflow.go.
const (
	catchBatch = pace.CatchBatch
	refusals   = 256 // that may wait for their locks at once; more are given back
)

// catches reports whether this manager keeps the arc's catcher, or one of them. Manager.mu is held.
func (a *arc) catches() bool {
	if a.opening != nil {
		return a.rank >= 0 && a.rank < reservedCatchers
	}
	return a.rank >= 0 && a.rank >= a.length-2
}

// heat counts a claim, and reports whether it is the first for a while that came by a reserved arc: while an idle member is offered
// there, and nobody calls, nothing is caught that could not wait until somebody has. Each catcher's pull would be renewed for
// nothing else. Manager.mu is held.
func (a *arc) heat() bool {
	a.claims++
	first := a.of != nil && !a.hot
	a.hot = a.of != nil
	return first
}

// cool is called at each turn of a reserved arc. Manager.mu is held.
func (a *arc) cool() { a.hot, a.seen = a.claims != a.seen, a.claims }

// catcher is the first deliveries that are kept for a moment.
type catcher struct {
	wake chan struct{} // something is kept

	mu   sync.Mutex
	kept []kept // oldest first; open pulls bound them, for each counts as open until it is given back
}

type kept struct {
	claim *claim
	gen   *generation
	until time.Duration
}

// catch takes what no other pull took.
func (m *Manager) catch(c *claim, g *generation) {
	m.count.caught.Add(1)
	if wait, ok := c.patience(m.view.Load().fabric.Catch); ok {
		if m.takeCaught(c, g) {
			return
		}
		m.catcher.mu.Lock()
		c.story.Add(story.Kept(wait))
		m.catcher.kept = append(m.catcher.kept, kept{c, g, m.now() + wait})
		m.catcher.mu.Unlock()
		signal(m.catcher.wake)
		return
	}
	if c.lacks() && !c.target.Reserved {
		m.fetchFirst(c, g)
		return
	}
	m.decide(c, g)
}

// patience is how long a caught claim is kept before it is given back; false: it is acted on. On a reserved arc a member may have
// refused it before it came here, because another call was quicker, and that moment was no patience yet.
func (c *claim) patience(grace time.Duration) (time.Duration, bool) {
	switch {
	case c.ack.Delivered == 1:
		return grace, true
	case c.target.Reserved && c.age > 0 && c.age < grace: // 0: it cannot be judged
		return grace - c.age, true
	default:
		return 0, false
	}
}

// takeCaught runs a first delivery in what is warm here by now, and reports false where nothing is. Its environment came free
// while the delivery was on its way, or calls for the other idle ones are on theirs: under load that is most of what is
// caught, and going back it would cost a second delivery and a lock.
func (m *Manager) takeCaught(c *claim, g *generation) bool {
	if c.lacks() && !c.target.Reserved {
		return false
	}
	now := time.Now()
	m.mu.Lock()
	d := m.warm(now, c)
	if d.Action == pool.Unknown {
		m.mu.Unlock()
		return false
	}
	g.took()
	c.line = m.lineup(g)
	m.decided(c, g, &d, now)
	return true
}

// catchLoop gives back what was kept, until its context ends and then at once.
func (m *Manager) catchLoop(ctx context.Context) {
	wait := time.NewTimer(time.Hour)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			m.giveBackKept(1<<63 - 1)
			return
		case <-m.catcher.wake:
		case <-wait.C:
		}
		if next, ok := m.giveBackKept(m.now()); ok {
			wait.Reset(max(0, next-m.now()))
		}
	}
}

// giveBackKept gives back what was kept long enough, and finds when the next will have been.
func (m *Manager) giveBackKept(now time.Duration) (next time.Duration, ok bool) {
	for {
		m.catcher.mu.Lock()
		if len(m.catcher.kept) == 0 {
			m.catcher.kept = nil
			m.catcher.mu.Unlock()
			return 0, false
		}
		k := m.catcher.kept[0]
		if k.until > now {
			m.catcher.mu.Unlock()
			return k.until, true
		}
		m.catcher.kept = m.catcher.kept[1:]
		m.catcher.mu.Unlock()
		m.giveBackNow(k.claim)
		m.spend(k.gen)
	}
}

// turnAway decides what becomes of a claim that came back and for which this manager has no room.
func (m *Manager) turnAway(c *claim, g *generation, d *pool.Decision) {
	if c.target.Reserved {
		if g.kind == caught {
			m.overflow(c)
		} else {
			m.giveBack(c)
		}
		return
	}
	a, v, now := g.arc, m.view.Load(), m.now()
	back := m.giveBack
	if g.kind == caught {
		back = m.giveBackLater
	}
	if v.ring == nil || a.number >= v.served {
		back(c)
		return
	}
	var buffer [64]int
	order := v.ring.Unreserved(buffer[:0], a.number, v.ring.Len())
	length := subjects.UnreservedLength(v.ring.Len(), v.lengths[a.number])
	first := m.peers.withRoom(v.ring.Managers(), order, d.Places, now)
	largest := m.peers.largest(now)
	heard := m.peers.heard(now, v.ring.Managers()...) // whose status is late may have room all the same
	m.mu.Lock()
	here, hot := m.pool.Room()+m.pool.Soon() >= d.Places, m.pool.Hot() >= d.Places
	if !hot {
		_, hot = m.peers.anybody(d.Places, now)
	}
	full, grow := a.Judge(pace.Look{Now: now, Here: here, First: first, Length: length, Heard: heard, Hot: hot, Delivered: c.ack.Delivered})
	m.mu.Unlock()
	switch most := max(largest, m.Capacity()); {
	case most == 0 && full:
		m.turnedAway(c, schema.Errorf(schema.CodeCapacityExceeded, "no manager has a worker: `hearth worker` starts one"))
	case d.Places > most && full:
		m.turnedAway(c, schema.Errorf(schema.CodeCapacityExceeded, "an environment of it takes %d places and no manager has more than %d: "+
			"give the function less memory, or a manager more capacity", d.Places, most))
	case full:
		m.turnedAway(c, &schema.Error{Code: schema.CodeCapacityExceeded, Message: "no manager has room for another environment"})
	case grow:
		m.spawn(func() { m.grow(a.number, length) })
		back(c)
	default:
		back(c)
	}
}

// turnedAway answers a caught claim that it may come again later.
func (m *Manager) turnedAway(c *claim, err error) {
	if m.refusing.Add(1) > refusals {
		m.refusing.Add(-1)
		m.giveBackLater(c)
		return
	}
	m.count.turnedAway.Add(1)
	m.spawn(func() {
		defer m.refusing.Add(-1)
		m.refuse(c, err)
	})
}
