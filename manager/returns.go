package manager

import (
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/schema"
)

// A frontend that was cut off has heard of no end that was told meanwhile, and of no beat. It may come back long after the
// managers, or while they noticed nothing, so its own status says how often it has come back, and with each time more everything
// is named again.
const (
	maxReturns  = 4096
	returnsKept = time.Minute // a frontend that told nothing for that long makes room for another
)

// returns are the frontends that were heard of. They belong to the subscription's goroutine.
type returns struct {
	byID map[string]frontendLife
}

type frontendLife struct {
	incarnation string
	reconnects  uint64
	at          time.Duration // on this manager's clock
}

// heardFrontend takes in a frontend's status. What is none, or is told in another's name, is left aside.
func (m *Manager) heardFrontend(msg *nats.Msg) {
	var s schema.FrontendStatus
	if err := schema.Unmarshal(msg.Data, &s); err != nil || m.names.FrontendStatus(s.ID) != msg.Subject {
		m.count.garbage.Add(1)
		m.log.Debug("not a status of whose it says", "subject", msg.Subject, "bytes", len(msg.Data))
		return
	}
	if m.returns.byID[s.ID].incarnation != s.Incarnation {
		m.peers.fresh.Store(true)
	}
	if m.returns.told(&s, m.now()) {
		m.peers.fresh.Store(true)
		m.nameEverything()
	}
}

// told takes in a status and reports whether its frontend has come back since the one before. Of one that nothing is known of,
// every return counts: it may have been away for longer than it is remembered, or this manager is the newer of the two.
func (r *returns) told(s *schema.FrontendStatus, now time.Duration) (back bool) {
	was, known := r.byID[s.ID]
	if !known || was.incarnation != s.Incarnation {
		was.reconnects = 0
	}
	if !known && len(r.byID) >= maxReturns {
		for id, f := range r.byID {
			if now-f.at > returnsKept {
				delete(r.byID, id)
			}
		}
		if len(r.byID) >= maxReturns {
			return false
		}
	}
	if r.byID == nil {
		r.byID = make(map[string]frontendLife)
	}
	r.byID[s.ID] = frontendLife{s.Incarnation, max(s.Reconnects, was.reconnects), now}
	return s.Reconnects > was.reconnects
}
