package pool

import "time"

// SetCapacity changes how many places there are, as workers come and go. What is in it stays: with fewer places than that no
// room is left until enough has ended. What reserved homes lacked for want of room is made.
func (p *Pool[C]) SetCapacity(now time.Time, places int) Plan[C] {
	var plan Plan[C]
	p.now, p.capacity = now, max(0, places)
	p.refill(now, &plan)
	return plan
}

// Retire ends those of these environments that run nothing, for their worker goes: idle ones, and those that have answered
// and not asked for their next call yet. The others end after their call ([Pool.Finished], not reusable) or stay for a while,
// those that start and those that are promised; it is asked again until none is left.
func (p *Pool[C]) Retire(now time.Time, ids []string) Plan[C] {
	var plan Plan[C]
	for _, id := range ids {
		e := p.environments[id]
		if e == nil || e.state != idle && e.state != finishing {
			continue
		}
		g := e.group
		plan.End = append(plan.End, p.end(now, e))
		p.refill(now, &plan)
		p.cover(now, g, &plan)
		p.settle(g)
	}
	return plan
}
