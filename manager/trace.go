package manager

func (m *Manager) trace(c *claim) {}
