package runtimeapi

import (
	"slices"
	"sync"
)

// phase is where the environment stands between two calls; doc.go draws it.
type phase uint8

const (
	starting  phase = iota // before the first next
	idle                   // asked for a call
	pending                // a call is here, no connection asks for it yet
	running                // a call was written to a connection
	answering              // its answer is being read
	answered               // its answer was read, next was not asked yet
	failed                 // the init failed
	closed
)

// String is the phase under the name that AWS's emulator gives it in texts.
func (p phase) String() string {
	return [...]string{"Started", "Ready", "Running", "Running", "InvocationResponse", "RuntimeResponseSentState",
		"InitError", "Closed"}[p]
}

// state is the environment's phase, its call and the connections that ask for one. Nothing blocks under its mutex.
type state struct {
	mu     sync.Mutex
	phase  phase
	call   Invocation
	parked []*connection // latest last
}

// start gives the environment a call: to the connection that it returns, or, where that is nil, to the next one to ask.
func (s *state) start(call *Invocation) (c *connection, last bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.phase {
	case closed, failed:
		return nil, false, ErrClosed
	case pending, running, answering:
		return nil, false, ErrBusy
	}
	s.call = *call
	n := len(s.parked)
	if n == 0 {
		s.phase = pending
		return nil, false, nil
	}
	c = s.parked[n-1]
	s.parked[n-1] = nil
	s.parked = s.parked[:n-1]
	s.phase = running
	c.unparked()
	return c, c.last, nil
}

// parking is what became of a request for the next call.
type parking uint8

const (
	parkRefused   parking = iota // a call runs: 403
	parkDelivered                // a pending call is this connection's
	parkFirst                    // parked, for the first time in this environment
	parkReturned                 // parked, after a call
	parkAgain                    // parked where another one was already
)

// park takes a request for the next call. A pending call is copied into call.
func (s *state) park(c *connection, last bool, call *Invocation) (parking, phase) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.phase
	switch was {
	case starting, idle, answered:
		s.phase = idle
		s.parked = append(s.parked, c)
		c.parked, c.last = true, last
	case pending:
		s.phase = running
		*call = s.call
		return parkDelivered, was
	default:
		return parkRefused, was
	}
	switch was {
	case starting:
		return parkFirst, was
	case answered:
		return parkReturned, was
	}
	return parkAgain, was
}

// held waits until a parked connection is given a call, and reports false when the server is closed instead. It is for a
// runtime that sends more requests while it is parked: they have to wait, as HTTP answers in order.
func (s *state) held(c *connection, done <-chan struct{}) bool {
	s.mu.Lock()
	if !c.parked {
		s.mu.Unlock()
		return true
	}
	c.turn = make(chan struct{})
	turn := c.turn
	s.mu.Unlock()
	select {
	case <-turn:
		return true
	case <-done:
		return false
	}
}

// claim takes the right to answer the call with this id. Refused, it says whether the id was the right one.
func (s *state) claim(id []byte) (ok, known bool, was phase) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.call.RequestID == "" || string(id) != s.call.RequestID {
		return false, false, s.phase
	}
	if s.phase != running {
		return false, true, s.phase
	}
	s.phase = answering
	return true, true, running
}

// answer ends the call that was claimed. With next set, c has asked for the next one already. It reports whether the
// environment can start one, and whether there still was a call to answer.
func (s *state) answer(c *connection, next bool) (parked, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase != answering {
		return false, false
	}
	if next {
		s.parked = append(s.parked, c)
		c.parked, c.last = true, false
	}
	if len(s.parked) > 0 {
		s.phase = idle
		return true, true
	}
	s.phase = answered
	return false, true
}

// undelivered puts a call back that could not be written whole: the runtime cannot have begun it.
func (s *state) undelivered(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase == running && s.call.RequestID == id {
		s.phase = pending
	}
}

// fail ends the init; it reports false when it was over already.
func (s *state) fail() (was phase, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was = s.phase
	if was != starting {
		return was, false
	}
	s.phase = failed
	return was, true
}

// idleNow reports whether the environment waits for a call.
func (s *state) idleNow() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.phase == idle
}

// forget removes a connection from those that ask for a call.
func (s *state) forget(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.parked, c); i >= 0 {
		s.parked = slices.Delete(s.parked, i, i+1)
	}
	c.unparked()
}

func (s *state) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.phase = closed
	s.call = Invocation{}
	clear(s.parked)
	s.parked = nil
}
