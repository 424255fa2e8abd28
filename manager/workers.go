package manager

import "time"

// A manager whose workers are processes of their own has as many places as those that are there, and gives up what is
// on one that goes. Package fleet knows the workers; this is what it tells.

// Capacity is how many places of 128 MB there are now.
func (m *Manager) Capacity() int { return int(m.capacity.Load()) }

// SetCapacity changes that. What is there stays, also where it is more. Safe for concurrent use.
func (m *Manager) SetCapacity(places int) {
	m.mu.Lock()
	was := m.pool.Capacity()
	plan := m.pool.SetCapacity(time.Now(), places)
	m.capacity.Store(int64(m.pool.Capacity()))
	m.mu.Unlock()
	if was == places {
		return
	}
	m.log.Info("capacity", "manager", m.cfg.ID, "places", places, "before", was)
	m.carryOut(plan, nil)
	m.changed()
	signal(m.renewNow)
}

// Retire ends those of these environments that run nothing, in favour of others elsewhere: their worker drains, and says of the
// others after their calls that they are not reusable. It is called again until they have gone.
func (m *Manager) Retire(environments []string) {
	m.mu.Lock()
	plan := m.pool.Retire(time.Now(), environments)
	m.mu.Unlock()
	if len(plan.End)+len(plan.Make)+len(plan.Run)+len(plan.Refuse) > 0 {
		m.carryOut(plan, nil)
		m.changed()
	}
}
