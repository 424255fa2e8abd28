package schema

import "time"

// LimitRecord is one key of bucket limits: the permits of one cap to make environments. "f.<account>.<function>" is that of a
// function, "a.<account>" of an account; "g.<account>.<function>" counts what a function got in a window of growth. DESIGN 5.
type LimitRecord struct {
	V     int                `msgpack:"v"`
	Held  map[string]Holding `msgpack:"held,omitempty"`  // by manager
	Began time.Time          `msgpack:"began,omitempty"` // of the window, on the NATS server's clock
	Made  int                `msgpack:"made,omitempty"`  // in it
}

// Holding is how many environments one life of a manager has a permit for.
type Holding struct {
	Incarnation string `msgpack:"inc"`
	N           int    `msgpack:"n"`
}

// Others is what all managers but one hold.
func (r *LimitRecord) Others(manager string) (n int) {
	for id, h := range r.Held {
		if id != manager {
			n += max(0, h.N)
		}
	}
	return n
}

// Set makes the holding of a manager this one, and reports whether it was another.
func (r *LimitRecord) Set(manager, incarnation string, n int) bool {
	h := Holding{incarnation, n}
	switch was, is := r.Held[manager]; {
	case n == 0 && !is, is && was == h:
		return false
	case n == 0:
		delete(r.Held, manager)
		return true
	case r.Held == nil:
		r.Held = make(map[string]Holding)
	}
	r.Held[manager] = h
	return true
}
