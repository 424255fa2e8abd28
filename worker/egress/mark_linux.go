package egress

// Mark has all until now reported soon, with [driver.Traffic.Marked]. It reports false, and nothing comes, where there was no packet yet.
func (a *Attachment) Mark() bool {
	s := a.service
	s.mu.Lock()
	defer s.mu.Unlock()
	if !a.running || a.closed || s.closed {
		return false
	}
	a.marking = true
	if h := a.helper; h != nil { // else it is asked when it has the device
		s.wg.Go(func() { _ = h.send(order{Mark: a.id}, -1) })
	}
	return true
}

// has notes who has the device, and asks again for what was not reported by who had it before.
func (a *Attachment) has(h *process) {
	s := a.service
	s.mu.Lock()
	a.helper = h
	marking := a.marking
	s.mu.Unlock()
	if marking {
		_ = h.send(order{Mark: a.id}, -1)
	}
}
