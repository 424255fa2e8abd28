package sim

import (
	"cmp"
	"slices"
	"time"
)

// knowing is the all-knowing scheduler with which a fabric is compared. It has the places of all managers as one, sees the calls that
// come next ([ahead] of them, which is all where there are fewer) and how long each runs, and its messages take no time. It takes calls
// in their order, each with the first of these that holds:
//
//	an idle environment of its kind, used within the keep-alive ──► it runs there, the one used last first
//	one of its kind is ready before a new one could be          ──► it waits for that
//	else a new one is made for it, when there are places: of idle environments those make way whose next use is furthest in the
//	future, of equal ones those made first; where too few are idle, those that are the first to be
//
// A call that would start later than its start-by is refused and takes nothing. Environments of a kind are those of a function, or of a
// sub-tenant of one. It reserves nothing and makes nothing ahead of calls. An environment ends with the last call that it runs.
//
// What it bounds: this schedule could have been run, so the best one for the same calls, places and keep-alive has no more cold starts and
// no more environment time than its better half. It is no bound for a fabric from below: members of a reservation are made ahead of
// calls, whose starts then are warm, and who refuses calls makes nothing for them. To throw out what is used last is the best rule for
// pages of one size with no one waiting, and a good one here.
type knowing struct {
	s       *sim
	used    int // places
	number  int
	all     []*slot
	kinds   map[kind][]*slot
	made    int
	waits   histogram
	refused int
	spent   float64 // seconds of environments that have ended
	far     bool    // calls were beyond its sight
}

// slot is one of its environments.
type slot struct {
	kind   kind
	number int
	places int
	made   time.Duration
	free   time.Duration // when its last call ends, of those that it was given
}

func newKnowing(s *sim) *knowing { return &knowing{s: s, kinds: make(map[kind][]*slot)} }

// take schedules a call that comes now. The calls of the window are those that follow.
func (k *knowing) take(c *Call, f *function) {
	k.far = k.far || !k.s.input.ended
	of, at := kind{c.Function, c.Tenant}, c.At
	k.expire(of, at)
	var warm, soon *slot
	for _, e := range k.kinds[of] {
		switch {
		case e.free <= at && (warm == nil || e.free > warm.free):
			warm = e
		case e.free > at && (soon == nil || e.free < soon.free):
			soon = e
		}
	}
	if warm != nil {
		k.waits.add(0)
		warm.free = at + c.Run
		return
	}
	room, victims := k.room(at, f.places)
	start := room
	if room != never {
		start += f.init
	}
	wait := soon != nil && soon.free <= start
	if wait {
		start = soon.free
	}
	switch {
	case start == never || start > at+k.s.cfg.Fabric.StartBy:
		k.refused++
	case wait:
		k.waits.add(start - at)
		soon.free = start + c.Run
	default:
		for _, e := range victims {
			k.end(e)
		}
		k.waits.add(start - at)
		k.number++
		e := &slot{of, k.number, f.places, room, start + c.Run}
		k.all = append(k.all, e)
		k.kinds[of] = append(k.kinds[of], e)
		k.used += f.places
		k.made++
	}
}

// room is when there are so many places, and what has to make way then.
func (k *knowing) room(at time.Duration, places int) (when time.Duration, victims []*slot) {
	capacity := k.s.cfg.Managers * k.s.cfg.Capacity
	if places > k.s.cfg.Capacity { // no manager holds one
		return never, nil
	}
	lacking := k.used + places - capacity
	if lacking <= 0 {
		return at, nil
	}
	idle := 0
	for _, e := range k.all {
		if e.free <= at {
			idle += e.places
		}
	}
	order := slices.Clone(k.all)
	if idle >= lacking {
		order = slices.DeleteFunc(order, func(e *slot) bool { return e.free > at })
		use := k.uses(order, at)
		slices.SortFunc(order, func(a, b *slot) int {
			return cmp.Or(cmp.Compare(use[b], use[a]), cmp.Compare(a.number, b.number))
		})
	} else {
		slices.SortFunc(order, func(a, b *slot) int { return cmp.Or(cmp.Compare(a.free, b.free), cmp.Compare(a.number, b.number)) })
	}
	when = at
	for _, e := range order {
		if lacking <= 0 {
			break
		}
		lacking -= e.places
		when = max(when, e.free)
		victims = append(victims, e)
	}
	return when, victims
}

// uses is when each of the idle environments is used next: of a kind the one that was used last first. What would outlast the keep-alive
// by then is never used.
func (k *knowing) uses(idle []*slot, at time.Duration) map[*slot]time.Duration {
	use := make(map[*slot]time.Duration, len(idle))
	last := slices.Clone(idle)
	slices.SortFunc(last, func(a, b *slot) int { return cmp.Or(cmp.Compare(b.free, a.free), cmp.Compare(a.number, b.number)) })
	nth := make(map[kind]int)
	for _, e := range last {
		nth[e.kind]++
		next := k.s.input.use(e.kind, nth[e.kind])
		if next-e.free > k.s.cfg.Fabric.KeepAlive {
			next = never
		}
		use[e] = next
	}
	return use
}

// expire ends what has not been used for the keep-alive, of a kind.
func (k *knowing) expire(of kind, at time.Duration) {
	for _, e := range slices.Clone(k.kinds[of]) {
		if at-e.free > k.s.cfg.Fabric.KeepAlive {
			k.end(e)
		}
	}
}

// end ends an environment: with its last call, since nothing uses it after that.
func (k *knowing) end(e *slot) {
	k.used -= e.places
	k.spent += (e.free - e.made).Seconds()
	k.all = slices.DeleteFunc(k.all, func(x *slot) bool { return x == e })
	if left := slices.DeleteFunc(k.kinds[e.kind], func(x *slot) bool { return x == e }); len(left) > 0 {
		k.kinds[e.kind] = left
	} else {
		delete(k.kinds, e.kind)
	}
}

// seconds is the time for which its environments were there.
func (k *knowing) seconds() float64 {
	spent := k.spent
	for _, e := range k.all {
		spent += (e.free - e.made).Seconds()
	}
	return spent
}
