package pool_test

import (
	"fmt"
	"slices"
	"time"

	"github.com/hearth-run/hearth/manager/pool"
	"github.com/hearth-run/hearth/schema"
)

// tenantHomes are those of two functions with sub-tenants, one of them reserved and not reserved too: each's generic home, and some
// sub-tenants'.
func tenantHomes(specs map[pool.Home]pool.Spec, places func() int) (homes []pool.Home) {
	for i, reservation := range []uint64{0, 9, 0} {
		n := places()
		for _, tenant := range []string{"", "a", "b", "c"} {
			h := home(fmt.Sprint("t", (i+1)/2))
			h.Reservation, h.Tenant = reservation, tenant
			s := pool.Spec{Account: "default", Function: h.FunctionID, Arc: "u.1", Places: n, Tenants: true}
			switch {
			case reservation != 0:
				s.Arc = "u.0"
			case tenant == "":
				s.Arc = ""
			}
			homes, specs[h] = append(homes, h), s
		}
	}
	return homes
}

func generic(h pool.Home) pool.Home {
	h.Tenant = ""
	return h
}

// spares reports whether idle environments of a home may be evicted.
func spares(h pool.Home) bool { return h.Reservation == 0 || h.Tenant != "" }

// beyond is how many claims what a home has must cover: of a generic one what its sub-tenants' finishing ones do not.
func (n *naive) beyond(h pool.Home) int {
	if h.Tenant != "" || !n.specs[h].Tenants {
		return len(n.waiting(h))
	}
	need := 0
	for _, t := range n.tenants(h) {
		need += max(0, len(n.waiting(t))-n.fresh(t))
	}
	return need
}

// tenants are the sub-tenants' homes of a family that has h.
func (n *naive) tenants(h pool.Home) (of []pool.Home) {
	for other := range n.specs {
		if other.Tenant != "" && generic(other) == generic(h) {
			of = append(of, other)
		}
	}
	return of
}

// needy are the claims among which the oldest fails or gets what is generic: those of the sub-tenant whose first uncovered claim is
// the oldest; of other homes simply those that wait.
func (n *naive) needy(h pool.Home) []int {
	if !n.specs[h].Tenants {
		return n.waiting(h)
	}
	var of []int
	first := 0
	for _, t := range n.tenants(h) {
		if w := n.waiting(t); len(w) > n.fresh(t) && (of == nil || w[n.fresh(t)] < first) {
			of, first = w, w[n.fresh(t)]
		}
	}
	return of
}

func (n *naive) homeOf(claim int) pool.Home {
	return n.claims[slices.IndexFunc(n.claims, func(c naiveClaim) bool { return c.id == claim })].home
}

// bind makes a generic environment a sub-tenant's. No environment ever has two.
func (n *naive) bind(e *naiveEnvironment, to pool.Home, order int) {
	if e.home.Tenant != "" || e.home != generic(to) || e.calls > 0 {
		n.t.Fatalf("%s of %v is bound to %v after %d calls", e.id, e.home, to, e.calls)
	}
	e.home, e.spec, e.state, e.order, e.calls = to, n.specs[to], "busy", order, 1
}

// replaced checks what is made because a member of a share was bound.
func (n *naive) replaced(made []pool.Make, end []string, h pool.Home, order int) {
	plan := pool.Plan[int]{Make: made, End: end}
	if h.Reservation != 0 {
		n.refill(&plan, order)
	}
	if len(plan.Make)+len(plan.End) > 0 {
		n.t.Fatalf("too much in place of one that was bound: %+v", plan)
	}
}

func (n *naive) claimBound(d pool.Decision, h pool.Home, s pool.Spec, id, order int) {
	n.cool()
	root := generic(h)
	run := func(e *naiveEnvironment, start schema.Start) {
		if d.Action != pool.Run || d.Environment != e.id || d.Start != start {
			n.t.Fatalf("claim of %v: %+v, want %s to run it %s", h, d, e.id, start)
		}
	}
	waits := func(makes int) {
		if d.Action != pool.Wait || len(d.Make) != makes {
			n.t.Fatalf("claim of %v: %+v, want it to wait and %d made", h, d, makes)
		}
		n.claims = append(n.claims, naiveClaim{h, id})
	}
	own, spare := n.in(h, "idle"), n.in(root, "idle")
	covered := func() {
		if end := n.exchange(h, d.End); len(end) > 0 {
			n.t.Fatalf("claim of %v: too much ends: %v", h, end)
		}
		waits(0)
	}
	switch {
	case len(own) > 0:
		e := own[len(own)-1]
		start := schema.StartWarm
		if e.calls == 0 {
			start = schema.StartSpecialised
		}
		run(e, start)
		e.state, e.order = "busy", order
		e.calls++
	case len(n.waiting(h)) < n.fresh(h):
		waits(0)
	case n.holds(h) && n.known(root):
		n.hold(n.late(h)[0])
		waits(0)
	case n.barred(h) && n.known(root):
		if d.Action != pool.Throttle || len(d.End)+len(d.Make) > 0 {
			n.t.Fatalf("claim of %v: %+v, want it throttled", h, d)
		}
	case len(spare) > 0:
		e := spare[len(spare)-1]
		run(e, schema.StartSpecialised)
		end := n.exchange(h, d.End)
		n.bind(e, h, order)
		n.replaced(d.Make, end, h, order)
	case n.beyond(root) < len(n.in(root, "starting")) && n.known(root):
		covered()
	default:
		var ids []string
		ok := false
		end := d.End
		if room := n.reach(); h.Reservation == 0 && room >= s.Places {
			end = n.exchange(h, end)
			ids, ok = n.evict(s.Places, room)
		}
		if !ok {
			if d.Action != pool.Refuse {
				n.t.Fatalf("claim of %v: %+v, want it refused", h, d)
			}
			return
		}
		waits(1)
		if !slices.Equal(end, ids) {
			n.t.Fatalf("claim of %v: %+v, want %v evicted", h, d, ids)
		}
		n.made(d.Make, root, order)
	}
}

