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
	defer m.offers.unsent.Add(-1)
	at := p.gen.at
	at.once.Do(func() { m.listen(at) })
	if at.sub == nil {
		return
	}
	m.count.offers.Add(int64(p.n))
	body := m.pullBody(p.gen.class, p.n)
	if err := m.nc.PublishRequest(p.gen.arc.next, p.gen.reply, body); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		m.log.Warn("offer", "arc", p.gen.arc.name, "error", err)
	}
}

func (m *Manager) sendAll(more *[kinds]pull) {
	for k := range more {
		m.send(more[k])
	}
}

func (m *Manager) pullBody(class, n int) []byte {
	if n <= bodies {
		return m.offers.body[class][n]
	}
	return pullBody(class, n, m.group)
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
		m.offers.lookAt(g.arc)
	}
	m.mu.Unlock()
	if !expired {
		m.log.Debug("pull refused", "arc", g.arc.name, "status", status, "why", msg.Header.Get("Description"))
		if g.arc.of == nil && (status == "503" || msg.Header.Get("Description") == "Consumer Deleted") {
			m.setUpSoon()
		}
	}
}
