package manager

import "context"

// connection is one connection to the server, from when it stands until the next one does: what was asked of it then is never answered.
type connection struct {
	ctx context.Context // ends with it
	end context.CancelFunc
}

// connected notes that a connection stands. It is called from one goroutine at a time.
func (m *Manager) connected() {
	next := new(connection)
	next.ctx, next.end = context.WithCancel(m.life)
	if last := m.connection.Swap(next); last != nil {
		last.end()
	}
}

// untilReconnect has cancel called when the connection of now has been followed by another one; stop takes that back.
func (m *Manager) untilReconnect(cancel context.CancelFunc) (stop func() bool) {
	now, reconnects := m.connection.Load(), m.reconnects()
	if now == nil {
		return func() bool { return true }
	}
	return context.AfterFunc(now.ctx, func() {
		if m.reconnects() != reconnects || m.life.Err() != nil {
			cancel()
		}
	})
}
