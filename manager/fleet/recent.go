package fleet

import "container/list"

// maxHosted bounds the functions, and the logs, that are remembered of one worker. One more forgets the one that was not used for
// longest: what the worker then tells of that is refused.
const maxHosted = 10_000

// recent are names that were used of late, at most maxHosted. A nil one has none. Not safe for concurrent use.
type recent[K comparable] struct {
	places map[K]*list.Element
	order  list.List // of K; what was used last is first
}

// use takes a name in, or notes that it is used again.
func (r *recent[K]) use(name K) {
	if r.uses(name) {
		return
	}
	if r.order.Len() >= maxHosted {
		delete(r.places, r.order.Remove(r.order.Back()).(K))
	}
	r.places[name] = r.order.PushFront(name)
}

// uses reports whether a name is known, and notes that it is used.
func (r *recent[K]) uses(name K) bool {
	if r == nil {
		return false
	}
	place, ok := r.places[name]
	if ok {
		r.order.MoveToFront(place)
	}
	return ok
}

// remember notes that a worker uses a name.
func remember[K comparable](all map[string]*recent[K], worker string, name K) {
	r := all[worker]
	if r == nil {
		r = &recent[K]{places: make(map[K]*list.Element)}
		all[worker] = r
	}
	r.use(name)
}
