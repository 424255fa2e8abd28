package manager

import (
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/story"
	"github.com/hearth-run/hearth/subjects"
)

// This manager's part of the story of each call (package story, DESIGN 9): what became of each claim, kept for its last calls and told
// on hearth.trace.

// Why a claim is given back.
const (
	noUse     = "nothing here can run it now"
	noRoom    = "nothing is free and there is no room"
	noPayload = "its frontend has no payload for it"
)

// told answers whoever asks for the story of a call: a frontend that handles GetTrace.
func (m *Manager) told(msg *nats.Msg) {
	if !subjects.FabricReplyAllowed(msg.Reply) {
		m.count.garbage.Add(1)
		return
	}
	answer, err := m.stories.Answer(msg.Data)
	if err != nil {
		m.count.garbage.Add(1)
		m.log.Warn("story not told", "bytes", len(msg.Data), "error", err)
		return
	}
	m.publish(msg.Reply, answer)
}

// storyArrival begins the story of a claim, or goes on with that of its call, which has been here before.
func (m *Manager) storyArrival(c *claim, by story.Pull) {
	tries := 0
	if c.call.Event != "" {
		tries, _ = strconv.Atoi(c.call.Event[strings.LastIndexByte(c.call.Event, '/')+1:]) // 0 for what is none
	}
	c.story = m.stories.Open(c.call.RequestID, story.Of{
		Account: c.call.Account, Function: c.call.Function, Version: c.call.Version, Tenant: c.call.Tenant,
	}, story.Claimed(&story.Claim{
		Token: c.call.Token, Attempt: c.call.Attempt, Tries: tries, Arc: c.arc, Reserved: c.target.Reserved, Sequence: c.ack.StreamSeq,
		Delivery: c.ack.Delivered, Rank: c.rank, Pull: by, Handed: c.handed, Doubt: c.doubt, Age: c.age, Reason: c.call.Reason,
	}))
}

func pulledBy(k kind) story.Pull {
	switch k {
	case idle:
		return story.PullIdle
	case surplus:
		return story.PullSurplus
	case room:
		return story.PullRoom
	}
	return story.PullCatcher
}

// uncrossed notes that a claim did not cross its start line here.
func (m *Manager) uncrossed(c *claim, l line) {
	m.count.uncrossed.Add(1)
	c.traceEnd(l.outcome())
	c.story.Add(story.NotOurs(l == lost))
}
