package sim

import (
	"time"

	"github.com/hearth-run/hearth/manager/pace"
	"github.com/hearth-run/hearth/manager/pool"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// account owns all functions of a simulation.
const account = "default"

const version = "1"

// function is one function, in its one version.
type function struct {
	name    string
	places  int
	tenants bool
	init    time.Duration // of environments that are made from now on
	res     *reservation  // nil: it never had one

	window time.Duration // when the window of growth began
	made   int           // in it
}

func (s *sim) function(c *Call) *function {
	f := s.functions[c.Function]
	if f == nil {
		f = &function{name: c.Function, places: schema.Places(c.MemoryMB), tenants: c.Tenant != "", init: s.cfg.Init, window: -pace.GrowthEvery}
		s.functions[c.Function] = f
	}
	if c.Init > 0 {
		f.init = c.Init
	}
	return f
}

// grows takes one environment of what the function may get in the window that is now; false: it has got all.
func (f *function) grows(now time.Duration, most int) bool {
	if now-f.window >= pace.GrowthEvery {
		f.window, f.made = now, 0
	}
	if f.made >= most {
		return false
	}
	f.made++
	return true
}

func (f *function) key(tenant string) schema.Key {
	return schema.Key{FunctionID: f.name, Version: version, Tenant: tenant}
}

// home is whose environments a call may use on an arc.
func (f *function) home(a *arc, tenant string) pool.Home {
	h := pool.Home{Key: f.key(tenant)}
	if a.res != nil {
		h.Reservation = a.res.epoch
	}
	return h
}

// unreserved is the unreserved arc of a function's calls.
func (s *sim) unreserved(f *function, tenant string) *arc {
	return s.arcs[subjects.UnreservedArc(account, f.name, tenant, len(s.arcs))]
}

// spec is what the environments of a function on an arc have in common.
func (f *function) spec(a *arc) pool.Spec {
	return pool.Spec{Account: account, Function: f.name, Arc: a.name, Places: f.places, Tenants: f.tenants}
}

// reservation is that of one function, and its reserved arc.
type reservation struct {
	of     *function
	epoch  uint64
	limit  int
	arc    *arc
	open   bool     // all members were ready once, so calls go there
	order  []int    // managers of the ring, from the arc's place on
	skip   []string // those that cannot hold their share
	places []subjects.Place
}

// reserve sets the limit of a function.
func (s *sim) reserve(f *function, limit int) {
	r := f.res
	if r == nil {
		r = &reservation{of: f, epoch: uint64(len(s.reserved) + 1)}
		name := subjects.ArcCall{Reserved: true, Account: account, Function: f.name, Version: version, Epoch: r.epoch}
		r.arc = &arc{s: s, name: name.ArcName(), res: r}
		r.order = s.ring.ReservedOrder(nil, account, f.name, version)
		f.res = r
		s.reserved = append(s.reserved, r)
		s.byName[r.arc.name] = r.arc
	}
	r.limit, r.skip = limit, nil
	s.share(r)
}

// share gives every manager its share of a reservation.
func (s *sim) share(r *reservation) {
	r.places = s.ring.Places(nil, account, r.of.name, version, r.limit, s.cfg.Fabric.T, r.skip)
	for _, m := range s.managers {
		m.share(r)
	}
}

// ready reports whether all members of a reservation are.
func (s *sim) ready(r *reservation) bool { return s.size(r) >= r.limit }

// size is how many members are ready, not counting what is bound to sub-tenants.
func (s *sim) size(r *reservation) int {
	n := 0
	for _, m := range s.managers {
		if g, ok := m.pool.Group(pool.Home{Key: r.of.key(""), Reservation: r.epoch}); ok {
			n += g.Counts.Ready()
		}
	}
	return n
}
