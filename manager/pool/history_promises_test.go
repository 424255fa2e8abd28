package pool_test

import (
	"github.com/hearth-run/hearth/manager/pool"
	"github.com/hearth-run/hearth/schema"
)

func (n *naive) promise(p *pool.Pool[int], h pool.Home, s pool.Spec, order int) {
	number, arc := p.Promise(n.now, h)
	there, barred := n.in(h, "idle"), false
	if h.Tenant != "" && h.Reservation != 0 && len(there) == 0 {
		barred = n.barred(h)
		s = n.specs[generic(h)]
		there = n.in(generic(h), "idle")
	}
	if len(there) == 0 || h.Tenant == "" && s.Tenants || barred {
		if number != 0 {
			n.t.Fatalf("promise %d, want none", number)
		}
		return
	}
	e := there[len(there)-1]
	if number == 0 || arc != s.Arc {
		n.t.Fatalf("promise %d on %q, want %s on %q", number, arc, e.id, s.Arc)
	}
	e.state, e.since, e.order, e.number = "promised", n.now, order, number
}

func (n *naive) redeem(p *pool.Pool[int], e *naiveEnvironment, h pool.Home, order int) {
	s := n.specs[h]
	d := p.Redeem(n.now, h, e.number)
	if e.state == "promised" && h.Tenant != "" && e.home == generic(h) && !n.barred(h) {
		if d.Action != pool.Run || d.Environment != e.id || d.Start != schema.StartSpecialised {
			n.t.Fatalf("redeem: %+v, want %s specialised", d, e.id)
		}
		end := n.exchange(h, d.End)
		n.bind(e, h, order)
		n.replaced(d.Make, end, h, order)
		return
	}
	if e.state != "promised" || e.home != h || h.Tenant == "" && s.Tenants {
		if d.Action != pool.Unknown {
			n.t.Fatalf("%s is %s: %+v", e.id, e.state, d)
		}
		return
	}
	if d.Action != pool.Run || d.Environment != e.id {
		n.t.Fatalf("redeem: %+v, want %s", d, e.id)
	}
	e.state, e.order = "busy", order
	e.calls++
}

// lapse takes back one promise at most: two that become idle in one step would have no order.
func (n *naive) lapse(p *pool.Pool[int], order int) {
	var oldest *naiveEnvironment
	for _, e := range n.envs {
		if e.state == "promised" && n.now.Sub(e.since) > pool.PromiseFor && (oldest == nil || e.number < oldest.number) {
			oldest = e
		}
	}
	id, ok := p.Lapsed(n.now)
	if ok != (oldest != nil) || ok && id != oldest.id {
		n.t.Fatalf("lapsed: %q, want %+v", id, oldest)
	}
	if ok {
		n.parked(p.Release(n.now, id), oldest, order, true)
	}
}
