package events

import (
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// claim is one event that the server gave to this poller, from its delivery until it is acknowledged or given back.
type claim struct {
	p   *poller
	src *source

	msg    *nats.Msg // until it begins
	id     string    // of the event, by the stream as it was when it came; "" for one of RETRIES, which says so itself
	event  schema.Event
	limits limits // as they were when it began
	ack    subjects.Ack
	reply  string // where it is acknowledged
	bytes  int

	// Below: guarded by poller.mu.
	came       time.Time // when it was delivered
	began      time.Time // when its try began; zero while it waits for its turn
	touched    time.Time // when the server last heard that it is in hands
	over       bool      // acknowledged or given back: whatever still comes for it means nothing
	stale      bool      // not touched for so long that another may have it
	prev, next *claim
	after      *claim // in the queue of those that wait
}

// lost reports whether another may have it by now. poller.mu is held.
func (c *claim) lost(now time.Time) bool { return c.stale || now.Sub(c.touched) >= AckWait }

// claims is a list of claims, the one that was touched longest ago first. poller.mu guards it.
type claims struct {
	first, last *claim
	n           int
}

func (l *claims) add(c *claim) {
	c.prev, c.next = l.last, nil
	if l.last != nil {
		l.last.next = c
	} else {
		l.first = c
	}
	l.last = c
	l.n++
}

func (l *claims) remove(c *claim) {
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		l.first = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	} else {
		l.last = c.prev
	}
	c.prev, c.next = nil, nil
	l.n--
}

// touch moves a claim that the server is told of again to the end.
func (l *claims) touch(c *claim, now time.Time) {
	l.remove(c)
	c.touched = now
	l.add(c)
}
