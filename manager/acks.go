package manager

import "time"

// acks are the last acknowledgements that were written out. A connection that breaks may swallow what was written to it: a
// call that started would then be given to another manager after ackWait, and run twice. So after a reconnect the recent
// ones are sent again, before that; an acknowledgement that had arrived changes nothing.
type acks struct {
	last [1024]sentAck // more than what fits into the buffers of a connection in a moment
	next int
}

type sentAck struct {
	reply string
	at    time.Duration
}

func (a *acks) add(reply string, at time.Duration) {
	a.last[a.next] = sentAck{reply, at}
	a.next = (a.next + 1) % len(a.last)
}

// since are the replies of the acknowledgements that were written out after this moment.
func (a *acks) since(at time.Duration) []string {
	var replies []string
	for _, s := range a.last {
		if s.reply != "" && s.at > at {
			replies = append(replies, s.reply)
		}
	}
	return replies
}

// acknowledgeAgain repeats the acknowledgements that a broken connection may have swallowed. Older ones than a claim's time
// at this manager are left: their calls may be in other hands.
func (m *Manager) acknowledgeAgain() {
	m.mu.Lock()
	replies := m.acks.since(m.now() - (ackWait - unseen))
	m.mu.Unlock()
	for _, reply := range replies {
		m.publish(reply, ackBody)
	}
}
