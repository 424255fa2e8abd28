package manager

import (
	"context"
	"time"
)

// connection is one connection to the server, from when it stands until the next one does.
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

// soonAfterReconnect has cancel called when the connection of now has been followed by another one for lockWait: what was asked before may
// be answered still, for the server keeps questions and looks for who listens when it answers; more likely they were lost. stop takes
// that back.
func (m *Manager) soonAfterReconnect(cancel context.CancelFunc) (stop func() bool) {
	now, reconnects := m.connection.Load(), m.reconnects()
	if now == nil {
		return func() bool { return true }
	}
	return context.AfterFunc(now.ctx, func() {
		if m.reconnects() != reconnects {
			time.AfterFunc(lockWait, cancel) // calls it in vain where the answer has come
		}
	})
}
