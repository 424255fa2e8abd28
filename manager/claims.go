package manager

// claims is a list of claims in the order in which they came to it. Manager.mu guards it.
type claims struct {
	first, last *claim
	n           int
	bytes       int // of payloads that were fetched, or are being fetched
}

func (l *claims) add(c *claim) {
	if c.in != nil {
		c.in.remove(c)
	}
	c.in, c.prev, c.next = l, l.last, nil
	if l.last != nil {
		l.last.next = c
	} else {
		l.first = c
	}
	l.last = c
	l.n++
	l.bytes += c.call.Held
}

func (l *claims) remove(c *claim) {
	if c.in != l {
		return
	}
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		l.first = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	} else {
		l.last = c.prev
	}
	c.in, c.prev, c.next = nil, nil, nil
	l.n--
	l.bytes -= c.call.Held
}
