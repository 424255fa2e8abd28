package frontend

import (
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/story"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// This frontend's part of the story of each call (package story, DESIGN 9): what it decided and heard, kept for its last calls and
// told on hearth.trace.

// tellStory answers whoever asks for the story of a call: a frontend that handles GetTrace.
func (f *Frontend) tellStory(m *nats.Msg) {
	if !subjects.FabricReplyAllowed(m.Reply) {
		f.counters.dropped.Add(1)
		return
	}
	answer, err := f.stories.Answer(m.Data)
	if err == nil {
		err = f.nc.Publish(m.Reply, answer)
	}
	if err != nil {
		f.log.Warn("story not told", "subject", short(m.Subject), "error", err)
	}
}

func (c *call) publication() story.Publication {
	return story.Publication{Token: c.token, Attempt: c.attempt}
}

func (c *call) storyOf() story.Of {
	fn := c.version.function
	return story.Of{Account: fn.Account, Function: fn.Name, Version: c.version.record.Version, Tenant: c.tenant}
}

// storyAdmitted is the first step of a call.
func (c *call) storyAdmitted(env *schema.Call) story.Step {
	door, tries := story.NATS, 0
	switch {
	case env.Event != "":
		door, tries = story.Event, triesOf(env.Event)
	case c.reply == "":
		door = story.HTTP
	}
	return story.Admitted(c.publication(), door, len(env.Payload)+env.Held, c.startBy, tries)
}

// triesOf is how many tries an event has had, which stands at the end of the identity of a try.
func triesOf(event string) int {
	n, _ := strconv.Atoi(event[strings.LastIndexByte(event, '/')+1:]) // 0 for what is none
	return n
}

// storyDecided begins a call's story, or goes on with that of a lost one, before the call is known to others.
func (f *Frontend) storyDecided(c *call, env *schema.Call, d *Decision) {
	p, reserved := c.publication(), ""
	if c.reserved != nil {
		reserved = c.reserved.name
	}
	step := story.Decided(p, d.Reason, reserved, c.arc, d.L, d.S, d.B, d.C)
	if c.attempt > 1 {
		c.story.Add(story.Repeated(p), step)
		return
	}
	c.story = f.stories.Open(c.requestID, c.storyOf(), c.storyAdmitted(env), step)
}

// storyUnpublished tells of a call that was admitted and went nowhere.
func (f *Frontend) storyUnpublished(c *call, env *schema.Call, err error) {
	refused := story.Refused(c.publication(), err)
	if c.story == (story.Call{}) {
		f.stories.Open(c.requestID, c.storyOf(), c.storyAdmitted(env), refused)
		return
	}
	c.story.Add(refused)
}

// storyRefused tells of a request that was refused at the door, where its caller had named it.
func (f *Frontend) storyRefused(r *schema.Request, err error) {
	if r != nil && r.RequestID != "" && f.refusals.Allow() {
		f.stories.Refuse(r.RequestID, story.Of{Account: short(r.Account), Function: short(r.Function), Tenant: short(r.Tenant)},
			story.Refused(story.Publication{}, err))
	}
}

// storyAnswered tells how an answer that came through here says that the call ended. The call's shard is locked.
func (c *call) storyAnswered(m *nats.Msg) {
	if text := m.Header[schema.HeaderError]; len(text) == 1 {
		c.story.Add(story.Refused(c.publication(), schema.ParseErrorHeaders(m.Header.Get(schema.HeaderErrorCode), text[0])))
		return
	}
	if timedOut(m) {
		c.story.Add(story.AnsweredLate(c.publication()))
		return
	}
	c.story.Add(story.Answered(c.publication(), len(m.Header[schema.HeaderFunctionError]) > 0))
}
