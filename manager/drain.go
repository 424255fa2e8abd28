package manager

import (
	"context"
	"fmt"
	"time"

	"github.com/hearth-run/hearth/schema"
)

// A manager leaves the ring in order: it offers nothing more, gives claims that have not started back, and lets running
// calls finish; its lease says so, and the ring names it among those that leave. A drained one stays like that until it is
// let back; one that stops ends after it (stop.go).
//
//	active ── Drain ──► draining ── the last call ends ──► drained
//	   ▲                   │                                  │
//	   └───── Undrain ─────┴──────────────────────────────────┘

// Drain takes the manager off the ring and keeps it alive. It returns when no call runs here, no environment is left and
// the ring is without it; when ctx ends first the manager goes on draining. Its error says that Undrain or Stop came between.
func (m *Manager) Drain(ctx context.Context) error {
	withdrawn, err := m.beginDrain()
	if err != nil {
		return err
	}
	if err := m.awaitEmpty(ctx, func() bool { return !m.drained || m.stopping }); err != nil {
		return fmt.Errorf("drain manager %s: %w", m.cfg.ID, err)
	}
	m.awaitWithdrawn(ctx, withdrawn)
	err = m.await(ctx, func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return !m.drained || m.stopping || !m.view.Load().member
	})
	if err != nil {
		return fmt.Errorf("drain manager %s: wait for the ring: %w", m.cfg.ID, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.drained || m.stopping {
		return schema.Errorf(schema.CodeConflict, "manager %q was let back or stopped while it drained", m.cfg.ID)
	}
	return nil
}

// beginDrain begins what Drain waits for. A second one changes nothing.
func (m *Manager) beginDrain() ([]*generation, error) {
	m.mu.Lock()
	begun := m.ready
	m.mu.Unlock()
	if !begun {
		return nil, schema.Errorf(schema.CodeUnavailable, "manager %q has not started yet", m.cfg.ID)
	}
	m.log.Info("manager drains", "manager", m.cfg.ID)
	return m.leave(&m.drained), nil
}

// Undrain lets a drained manager, or one that still drains, back onto the ring. It returns when the ring holds it.
func (m *Manager) Undrain(ctx context.Context) error {
	if err := m.beginUndrain(); err != nil {
		return err
	}
	var again bool
	err := m.await(ctx, func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		again = m.drained || m.stopping
		return again || m.view.Load().member
	})
	switch {
	case err != nil:
		return fmt.Errorf("let manager %s back: wait for a place on the ring: %w", m.cfg.ID, err)
	case again:
		return schema.Errorf(schema.CodeConflict, "manager %q was drained again or stopped while it came back", m.cfg.ID)
	}
	return nil
}

// beginUndrain begins what Undrain waits for. For a manager that is not drained it changes nothing.
func (m *Manager) beginUndrain() error {
	m.mu.Lock()
	switch {
	case m.stopping:
		m.mu.Unlock()
		return schema.Errorf(schema.CodeUnavailable, "manager %q is stopping", m.cfg.ID)
	case !m.drained:
		m.mu.Unlock()
		return nil
	}
	m.drained = false
	m.draining.Store(false)
	m.pool.Resume()
	m.offering = m.mayOffer()
	m.mu.Unlock()
	m.log.Info("manager comes back", "manager", m.cfg.ID)
	signal(m.renewNow)
	m.changed()
	return nil
}

// DrainState is where the manager stands on its way off the ring or back. Safe for concurrent use.
func (m *Manager) DrainState() schema.DrainOutput {
	out := schema.DrainOutput{Manager: m.cfg.ID, State: m.State(), OnRing: m.view.Load().member}
	m.mu.Lock()
	defer m.mu.Unlock()
	out.Busy, out.Waiting = m.running.n, m.waiting.n
	return out
}

// leave makes the manager offer nothing, with why set, which is m.drained or m.stopping. It gives the generations that were
// withdrawn: calls may still come by them until they are closed.
func (m *Manager) leave(why *bool) []*generation {
	m.mu.Lock()
	*why = true
	m.offering = false
	m.draining.Store(true)
	plan := m.pool.Drain(time.Now())
	for m.waiting.first != nil {
		m.waiting.remove(m.waiting.first)
	}
	withdrawn := m.offers.retireAll()
	m.mu.Unlock()
	signal(m.renewNow)
	m.tellSoon()
	m.carryOut(plan, nil)
	for _, g := range withdrawn {
		m.withdraw(g)
	}
	m.settled()
	return withdrawn
}

// awaitEmpty waits until no call runs and no environment is left, or until it is over, which is looked at under Manager.mu.
func (m *Manager) awaitEmpty(ctx context.Context, over func() bool) error {
	return m.await(ctx, func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.running.n == 0 && m.pool.Live() == 0 || over()
	})
}

// awaitWithdrawn waits until every withdrawn inbox is closed, or ctx ends.
func (m *Manager) awaitWithdrawn(ctx context.Context, withdrawn []*generation) {
	tick := time.NewTicker(drainTick)
	defer tick.Stop()
	for _, g := range withdrawn {
		for g.sub != nil && g.sub.IsValid() && m.nc.IsConnected() && ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	}
}

// obey hears what a frontend asks of this manager, and answers where it stands.
func (m *Manager) obey(order *schema.Control) (schema.DrainOutput, error) {
	var err error
	switch order.Op {
	case schema.ControlState:
	case schema.ControlDrain:
		_, err = m.beginDrain()
	case schema.ControlUndrain:
		err = m.beginUndrain()
	default:
		err = schema.Invalid(schema.FieldError{Field: "op", Got: string(order.Op), Allowed: "state, drain, undrain"})
	}
	return m.DrainState(), err
}
