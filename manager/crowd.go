package manager

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	crowdMost = 1 << 15         // messages that may wait to be taken in; the server gives what is lost to another after ackWait
	crowdKept = 5 * time.Second // that an inbox is known after it was drained: what had come before is taken in by then
)

// crowd is what comes to the inboxes of all reserved arcs, taken in by one goroutine. Where calls come to many arcs, one at a time to
// each, none of them has a second one whose acknowledgement could be written out with the first's: a write for each call of 64 arcs
// cost as much again as all else that is done for it. Nothing that a claim of a reserved arc does there waits for anybody but that
// write.
type crowd struct {
	came chan *nats.Msg
	line lineup // used on that goroutine

	mu      sync.Mutex
	inboxes map[*nats.Subscription]*inbox
	left    []leaver // drained ones, in that order
}

type leaver struct {
	sub *nats.Subscription
	at  time.Duration
}

func newCrowd() crowd {
	return crowd{came: make(chan *nats.Msg, crowdMost), inboxes: make(map[*nats.Subscription]*inbox)}
}

func (c *crowd) add(sub *nats.Subscription, i *inbox) {
	c.mu.Lock()
	c.inboxes[sub] = i
	c.mu.Unlock()
}

// leaves notes that an inbox is being drained, and forgets those that were long ago.
func (c *crowd) leaves(sub *nats.Subscription, now time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inboxes[sub] == nil {
		return
	}
	c.left = append(c.left, leaver{sub, now})
	for len(c.left) > 0 && now-c.left[0].at > crowdKept {
		delete(c.inboxes, c.left[0].sub)
		c.left = c.left[1:]
	}
}

func (c *crowd) inbox(sub *nats.Subscription) *inbox {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.inboxes[sub]
}

// crowdLoop takes in what comes until its context ends, and then what is left.
func (m *Manager) crowdLoop(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case msg := <-m.crowd.came:
			m.takeCrowd(msg)
		}
	}
	for {
		select {
		case msg := <-m.crowd.came:
			m.takeCrowd(msg)
		default:
			return
		}
	}
}

func (m *Manager) takeCrowd(msg *nats.Msg) {
	c := &m.crowd
	if i := c.inbox(msg.Sub); i != nil {
		m.take(i, msg)
	} else {
		m.count.garbage.Add(1)
	}
	if n := len(c.line.claims); n >= lineupMost || n > 0 && len(c.came) == 0 {
		m.crossTogether(&c.line)
	}
}
