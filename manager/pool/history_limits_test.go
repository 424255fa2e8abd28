package pool_test

import (
	"cmp"
	"slices"

	"github.com/hearth-run/hearth/manager/pool"
)

// naiveLimit is a function's limit by sub-tenant, and what its sub-tenants may have beyond it because they had it when it was set.
type naiveLimit struct {
	most  int
	above map[string]int
}

// ofTenant are the homes of a sub-tenant of a function.
func (n *naive) ofTenant(h pool.Home) (homes []pool.Home) {
	for other := range n.specs {
		if other.Tenant == h.Tenant && n.specs[other].Function == n.specs[h].Function {
			homes = append(homes, other)
		}
	}
	return homes
}

func (n *naive) readyOf(h pool.Home) (ready int) {
	for _, of := range n.ofTenant(h) {
		ready += n.ready(of)
	}
	return ready
}

// takes is what a sub-tenant has, and will when its claims have theirs.
func (n *naive) takes(h pool.Home) int {
	takes := n.readyOf(h)
	for _, of := range n.ofTenant(h) {
		takes += max(0, len(n.waiting(of))-n.fresh(of))
	}
	return takes
}

func (n *naive) most(h pool.Home) int {
	if l := n.limits[n.specs[h].Function]; l != nil && h.Tenant != "" {
		return l.most
	}
	return 0
}

func (n *naive) full(h pool.Home) bool { return n.most(h) > 0 && n.takes(h) >= n.most(h) }

func (n *naive) overLimit(h pool.Home) bool { return n.most(h) > 0 && n.readyOf(h) > n.most(h) }

// victim is the idle environment of a sub-tenant that it used least recently.
func (n *naive) victim(h pool.Home) (first *naiveEnvironment) {
	for _, of := range n.ofTenant(h) {
		for _, e := range n.in(of, "idle") {
			if first == nil || e.order < first.order {
				first = e
			}
		}
	}
	return first
}

func (n *naive) barred(h pool.Home) bool {
	return n.full(h) && n.victim(h) == nil && n.spared(h) == nil
}

// late are the finishing ones of a home that cover nothing, oldest first.
func (n *naive) late(h pool.Home) (late []*naiveEnvironment) {
	for _, e := range n.in(h, "finishing") {
		if e.stale {
			late = append(late, e)
		}
	}
	return late
}

// holds reports whether a claim waits for one of these, since there can be no other.
func (n *naive) holds(h pool.Home) bool {
	return n.full(h) && n.victim(h) == nil && len(n.late(h)) > 0 && len(n.waiting(h)) >= n.fresh(h)
}

func (n *naive) hold(e *naiveEnvironment) {
	n.held++
	e.stale, e.held, e.turn = false, true, n.held
}

// relieve is what becomes, with time, of the claims that wait for what is held, and of what is held when none does.
func (n *naive) relieve(plan *pool.Plan[int], order int) {
	var held []*naiveEnvironment
	for _, e := range n.envs {
		if e.state == "finishing" && e.held {
			held = append(held, e)
		}
	}
	slices.SortFunc(held, func(a, b *naiveEnvironment) int { return cmp.Compare(a.turn, b.turn) })
	for _, e := range held {
		h := e.home
		switch {
		case !e.held:
		case len(n.waiting(h)) < n.fresh(h):
			e.stale, e.held = true, false
		case n.another(h):
			n.covered(h, n.specs[h], plan, order)
		}
	}
}

// another reports whether a sub-tenant may have another than what is held, and there is one or would be.
func (n *naive) another(h pool.Home) bool {
	root := generic(h)
	if n.full(h) && n.victim(h) == nil {
		return false
	}
	if len(n.in(root, "idle")) > 0 || n.beyond(root) < len(n.in(root, "starting")) {
		return true
	}
	if h.Reservation != 0 {
		return !n.full(h)
	}
	return n.room() >= n.specs[h].Places
}

// spared is the finishing one of a sub-tenant that answered first of those that no claim waits for, of each home one that covers nothing
// if there is one.
func (n *naive) spared(h pool.Home) (first *naiveEnvironment) {
	for _, of := range n.ofTenant(h) {
		all := n.in(of, "finishing")
		if late := n.late(of); len(late) > 0 {
			all = late
		} else if len(all) <= len(n.waiting(of)) {
			continue
		}
		if first == nil || all[0].order < first.order {
			first = all[0]
		}
	}
	return first
}

func (e *naiveEnvironment) finishes() { e.state, e.shed = "dying", true }

// exchange ends a sub-tenant's own idle environment in place of which it gets another, and gives the rest of what ends.
func (n *naive) exchange(h pool.Home, end []string) []string {
	if !n.full(h) {
		return end
	}
	e := n.victim(h)
	if e == nil {
		n.spared(h).finishes()
		return end
	}
	if len(end) == 0 || end[0] != e.id {
		n.t.Fatalf("%v end, want %s of %v first: it has as many as it may", end, e.id, h)
	}
	e.state = "closing"
	return end[1:]
}

// trim is what a sub-tenant's claims lose that do not fit into its limit any more.
func (n *naive) trim(h pool.Home, plan *pool.Plan[int]) {
	for n.most(h) > 0 && n.takes(h) > n.most(h) && len(n.waiting(h)) > n.fresh(h) {
		if e := n.victim(h); e != nil {
			if len(plan.End) == 0 || plan.End[0] != e.id {
				n.t.Fatalf("plan %+v, want %s ended", plan, e.id)
			}
			e.state, plan.End = "closing", plan.End[1:]
			continue
		}
		if late := n.late(h); len(late) > 0 {
			n.hold(late[0])
			continue
		}
		if e := n.spared(h); e != nil {
			e.finishes()
			continue
		}
		w := n.waiting(h)
		if last := w[len(w)-1]; len(plan.Refuse) == 0 || plan.Refuse[0] != last {
			n.t.Fatalf("plan %+v, want claim %d refused", plan, last)
		}
		n.drop(plan.Refuse[0])
		plan.Refuse = plan.Refuse[1:]
	}
}

func (n *naive) setLimit(p *pool.Pool[int], function string, most int) {
	got := slices.Sorted(slices.Values(p.SetTenantLimit(n.now, pool.Scope{Account: "default", Function: function}, most)))
	l := &naiveLimit{most, make(map[string]int)}
	n.limits[function] = l
	var want []string
	for h, s := range n.specs {
		if s.Function != function || h.Tenant == "" {
			continue
		}
		for n.overLimit(h) && n.victim(h) != nil {
			e := n.victim(h)
			e.state = "closing"
			want = append(want, e.id)
		}
		l.above[h.Tenant] = n.takes(h)
	}
	if slices.Sort(want); !slices.Equal(got, want) {
		n.t.Fatalf("limit %d of %s: %v end, want %v", most, function, got, want)
	}
}

// bounded looks that nobody has more than it may, but for what it had already when that was set.
func (n *naive) bounded() {
	for h, s := range n.specs {
		most, takes := n.most(h), 0
		if most == 0 {
			continue
		}
		above := n.limits[s.Function].above
		if takes = n.takes(h); takes > max(most, above[h.Tenant]) {
			n.t.Fatalf("sub-tenant %s of %s has %d, may have %d", h.Tenant, s.Function, takes, most)
		}
		above[h.Tenant] = min(above[h.Tenant], takes)
	}
}
