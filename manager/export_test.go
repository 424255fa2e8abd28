package manager

import "github.com/nats-io/nats.go"

// Deliver hands a manager a delivery as if one of its pulls on that arc had brought it.
func (m *Manager) Deliver(arc string, msg *nats.Msg) {
	m.mu.Lock()
	a := m.offers.arc(m, arc)
	m.mu.Unlock()
	m.deliver(&generation{arc: a, retire: true}, msg)
}

// Stand still: the pulse sees that the process did not run for so long.
func (m *Manager) StandStill() { m.pulse.doubt(m.now()) }

// Holding reports whether this manager is the controller.
func (m *Manager) Holding() bool {
	m.control.mu.Lock()
	defer m.control.mu.Unlock()
	return m.control.listed
}
