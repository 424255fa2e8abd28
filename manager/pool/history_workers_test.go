package pool_test

import (
	"math/rand/v2"

	"github.com/hearth-run/hearth/manager/pool"
)

// resize gives the pool more or fewer places, as workers come and go.
func (n *naive) resize(p *pool.Pool[int], to, order int) {
	plan := p.SetCapacity(n.now, to)
	n.capacity = to
	n.over = max(0, -n.free())
	n.refill(&plan, order)
	if len(plan.Make)+len(plan.End)+len(plan.Run)+len(plan.Refuse)+len(plan.Fail) > 0 {
		n.t.Fatalf("resize, too much: %+v", plan)
	}
}

// retire takes some environments away, whatever state they are in.
func (n *naive) retire(p *pool.Pool[int], r *rand.Rand, order int) {
	var ids []string
	var some []*naiveEnvironment
	for _, i := range r.Perm(len(n.envs))[:min(3, len(n.envs))] {
		ids, some = append(ids, n.envs[i].id), append(some, n.envs[i])
	}
	plan := p.Retire(n.now, ids)
	for _, e := range some {
		if e.state != "idle" && e.state != "finishing" {
			continue
		}
		if len(plan.End) == 0 || plan.End[0] != e.id {
			n.t.Fatalf("retire: %+v, want %s ended", plan, e.id)
		}
		plan.End = plan.End[1:]
		e.state = "closing"
		n.refill(&plan, order)
		n.covered(e.home, n.specs[e.home], &plan, order)
	}
	if len(plan.Make)+len(plan.End)+len(plan.Run)+len(plan.Refuse)+len(plan.Fail) > 0 {
		n.t.Fatalf("retire, too much: %+v", plan)
	}
}
