package manager

import (
	"errors"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	backOffFirst = 50 * time.Millisecond // of an arc whose pulls were refused
	backOffMost  = time.Second           // of a reserved one whose consumer stays away
)

// send publishes pulls. The inbox is listened to before its first pull goes out on the same connection.
func (m *Manager) send(p pull) {
	if p.gen == nil {
		return
	}
	p.gen.once.Do(func() { m.listen(p.gen) })
	if p.gen.sub == nil {
		return
	}
	m.count.offers.Add(int64(p.n))
	body := m.pullBody(p.gen.class, p.n)
	if err := m.nc.PublishRequest(p.gen.arc.next, p.gen.inbox, body); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		m.log.Warn("offer", "arc", p.gen.arc.name, "error", err)
	}
}

func (m *Manager) sendAll(more *[kinds]pull) {
	for k := range more {
		m.send(more[k])
	}
}

// listen subscribes to a generation's inbox.
func (m *Manager) listen(g *generation) {
	g.line = &lineup{}
	sub, err := m.nc.Subscribe(g.inbox, func(msg *nats.Msg) {
		m.deliver(g, msg)
		if g.line.due(msg.Sub) {
			m.crossTogether(g.line)
		}
	})
	if err == nil {
		g.sub = sub
		err = sub.SetPendingLimits(-1, -1) // bounded by the pulls that were sent
	}
	if err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		m.log.Warn("listen for claims", "arc", g.arc.name, "error", err)
	}
}

func (m *Manager) pullBody(class, n int) []byte {
	if n <= bodies {
		return m.offers.body[class][n]
	}
	return pullBody(class, n, m.group)
}

// withdraw takes the pulls of a generation back: the server drops what has no listener, and what is on its way is
// still handled (measured: nothing lost).
func (m *Manager) withdraw(g *generation) {
	g.once.Do(func() {}) // nobody subscribes from here on
	if g.sub == nil {
		return
	}
	if err := g.sub.Drain(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		m.log.Warn("withdraw offers", "arc", g.arc.name, "error", err)
	}
}

// backOff keeps an arc's pulls back for a moment: its consumer is gone, has moved, or has no place for a pull. All managers hear
// it at once, hence the jitter. The consumer of a reserved arc is the controller's to make: it is gone for good when the arc is
// retired, a moment before its record is. Manager.mu is held.
func (a *arc) backOff(now time.Time, jitter func(time.Duration) time.Duration) {
	if now.Before(a.backoff) {
		return // another side's pulls
	}
	if now.Sub(a.refusedAt) > 2*backOffMost {
		a.refusals = 0
	}
	pause := backOffFirst
	if a.opening != nil {
		pause = min(backOffMost, pause<<min(a.refusals, 8))
	}
	a.refusals++
	a.refusedAt, a.backoff = now, now.Add(pause+jitter(2*backOffFirst))
}

// refusedPull reads a status that came instead of a call: some or all pulls of a generation are no more.
func (m *Manager) refusedPull(g *generation, msg *nats.Msg, status string) {
	gone := -1
	if text := msg.Header.Get("Nats-Pending-Messages"); text != "" {
		if n, err := strconv.Atoi(text); err == nil {
			gone = n
		}
	}
	expired := status == "408"
	m.mu.Lock()
	if !g.retire {
		if gone >= 0 {
			g.open = max(0, g.open-gone)
		} else {
			g.stale = true // nobody knows how many are left: all are sent anew
		}
		if !expired {
			g.arc.backOff(time.Now(), m.jitter)
		}
	}
	m.mu.Unlock()
	if !expired {
		m.log.Debug("pull refused", "arc", g.arc.name, "status", status, "why", msg.Header.Get("Description"))
		if g.arc.of == nil && (status == "503" || msg.Header.Get("Description") == "Consumer Deleted") {
			m.setUpSoon()
		}
	}
	m.offers.kick()
}