func (n *naive) known(root pool.Home) bool {
	return root.Reservation == 0 || n.shares[root] != nil
}

func (n *naive) parkedGeneric(turn pool.Turn[int], e *naiveEnvironment, order int) {
	began := e.state == "starting"
	w := n.needy(e.home)
	if len(w) == 0 {
		if spares(e.home) && n.owed() > max(0, n.free()) {
			if !turn.End {
				n.t.Fatalf("%s: %+v, want it ended: a reservation lacks its places", e.id, turn)
			}
			e.state, e.order = "closing", order
			return
		}
		if turn.Run || turn.End {
			n.t.Fatalf("%s: %+v, want it idle", e.id, turn)
		}
		e.state, e.since, e.order = "idle", n.now, order
		if s := n.shares[e.home]; s != nil && began {
			s.inited(n.now)
		}
		return
	}
	if s := n.shares[e.home]; s != nil && began {
		s.inited(n.now)
	}
	start := schema.StartSpecialised
	if began {
		start = schema.StartCold
	}
	if !turn.Run || turn.Claim != w[0] || turn.Start != start {
		n.t.Fatalf("%s: %+v, want it to run claim %d %s", e.id, turn, w[0], start)
	}
	h := n.homeOf(w[0])
	n.drop(w[0])
	n.bind(e, h, order)
	more := turn.More
	if more == nil {
		more = &pool.Plan[int]{}
	}
	n.replaced(more.Make, more.End, h, order)
}

func (n *naive) coveredFamily(h pool.Home, spec pool.Spec, plan *pool.Plan[int], order int) {
	root := generic(h)
	if h.Tenant != "" {
		for _, e := range n.in(h, "finishing") {
			if e.held {
				e.stale, e.held = true, false
			}
		}
		n.trim(h, plan)
	}
	for {
		w, spare := n.needy(h), n.in(root, "idle")
		if len(w) == 0 || len(spare) == 0 {
			break
		}
		e := spare[len(spare)-1]
		if len(plan.Run) == 0 || plan.Run[0] != (pool.Started[int]{Claim: w[0], Environment: e.id}) {
			n.t.Fatalf("plan %+v, want claim %d to run in %s", plan, w[0], e.id)
		}
		plan.Run = plan.Run[1:]
		t := n.homeOf(w[0])
		n.drop(w[0])
		n.bind(e, t, order)
		if root.Reservation != 0 {
			n.refill(plan, order)
		}
	}
	for n.beyond(root) > len(n.in(root, "starting")) {
		var ids []string
		ok := false
		if root.Reservation == 0 {
			ids, ok = n.evict(spec.Places, n.room())
		}
		if ok {
			if len(plan.Make) == 0 || len(plan.End) < len(ids) || !slices.Equal(plan.End[:len(ids)], ids) {
				n.t.Fatalf("plan %+v, want one made and %v ended", plan, ids)
			}
			n.made(plan.Make[:1], root, order)
			plan.Make, plan.End = plan.Make[1:], plan.End[len(ids):]
			continue
		}
		last := -1
		for _, t := range n.tenants(root) {
			if w := n.waiting(t); len(w) > n.fresh(t) {
				last = max(last, w[len(w)-1])
			}
		}
		if len(plan.Refuse) == 0 || plan.Refuse[0] != last {
			n.t.Fatalf("plan %+v, want claim %d refused", plan, last)
		}
		plan.Refuse = plan.Refuse[1:]
		n.drop(last)
	}
}

// reclaimBound ends what was bound to sub-tenants of a reservation that drains and was idle for so long, in any order of sub-tenants.
func (n *naive) reclaimBound(root pool.Home, window time.Duration, plan *pool.Plan[int]) {
	var late []string
	for _, t := range n.tenants(root) {
		for _, e := range n.in(t, "idle") {
			if n.now.Sub(e.since) > window {
				late, e.state = append(late, e.id), "closing"
			}
		}
	}
	if len(plan.End) < len(late) {
		n.t.Fatalf("plan %+v, want %v ended", plan, late)
	}
	ended := slices.Sorted(slices.Values(plan.End[:len(late)]))
	if slices.Sort(late); !slices.Equal(ended, late) {
		n.t.Fatalf("plan %+v, want %v ended", plan, late)
	}
	plan.End = plan.End[len(late):]
}

// families looks at what must always hold: nobody waits for what is idle, and everybody is covered.
func (n *naive) families(homes []pool.Home) {
	for _, h := range homes {
		if h.Tenant != "" || !n.specs[h].Tenants {
			continue
		}
		if need := n.beyond(h); need > 0 && len(n.in(h, "idle")) > 0 || need > len(n.in(h, "starting")) {
			n.t.Fatalf("%v: %d claims need a generic one; %d are idle, %d start", h, need, len(n.in(h, "idle")), len(n.in(h, "starting")))
		}
		for _, t := range n.tenants(h) {
			if len(n.waiting(t)) > 0 && len(n.in(t, "idle")) > 0 {
				n.t.Fatalf("%v: claims wait, and some are idle", t)
			}
		}
	}
}
