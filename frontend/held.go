package frontend

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// A payload over [schema.MaxCarried] never lies in the stream of calls: its call's message carries a reference, and who
// claims the call asks for the payload before its start line (DESIGN 3, step 2):
//
//	frontend ── call, Held = size ──► stream ──► manager
//	frontend ◄─ _HF.<frontend>.f.<token> ─────── manager     kindFetch; its reply is an inbox of the manager
//	frontend ── the bytes, one message ────────► manager     or no bytes and Status 404: there is none
//
// It is held until its call leaves, or is known to run and cannot be asked for again. A call whose frontend has gone is
// never started: nobody has its payload.

// fetchQueue bounds the questions that wait for their answers. One that finds no place is dropped: its claimer gives the
// call back after a while, and asks again or another one does.
const fetchQueue = 1024

// fetch is a claimer's question for a payload.
type fetch struct {
	token uint64
	reply string
}

// held bounds the bytes of payloads that this frontend holds.
type held struct {
	limit int64
	bytes atomic.Int64
}

// take counts a payload in, or reports false when there are too many bytes.
func (h *held) take(n int, force bool) bool {
	if h.bytes.Add(int64(n)) > h.limit && !force {
		h.bytes.Add(-int64(n))
		return false
	}
	return true
}

// give counts a call's payload out. The call is nobody else's, or its shard is locked.
func (h *held) give(c *call) {
	h.bytes.Add(-int64(c.holds))
	c.holds = 0
}

// hold counts the payload of a call that is about to be published, if it is one to hold. A further attempt always finds
// room: its bytes are here already.
func (f *Frontend) hold(c *call) error {
	if c.payload == nil {
		return nil
	}
	if size, most := int64(len(c.payload)), f.nc.MaxPayload(); size > most {
		return schema.Errorf(schema.CodeTooLarge, "the payload has %d bytes, this NATS server takes %d", size, most)
	}
	if !f.pending.held.take(len(c.payload), c.attempt > 1) {
		return &schema.Error{
			Code: schema.CodeThrottled, Reason: schema.ThrottleCaller,
			Message: fmt.Sprintf("this frontend holds payloads over %d bytes for calls in flight, together at most %d bytes",
				schema.MaxCarried, f.pending.held.limit),
		}
	}
	c.holds = len(c.payload)
	return nil
}

// asked takes in a claimer's question. The answer is written elsewhere: megabytes would hold up the inboxes.
func (f *Frontend) asked(token uint64, reply string) {
	if !subjects.FabricReplyAllowed(reply) {
		f.log.Warn("question for a payload with a reply subject that is none of the fabric", "reply", short(reply))
		return
	}
	select {
	case f.fetches <- fetch{token, reply}:
	default:
	}
}

// handOver answers the questions for payloads until ctx ends, one at a time: they share a connection.
func (f *Frontend) handOver(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case q := <-f.fetches:
			f.answerFetch(q)
		}
	}
}

func (f *Frontend) answerFetch(q fetch) {
	m := &nats.Msg{Subject: q.reply}
	f.pending.with(q.token, func(c *call) bool {
		m.Data = c.payload
		return false
	})
	if m.Data == nil {
		m.Header = nats.Header{schema.HeaderStatus: {schema.StatusUnknown}}
	}
	if err := f.nc.PublishMsg(m); err != nil {
		f.log.Warn("payload not sent to its claimer", "bytes", len(m.Data), "error", err)
		return
	}
	if m.Data != nil {
		f.counters.fetched.Add(1)
	}
}
