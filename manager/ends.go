package manager

import (
	"context"
	"sync"
	"time"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// A frontend learns off the caller's path which of its calls ended (Ends, coalesced) and which still run (Beat). An answer that
// passes through the frontend itself tells it the end.
const (
	endsWait  = time.Millisecond // the longest that an end waits for others
	endsBatch = 64               // tokens that are told at once
	endsMax   = 1 << 16          // tokens that may wait while the connection is down; a beat that misses them tells it too
	beatEvery = 500 * time.Millisecond
	nameFor   = 10 * time.Second // after a reconnect, of this manager or of a frontend, everything is named
	lateFor   = 30 * time.Second // calls that ended in that time are named with it
)

// ends collects the calls that ended.
type ends struct {
	mu      sync.Mutex
	told    map[string]*endings // by frontend
	waiting int
	wake    chan struct{} // something waits, or an offer does
	full    chan struct{} // a batch waits
}

// endings are those for one frontend.
type endings struct {
	tokens []uint64
	marks  []byte // of each
}

func newEnds() *ends {
	return &ends{told: make(map[string]*endings), wake: make(chan struct{}, 1), full: make(chan struct{}, 1)}
}

// tellEnd has the frontend of a call hear of its end, unless the answer goes there: a notice beside it would cost every event and
// every HTTP call a message more. Where its sub-tenant is limited it hears it at once, so that the caller's next call is not one too many.
func (m *Manager) tellEnd(c *claim) {
	switch {
	case subjects.PassesFrontend(c.call.Reply, c.call.Frontend):
	case c.limited:
		m.tell(subjects.FrontendInbox(c.call.Frontend, "t"), schema.Ends{
			Manager: m.cfg.ID, Incarnation: m.incarnation, Tokens: []uint64{c.call.Token}, Marks: []byte{byte(c.mark)},
		})
	default:
		m.ends.add(c.call.Frontend, c.call.Token, c.mark)
	}
}

// add notes the end of a call. It does not block.
func (e *ends) add(frontend string, token uint64, mark schema.Mark) {
	e.mu.Lock()
	if e.waiting >= endsMax {
		e.mu.Unlock()
		return
	}
	t := e.told[frontend]
	if t == nil {
		t = new(endings)
		e.told[frontend] = t
	}
	t.tokens, t.marks = append(t.tokens, token), append(t.marks, byte(mark))
	e.waiting++
	first, batch := e.waiting == 1, e.waiting >= endsBatch
	e.mu.Unlock()
	if first {
		signal(e.wake)
	}
	if batch {
		signal(e.full)
	}
}

func (e *ends) takeAll() map[string]*endings {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.waiting == 0 {
		return nil
	}
	all := e.told
	e.told, e.waiting = make(map[string]*endings, len(all)), 0
	return all
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// endsLoop tells ends, and sends the offers that may wait as long, until its context ends, and then what is left.
func (m *Manager) endsLoop(ctx context.Context) {
	wait := time.NewTimer(endsWait)
	defer wait.Stop()
	defer m.tellEnds()
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.ends.wake:
		}
		wait.Reset(endsWait)
		select {
		case <-ctx.Done():
			return
		case <-m.ends.full:
		case <-wait.C:
		}
		m.offerWaiting()
		m.tellEnds()
	}
}

func (m *Manager) tellEnds() {
	for frontend, t := range m.ends.takeAll() {
		m.tell(subjects.FrontendInbox(frontend, "e"), schema.Ends{Manager: m.cfg.ID, Incarnation: m.incarnation, Tokens: t.tokens, Marks: t.marks})
	}
}

// tell publishes a record.
func (m *Manager) tell(subject string, v any) {
	b, err := schema.Marshal(v)
	if err != nil {
		m.log.Error("encode", "subject", subject, "error", err)
		return
	}
	m.publish(subject, b)
}

// beatLoop names to each frontend, every 500 ms, which of its calls run for longer than that. For a while after a
// reconnect, its own or that of a frontend (returns.go), it names all of them, and those that ended in the last half minute: the
// server may have lost their calls' messages, ends and answers, and a frontend takes what nobody names for not started
// (DESIGN 6). Whose lock is under way for longer than that is named apart: it may be out of the stream and has not started.
func (m *Manager) beatLoop(ctx context.Context) {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for number := uint64(1); ; number++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-m.beatNow:
		}
		for frontend, b := range m.named() {
			b.Manager, b.Incarnation, b.Number = m.cfg.ID, m.incarnation, number
			m.tell(subjects.FrontendInbox(frontend, "b"), b)
		}
	}
}

// named are the calls that a beat names, by frontend.
func (m *Manager) named() map[string]*schema.Beat {
	now := m.now()
	beats := make(map[string]*schema.Beat)
	to := func(frontend string) *schema.Beat {
		b := beats[frontend]
		if b == nil {
			b = &schema.Beat{}
			beats[frontend] = b
		}
		return b
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	since := now - beatEvery
	if all := now < m.nameAll; all {
		since = now
		m.late.each(now-lateFor, func(frontend string, token uint64) {
			b := to(frontend)
			b.Late = append(b.Late, token)
		})
	}
	for c := m.running.first; c != nil && c.started <= since; c = c.next {
		b := to(c.call.Frontend)
		b.Tokens = append(b.Tokens, c.call.Token)
	}
	for c := m.waiting.first; c != nil; c = c.next {
		if c.asked { // unstarted, and yet its frontend has nothing else to know it by
			b := to(c.call.Frontend)
			b.Tokens = append(b.Tokens, c.call.Token)
		}
	}
	for c, since := range m.locks {
		if since <= now-beatEvery {
			b := to(c.call.Frontend)
			b.Locks = append(b.Locks, c.call.Token)
		}
	}
	return beats
}

// late are the last calls that ended. Manager.mu guards it.
type late struct {
	last [4096]lateCall
	next int
}

type lateCall struct {
	frontend string
	token    uint64
	at       time.Duration
}

func (l *late) add(frontend string, token uint64, at time.Duration) {
	l.last[l.next] = lateCall{frontend, token, at}
	l.next = (l.next + 1) % len(l.last)
}

// each calls f for the calls that ended after this moment.
func (l *late) each(after time.Duration, f func(frontend string, token uint64)) {
	for i := range l.last {
		if c := &l.last[i]; c.frontend != "" && c.at > after {
			f(c.frontend, c.token)
		}
	}
}
