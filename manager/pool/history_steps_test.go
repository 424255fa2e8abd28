package pool_test

import (
	"cmp"
	"slices"
	"time"

	"github.com/hearth-run/hearth/manager/pool"
	"github.com/hearth-run/hearth/schema"
)

func (n *naive) claim(d pool.Decision, h pool.Home, s pool.Spec, id, order int) {
	n.cool()
	if idle := n.in(h, "idle"); len(idle) > 0 {
		last := idle[len(idle)-1]
		if d.Action != pool.Run || d.Environment != last.id {
			n.t.Fatalf("claim: %+v, want %s to run it", d, last.id)
		}
		last.state, last.order = "busy", order
		last.calls++
		return
	}
	if len(n.waiting(h)) >= n.cover(h) {
		var ids []string
		ok := false
		if h.Reservation == 0 {
			ids, ok = n.evict(s.Places, n.reach())
		}
		if !ok {
			if d.Action != pool.Refuse {
				n.t.Fatalf("claim: %+v, want it refused", d)
			}
			return
		}
		if d.Make == nil || !slices.Equal(d.End, ids) {
			n.t.Fatalf("claim: %+v, want one made and %v evicted", d, ids)
		}
		n.made(d.Make[:1], h, order)
	} else if d.Make != nil {
		n.t.Fatalf("claim: %+v, want none made: it is covered", d)
	}
	if d.Action != pool.Wait {
		n.t.Fatalf("claim: %+v, want it to wait", d)
	}
	n.claims = append(n.claims, naiveClaim{h, id})
}

func (n *naive) parked(turn pool.Turn[int], e *naiveEnvironment, order int, may bool) {
	if !may {
		if turn.Run || turn.End || turn.Arc != "" {
			n.t.Fatalf("%s is %s: %+v, want no turn", e.id, e.state, turn)
		}
		return
	}
	if e.spec.Tenants && e.home.Tenant == "" {
		n.parkedGeneric(turn, e, order)
		return
	}
	e.order, e.stale, e.held = order, false, false
	if s := n.shares[e.home]; s != nil && e.state == "starting" {
		s.inited(n.now)
	}
	w := n.waiting(e.home)
	if len(w) == 0 && (spares(e.home) && n.owed() > max(0, n.free()) || n.overLimit(e.home)) {
		if !turn.End {
			n.t.Fatalf("%s: %+v, want it ended: a reservation lacks its places, or its sub-tenant has too many", e.id, turn)
		}
		e.state = "closing"
		return
	}
	if len(w) == 0 {
		if turn.Run || turn.End {
			n.t.Fatalf("%s: %+v, want it idle", e.id, turn)
		}
		e.state, e.since = "idle", n.now
		return
	}
	kind := schema.StartWarm
	switch {
	case e.calls == 0 && e.home.Tenant != "":
		kind = schema.StartSpecialised
	case e.calls == 0:
		kind = schema.StartCold
	}
	if !turn.Run || turn.Claim != w[0] || turn.Start != kind {
		n.t.Fatalf("%s: %+v, want it to run claim %d %s", e.id, turn, w[0], kind)
	}
	n.drop(w[0])
	e.state = "busy"
	e.calls++
}

func (n *naive) gone(p *pool.Pool[int], e *naiveEnvironment, s pool.Spec, order int) {
	failed := e.state == "starting"
	var plan pool.Plan[int]
	if failed {
		plan = p.Failed(n.now, e.id, "broken")
	} else {
		plan = p.Gone(n.now, e.id)
	}
	n.envs = slices.DeleteFunc(n.envs, func(x *naiveEnvironment) bool { return x == e })
	if s := n.shares[e.home]; s != nil {
		switch {
		case failed:
			s.failed(n.now, "broken")
		case e.state == "idle" && e.calls == 0 && n.now.Sub(e.since) < time.Second:
			s.died(n.now)
		}
	}
	if w := n.needy(e.home); failed && n.beyond(e.home) > n.cover(e.home) {
		if !slices.Equal(plan.Fail, w[:1]) {
			n.t.Fatalf("failed init: %+v, want claim %d to fail", plan, w[0])
		}
		n.drop(w[0])
	} else if len(plan.Fail) > 0 {
		n.t.Fatalf("%+v, want no claim to fail", plan)
	}
	n.forget()
	n.refill(&plan, order)
	n.covered(e.home, s, &plan, order)
	if len(plan.Make)+len(plan.End)+len(plan.Run)+len(plan.Refuse) > 0 {
		n.t.Fatalf("too much: %+v", plan)
	}
}

const (
	keepAlive = 400 * time.Millisecond
	reclaim   = 300 * time.Millisecond
)

func (n *naive) tick(p *pool.Pool[int], specs map[pool.Home]pool.Spec, order int) {
	plan := p.Tick(n.now, keepAlive, reclaim)
	n.cool()
	var late []*naiveEnvironment
	for _, e := range n.envs {
		if e.state == "finishing" && !e.stale && !e.held && n.now.Sub(e.since) > pool.Patience {
			late = append(late, e)
		}
	}
	slices.SortFunc(late, func(a, b *naiveEnvironment) int { return cmp.Compare(a.order, b.order) })
	for _, e := range late {
		e.stale = true
		n.covered(e.home, specs[e.home], &plan, order)
	}
	n.relieve(&plan, order)
	for _, e := range n.evictable() {
		if n.now.Sub(e.since) > keepAlive {
			if len(plan.End) == 0 || plan.End[0] != e.id {
				n.t.Fatalf("tick: %+v, want %s ended", plan, e.id)
			}
			plan.End = plan.End[1:]
			e.state = "closing"
		}
	}
	n.reclaim(&plan)
	n.refill(&plan, order)
	if len(plan.Make)+len(plan.End)+len(plan.Run)+len(plan.Refuse)+len(plan.Fail) > 0 {
		n.t.Fatalf("tick, too much: %+v", plan)
	}
	n.unable(p)
}
