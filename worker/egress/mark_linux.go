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
	a.orders(order{Mark: a.id})
	return true
}

// Bind has what the environment has and takes of connections, queries and names be of a sub-tenant's share from now on. It does not wait.
func (a *Attachment) Bind(tenant string) {
	s := a.service
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.closed || s.closed {
		return
	}
	a.tenant = tenant
	a.orders(order{Bind: &bind{ID: a.id, Tenant: tenant}})
}

// orders has the order sent to who has the device. Where nobody has it, it is sent when somebody has. The service's mutex is held.
func (a *Attachment) orders(o order) {
	if h := a.helper; h != nil {
		a.service.wg.Go(func() { a.order(h, o) })
	}
}

// order sends it. A helper that does not take it is ended: the next one is told again.
func (a *Attachment) order(h *process, o order) {
	if err := h.send(o, -1); err != nil {
		a.service.cfg.Log.Warn("the network of environments does not listen and is started anew", "error", err)
		h.kill()
	}
}

// has notes who has the device, and tells it what is not in the order that brought it: for whom it is, and what was not reported by who
// had it before.
func (a *Attachment) has(h *process) {
	s := a.service
	s.mu.Lock()
	a.helper = h
	marking, tenant := a.marking, a.tenant
	s.mu.Unlock()
	if tenant != "" {
		a.order(h, order{Bind: &bind{ID: a.id, Tenant: tenant}})
	}
	if marking {
		a.order(h, order{Mark: a.id})
	}
}
