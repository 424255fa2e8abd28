package manager

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/schema"
)

const (
	handOverWait = 30 * time.Second                  // the longest that a drained manager serves on for what is not ready elsewhere
	ringWait     = topology.LeaseTTL + 2*time.Second // for a controller, maybe another one, to write the ring without it
)

// A manager leaves the ring in order: it offers nothing more, gives claims that have not started back, and lets running
// calls finish; its lease says so, and the ring names it among those that leave. A drained one stays like that until it is
// let back; one that stops ends after it (stop.go). Where it has members of reservations and others are on the ring, it serves on
// until theirs are ready (DESIGN 9, ring; S41):
//
//	active ── Drain ──► handing ── shares are ready elsewhere ──► draining ── the last call ends ──► drained
//	   ▲                   │                                         │                                  │
//	   └───── Undrain ─────┴─────────────────────────────────────────┴──────────────────────────────────┘

// Drain takes the manager off the ring and keeps it alive. It returns when no call runs here, no environment is left and
// the ring is without it; when ctx ends first the manager goes on draining. Its error says that Undrain or Stop came between.
func (m *Manager) Drain(ctx context.Context) error {
	if err := m.beginDrain(); err != nil {
		return err
	}
	if err := m.awaitEmpty(ctx, func() bool { return !m.drained || m.stopping }); err != nil {
		return fmt.Errorf("drain manager %s: %w", m.cfg.ID, err)
	}
	m.awaitWithdrawn(ctx)
	err := m.await(ctx, func() bool {
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
func (m *Manager) beginDrain() error {
	m.mu.Lock()
	switch {
	case !m.ready:
		m.mu.Unlock()
		return schema.Errorf(schema.CodeUnavailable, "manager %q has not started yet", m.cfg.ID)
	case m.drained || m.stopping:
		m.drained = true
		m.mu.Unlock()
		return nil
	}
	m.drained = true
	m.draining.Store(true)
	handing := m.mustHand()
	m.handing = handing
	m.mu.Unlock()
	m.log.Info("manager drains", "manager", m.cfg.ID, "hands members over", handing)
	if handing {
		signal(m.renewNow)
		m.tellSoon()
		m.spawn(func() {
			m.awaitHanded(m.life, handOverWait, func() bool { return !m.drained || m.stopping })
			m.leave(func() bool { return m.drained && !m.stopping })
		})
		return nil
	}
	m.leave(func() bool { return m.drained && !m.stopping })
	return nil
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
	m.drained, m.handing = false, false
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

// mustHand reports whether members of reservations are here that others on the ring could hold. Manager.mu is held.
func (m *Manager) mustHand() bool {
	v := m.view.Load()
	if !m.ready || v.ring == nil || v.ring.Len() < 2 && v.member {
		return false
	}
	for _, h := range m.shares.byEpoch {
		if g, ok := m.pool.Group(h.home); ok && h.kept && g.Counts.Ready() > 0 {
			return true
		}
	}
	return false
}

// awaitHanded waits until the ring is without this manager and the others hold their shares of what has members here, or nobody is
// left who could: so that no reservation has fewer members than its limit on the way (S41). Meanwhile the members here serve.
// It gives up when ctx ends, after most, or when it is over, which is looked at under Manager.mu.
func (m *Manager) awaitHanded(ctx context.Context, most time.Duration, over func() bool) {
	ctx, cancel := context.WithTimeoutCause(ctx, most, errors.New("handing members over"))
	defer cancel()
	began := time.Now()
	err := m.await(ctx, func() bool {
		v := m.view.Load()
		var here []*stake
		m.mu.Lock()
		defer m.mu.Unlock()
		if over() || m.nc.IsClosed() || v.ring == nil {
			return true
		}
		if v.member || m.shares.ring != v.record.Epoch {
			return time.Since(began) > ringWait // nobody writes the ring
		}
		for _, h := range m.shares.byEpoch {
			if g, ok := m.pool.Group(h.home); ok && h.kept && !h.stuck && len(h.places) > 0 && g.Counts.Ready() > 0 {
				here = append(here, h)
			}
		}
		for _, h := range here {
			if !m.heldElsewhere(h) {
				return false
			}
		}
		return true
	})
	if err != nil && m.life.Err() == nil {
		m.log.Warn("members of reservations are not ready elsewhere", "manager", m.cfg.ID, "error", err)
	}
}

// leave makes the manager offer nothing, if it still may leave, which is looked at under Manager.mu.
func (m *Manager) leave(may func() bool) {
	m.mu.Lock()
	if !may() {
		m.mu.Unlock()
		return
	}
	m.handing, m.offering = false, false
	m.draining.Store(true)
	plan := m.pool.Drain(time.Now())
	for m.waiting.first != nil {
		m.waiting.remove(m.waiting.first)
	}
	withdrawn := m.offers.retireAll()
	m.withdrawn = append(m.withdrawn, withdrawn...)
	m.mu.Unlock()
	signal(m.renewNow)
	m.tellSoon()
	m.carryOut(plan, nil)
	for _, i := range withdrawn {
		m.withdraw(i)
	}
	m.settled()
}

// awaitEmpty waits until no call runs and no environment is left, or until it is over, which is looked at under Manager.mu.
func (m *Manager) awaitEmpty(ctx context.Context, over func() bool) error {
	return m.await(ctx, func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return !m.handing && m.running.n == 0 && m.pool.Live() == 0 || over()
	})
}

// awaitWithdrawn waits until every withdrawn inbox is closed, or ctx ends.
func (m *Manager) awaitWithdrawn(ctx context.Context) {
	m.mu.Lock()
	withdrawn := m.withdrawn
	m.withdrawn = nil
	m.mu.Unlock()
	tick := time.NewTicker(drainTick)
	defer tick.Stop()
	for _, i := range withdrawn {
		for i.sub != nil && i.sub.IsValid() && m.nc.IsConnected() && ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	}
	for len(m.crowd.came) > 0 && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// obey hears what a frontend asks of this manager, and answers where it stands.
func (m *Manager) obey(order *schema.Control) (schema.DrainOutput, error) {
	var err error
	switch order.Op {
	case schema.ControlState:
	case schema.ControlDrain:
		err = m.beginDrain()
	case schema.ControlUndrain:
		err = m.beginUndrain()
	default:
		err = schema.Invalid(schema.FieldError{Field: "op", Got: string(order.Op), Allowed: "state, drain, undrain"})
	}
	return m.DrainState(), err
}
