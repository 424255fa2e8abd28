package runtimeapi

import "time"

// Parked is how many connections wait for a call.
func (s *Server) Parked() int {
	s.state.mu.Lock()
	defer s.state.mu.Unlock()
	return len(s.state.parked)
}

// Connections is how many there are.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.connections)
}

// Waiting is how many wait for the budget.
func (b *Budget) Waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiting)
}

// SetTokenClock sets the clock by which requests for tokens are counted, before there are any.
func (s *Server) SetTokenClock(now func() time.Time) { s.tokens.now = now }
