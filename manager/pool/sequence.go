package pool

// The lists of idle environments: a stack a group, so that the one used last is used first, and sequences of the pool.

func (g *group[C]) stack(e *environment[C]) {
	if g.top != nil {
		g.top.above = e
	}
	if g.bottom == nil {
		g.bottom = e
	}
	e.below, g.top = g.top, e
}

func (g *group[C]) unstack(e *environment[C]) {
	if e.above != nil {
		e.above.below = e.below
	} else {
		g.top = e.below
	}
	if e.below != nil {
		e.below.above = e.above
	} else {
		g.bottom = e.above
	}
	e.below, e.above = nil, nil
}

// sequence is a list of environments by the time they came to it.
type sequence[C comparable] struct{ first, last *environment[C] }

func (s *sequence[C]) append(e *environment[C]) {
	e.prev, e.next = s.last, nil
	if s.last != nil {
		s.last.next = e
	} else {
		s.first = e
	}
	s.last = e
}

func (s *sequence[C]) remove(e *environment[C]) {
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		s.first = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		s.last = e.prev
	}
	e.prev, e.next = nil, nil
}
