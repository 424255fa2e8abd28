package pool_test

import (
	"time"

	"github.com/hearth-run/hearth/manager/pool"
)

// naiveShare is what the plain rules know of a reserved home: everything that ever was, as a list.
type naiveShare struct {
	pool.Share
	idle          []naiveIdle
	inits, deaths int
	why           string
	pause         time.Duration
	retryAt, last time.Time
	short         time.Time
}

// naiveIdle is how many members were idle from a moment on.
type naiveIdle struct {
	at     time.Time
	number int
}

func (s *naiveShare) failing() bool { return s.inits+s.deaths >= 3 }

func (s *naiveShare) failed(now time.Time, why string) {
	s.inits++
	s.troubled(now, why)
}

func (s *naiveShare) died(now time.Time) {
	s.deaths++
	s.troubled(now, "environments end by themselves before their first call")
}

func (s *naiveShare) troubled(now time.Time, why string) {
	s.why, s.last = why, now
	if s.failing() && !now.Before(s.retryAt) {
		switch s.pause {
		case 0:
			s.pause = time.Second
		default:
			s.pause = min(2*s.pause, time.Minute)
		}
		s.retryAt = now.Add(s.pause)
	}
}

func (s *naiveShare) inited(now time.Time) {
	s.inits, s.last = 0, now
	if s.deaths == 0 {
		s.pause, s.retryAt = 0, time.Time{}
	}
}

func (n *naive) ready(h pool.Home) int {
	return len(n.in(h, "idle")) + len(n.in(h, "busy")) + len(n.in(h, "finishing")) + len(n.in(h, "promised"))
}

// surplus is how many calls would take members above the share if one came after the other.
func (n *naive) surplus(arc string, homes []pool.Home, specs map[pool.Home]pool.Spec) (above int) {
	for _, h := range homes {
		s := n.shares[h]
		if s == nil {
			continue
		}
		offered := n.offered(arc, []pool.Home{h}, specs)
		for taken := n.ready(h) - offered; offered > 0; offered-- {
			if taken++; taken > s.Members {
				above++
			}
		}
	}
	return above
}

func (n *naive) lacks(h pool.Home) int {
	return max(0, n.shares[h].Members-n.ready(h)-len(n.in(h, "starting")))
}

// owed is the places that reserved homes lack for want of room.
func (n *naive) owed() int {
	owed := 0
	for _, h := range n.shared {
		if !n.shares[h].failing() {
			owed += n.lacks(h) * n.places(h)
		}
	}
	return owed
}

func (n *naive) places(h pool.Home) int { return n.specs[h].Places }

func (n *naive) setShare(p *pool.Pool[int], h pool.Home, s pool.Spec, to pool.Share, order int) {
	plan := p.SetShare(n.now, h, s, to)
	switch {
	case n.shares[h] != nil:
		n.shares[h].Share = to
	case to.Members > 0:
		n.shares[h] = &naiveShare{Share: to}
		n.shared = append(n.shared, h)
	}
	n.forget()
	n.refill(&plan, order)
	if len(plan.Make)+len(plan.End)+len(plan.Run)+len(plan.Refuse)+len(plan.Fail) > 0 {
		n.t.Fatalf("share, too much: %+v", plan)
	}
}

// forget drops homes that have nothing and no share.
func (n *naive) forget() {
	var left []pool.Home
	for _, h := range n.shared {
		has := n.shares[h].Members > 0
		for _, c := range n.claims {
			has = has || generic(c.home) == h
		}
		for _, e := range n.envs {
			has = has || generic(e.home) == h
		}
		if has {
			left = append(left, h)
		} else {
			delete(n.shares, h)
		}
	}
	n.shared = left
}

func (n *naive) refill(plan *pool.Plan[int], order int) {
	for _, h := range n.shared {
		s := n.shares[h]
		for n.lacks(h) > 0 && (!s.failing() || len(n.in(h, "starting")) == 0 && !n.now.Before(s.retryAt)) {
			ids, ok := n.evict(n.places(h), n.all())
			if !ok {
				break
			}
			if len(plan.Make) == 0 || len(plan.End) < len(ids) {
				n.t.Fatalf("plan %+v, want one made for %v and %v ended", plan, h, ids)
			}
			for i, id := range ids {
				if plan.End[i] != id {
					n.t.Fatalf("plan %+v, want %v ended", plan, ids)
				}
			}
			n.made(plan.Make[:1], h, order)
			plan.Make, plan.End = plan.Make[1:], plan.End[len(ids):]
		}
		switch {
		case s.failing() || n.lacks(h) == 0:
			s.short = time.Time{}
		case s.short.IsZero():
			s.short = n.now
		}
	}
}

// reclaim ends what is surplus: what was idle at every moment of the window, the least recently used first.
func (n *naive) reclaim(plan *pool.Plan[int]) {
	for _, h := range n.shared {
		s := n.shares[h]
		n.note(h)
		if n.lacks(h) == 0 && n.now.Sub(s.last) > 2*time.Second {
			s.deaths = 0
		}
		window := reclaim
		if s.Draining {
			window = min(window, pool.DrainWindow)
			n.reclaimBound(h, window, plan)
		}
		idle := n.in(h, "idle")
		end := min(len(idle), n.ready(h)-s.Members)
		for i, x := range s.idle {
			if i == len(s.idle)-1 || s.idle[i+1].at.After(n.now.Add(-window)) {
				end = min(end, x.number)
			}
		}
		if s.Hold || end <= 0 {
			continue
		}
		for _, e := range idle[:end] {
			if len(plan.End) == 0 || plan.End[0] != e.id {
				n.t.Fatalf("tick: %+v, want %s of %v ended", plan, e.id, h)
			}
			plan.End = plan.End[1:]
			e.state = "closing"
		}
		for i := range s.idle {
			s.idle[i].number -= end
		}
	}
}

// note writes down how many are idle now.
func (n *naive) note(h pool.Home) {
	s := n.shares[h]
	s.idle = append(s.idle, naiveIdle{n.now, max(0, len(n.in(h, "idle"))+n.fresh(h)-n.beyond(h))})
}

// settleShares ends a step: it writes down and compares.
func (n *naive) settleShares(p *pool.Pool[int]) {
	n.forget()
	for _, h := range n.shared {
		n.note(h)
		s := n.shares[h]
		g, ok := p.Group(h)
		switch {
		case !ok || g.Share != s.Share || g.Counts.Ready() != n.ready(h) || g.Counts.Starting != len(n.in(h, "starting")):
			n.t.Fatalf("%v: the pool has %+v (%v), want %d ready, %d starting of %+v", h, g, ok, n.ready(h), len(n.in(h, "starting")), s.Share)
		case s.failing() && g.Failing != s.why || !s.failing() && g.Failing != "":
			n.t.Fatalf("%v: failing %q, want %q (%d inits, %d deaths)", h, g.Failing, s.why, s.inits, s.deaths)
		}
	}
}

// unable compares who is told unable; it holds after a tick, which tells the pool the time.
func (n *naive) unable(p *pool.Pool[int]) {
	for _, h := range n.shared {
		s := n.shares[h]
		want := !s.short.IsZero() && n.now.Sub(s.short) >= pool.UnableAfter
		if g, _ := p.Group(h); g.Unable != want {
			n.t.Fatalf("%v: unable %v, want %v", h, g.Unable, want)
		}
	}
}
