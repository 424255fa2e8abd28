package manager

import (
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/schema"
)

// lineupMost is how many claims are acknowledged together at most: the first of them waits for as many to be read.
const lineupMost = 16

// lineup is the claims of one subscription that have their environments and wait for their acknowledgements to be written
// out. Under load deliveries queue up behind one another, and a write for each of them would be what they wait for: those
// that are here already are acknowledged by one. It belongs to the subscription's goroutine and is empty whenever that waits.
type lineup struct{ claims []lined }

type lined struct {
	claim       *claim
	environment string
	start       schema.Start
	sent        bool
}

func (l *lineup) add(c *claim, environment string, start schema.Start) {
	l.claims = append(l.claims, lined{claim: c, environment: environment, start: start})
}

// due reports whether those in line are to go: they are many, or no other delivery is here.
func (l *lineup) due(sub *nats.Subscription) bool {
	if len(l.claims) == 0 {
		return false
	}
	if len(l.claims) >= lineupMost {
		return true
	}
	pending, _, err := sub.Pending() // the delivery whose handler runs is counted until that returns
	return err != nil || pending <= 1
}

// crossTogether takes all in line over the start line: each is acknowledged, all are written out, then they start in the
// order of their deliveries. Who came into doubt while it stood in line takes the lock.
func (m *Manager) crossTogether(l *lineup) {
	connected, now := m.nc.IsConnected(), m.now()
	until := time.Duration(0)
	for i := range l.claims {
		x := &l.claims[i]
		c := x.claim
		if m.inDoubt(c, now) {
			m.beginLocked(c, x.environment, x.start, 0)
			x.claim = nil
			continue
		}
		x.sent = connected && m.nc.Publish(c.ackReply, ackBody) == nil
		if until == 0 || c.touched+mine < until {
			until = c.touched + mine
		}
	}
	written := connected && m.writtenOut(until)
	for i := range l.claims {
		x := l.claims[i]
		l.claims[i] = lined{}
		if x.claim != nil {
			m.crossed(x.claim, m.over(x.claim, written && x.sent), x.environment, x.start, 0)
		}
	}
	l.claims = l.claims[:0]
}
