package manager

import (
	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/story"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// asked gives a call of an event that runs or waits here to the frontend that asks for it, whose event it is now: the poller
// that published the call may be dead (DESIGN 4). Who asked is told at once, by a beat that names its token; from then on its
// beats, its end and its answer go there. Who has no such call says nothing.
func (m *Manager) asked(msg *nats.Msg) {
	var ask schema.Ask
	if err := schema.Unmarshal(msg.Data, &ask); err != nil || ask.Event == "" || ask.Frontend == "" ||
		!subjects.FabricReplyAllowed(ask.Reply) {
		m.count.garbage.Add(1)
		return
	}
	m.mu.Lock()
	c := m.ofEvent(ask.Event)
	if c != nil {
		// A call that has not ended is answered, and its end told, only after Manager.mu was held for its end: none of the three
		// is read before.
		c.call.Frontend, c.call.Token, c.call.Reply, c.asked = ask.Frontend, ask.Token, ask.Reply, true
		c.story.Add(story.Redirected(ask.Frontend))
	}
	m.mu.Unlock()
	if c == nil {
		return
	}
	m.count.redirected.Add(1)
	m.tell(subjects.FrontendInbox(ask.Frontend, "b"), schema.Beat{
		Manager: m.cfg.ID, Incarnation: m.incarnation, Tokens: []uint64{ask.Token},
	})
}

// ofEvent is the call that runs or waits here for an event and try, nil if there is none. The lists are walked, at most a few
// microseconds: an index would cost each event's call two writes to a map, and this is asked only for events that were
// delivered twice. Manager.mu is held.
func (m *Manager) ofEvent(event string) *claim {
	for _, l := range [...]*claims{&m.running, &m.waiting, &m.fetching} {
		for c := l.first; c != nil; c = c.next {
			if c.call.Event == event && !c.ended {
				return c
			}
		}
	}
	return nil
}
