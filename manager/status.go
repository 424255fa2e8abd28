package manager

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/hearth-run/hearth/schema"
)

const (
	statusEvery = 500 * time.Millisecond // the whole is told
	statusSoon  = 20 * time.Millisecond  // changes wait for others
)

// tellSoon has the status told soon: something changed that others act on.
func (m *Manager) tellSoon() { signal(m.statusKick) }

// statusLoop tells this manager's status.
func (m *Manager) statusLoop(ctx context.Context) {
	tick := time.NewTicker(statusEvery)
	defer tick.Stop()
	wait := time.NewTimer(statusSoon)
	defer wait.Stop()
	subject := m.names.ManagerStatus(m.cfg.ID)
	var number uint64
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			m.shrink()
		case <-m.statusKick:
			wait.Reset(statusSoon)
			select {
			case <-ctx.Done():
				return
			case <-wait.C:
			}
		}
		if !m.nc.IsConnected() {
			continue
		}
		number++
		s := m.Status()
		s.Number = number
		m.control.stirred(m.peers.toldOwn(&s, m.now()))
		m.tell(subject, s)
	}
}

// Status is what this manager tells of itself, with Number 0. Safe for concurrent use.
func (m *Manager) Status() schema.ManagerStatus {
	v := m.view.Load()
	s := schema.ManagerStatus{
		V: schema.Version, ID: m.cfg.ID, Incarnation: m.incarnation, RingEpoch: v.record.Epoch, State: m.State(),
		Capacity: m.cfg.Capacity,
	}
	m.mu.Lock()
	if m.offering {
		s.Room, s.Soon = m.pool.Room(), m.pool.Soon()
	}
	for g := range m.pool.Groups {
		n := g.Counts
		n.Busy += n.Promised // as good as taken
		ready := n.Idle + n.Busy + n.Finishing
		s.Idle += n.Idle + n.Finishing
		s.Busy += n.Busy
		s.Starting += n.Starting
		if ready+n.Starting == 0 {
			continue
		}
		s.Arcs = append(s.Arcs, schema.ArcStatus{
			Arc: g.Spec.Arc, Account: g.Spec.Account, Function: g.Spec.Function, Version: g.Home.Version, Tenant: g.Home.Tenant,
			Ready: ready, Idle: n.Idle + n.Finishing, Busy: n.Busy, Starting: n.Starting,
		})
	}
	m.mu.Unlock()
	slices.SortFunc(s.Arcs, func(a, b schema.ArcStatus) int {
		return cmp.Or(cmp.Compare(a.Arc, b.Arc), cmp.Compare(a.Account, b.Account), cmp.Compare(a.Function, b.Function),
			cmp.Compare(a.Version, b.Version), cmp.Compare(a.Tenant, b.Tenant))
	})
	return s
}
