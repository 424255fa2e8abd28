package pool

import "time"

// Evict takes the least recently used idle unreserved environment of a function, or with "" of any, out of the pool's use, for its
// owner to end. ok is false where there is none. It serves caps on the number of environments: for room the pool evicts by itself.
func (p *Pool[C]) Evict(now time.Time, functionID string) (id string, ok bool) {
	for e := p.idle.first; e != nil; e = e.next {
		if functionID == "" || e.group.home.FunctionID == functionID {
			return p.end(now, e), true
		}
	}
	return "", false
}
