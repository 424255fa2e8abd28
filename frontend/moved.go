package frontend

import (
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/story"
	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
)

// A call that was published on a reserved arc may come to lie on its unreserved one in two ways, each at most once:
//
//	refused   frontend ── call, expects the marker ──► shard     10071, 503, full: certainly not stored
//	          frontend ── the same call ─────────────► CALLS_U   reason unreserved, or scale where the arc was full
//
//	moved     frontend ── call ──► shard ── claim ──► a catcher  no idle member
//	          a catcher wins the lock (it deletes the message), and publishes the copy with this frontend's inbox as reply:
//	          frontend ◄── PubAck of CALLS_U ── CALLS_U          reason overflow
//
// The token stays the same. PubAcks name their stream, so whichever order they come in, the last place is known: nothing ever
// goes back to a shard. What is asked of a shard is answered to inboxes of its own, for the answers name no stream: that a
// message is gone there says nothing of the copy.

// fallback is what publishes a call on its unreserved arc, should the reserved one refuse it.
type fallback struct {
	env     schema.Call
	startBy time.Time
}

// stored takes in that a call's message lies in a stream.
func (f *Frontend) stored(token uint64, s *stream, sequence uint64) {
	f.saw(s, sequence)
	var span telemetry.Span
	moved, late, arc := false, false, 0
	f.pending.with(token, func(c *call) bool {
		switch {
		case c.stream == s:
			c.sequence, c.fallback = sequence, nil
			c.story.Add(story.Stored(c.publication(), s.name, sequence))
		case c.onShard() && !s.reserved:
			moved, late, span = true, c.expired, c.span
			c.unreserve(f, schema.ReasonOverflow)
			c.stream, c.floor = s, s.floor() // the catcher's, should it know of another number of arcs
			c.sequence, c.fallback, c.seen = sequence, nil, f.clock.now()
			arc = c.arc
			c.story.Add(story.Overflowed(c.publication(), arc, s.name, sequence))
		}
		return false
	})
	if !moved {
		return // or too late: it has been moved since
	}
	tell(span, arc, schema.ReasonOverflow)
	if late {
		f.startBys.add(token, 0) // its start-by passed while it was on the way: nobody deletes the copy but this
	}
}

// unreserve notes that a call goes to its unreserved arc, and gives its subject there. Its shard is locked.
func (c *call) unreserve(f *Frontend, reason schema.Reason) (subject string) {
	c.arc, subject = f.unreserved(c.version, c.tenant, f.view.fabric.Load().Arcs)
	u := f.streamOf(c.arc)
	c.reserved, c.reason = nil, reason
	c.stream, c.floor, c.sequence = u, u.floor(), 0
	c.gone, c.deleting = 0, false
	return subject
}

// spill publishes a call that its reserved arc has refused on the unreserved one, and reports whether the call was such a one.
// crowded says that the arc takes calls and has too many of them: the call is one beyond the reservation, as any that finds all
// members busy. Anything else says that the arc is not what the record says; it is left alone for a while.
func (f *Frontend) spill(token uint64, crowded bool) bool {
	var c *call
	var next *fallback
	var number int
	var subject string
	f.pending.with(token, func(found *call) bool {
		if found.fallback == nil || found.beat != 0 || found.over != 0 {
			return false
		}
		c, next = found, found.fallback
		reason := schema.ReasonScale
		if !crowded {
			reason = schema.ReasonUnreserved
			found.reserved.doubt()
			found.stream.asked.Store(true) // others may have been published there, and heard nothing
		}
		subject = found.unreserve(f, reason)
		number, found.fallback = found.arc, nil
		next.env.Reason = reason
		c.story.Add(story.Spilled(c.publication(), reason, c.arc))
		return false
	})
	if next == nil {
		return false
	}
	f.counters.spilled.Add(1)
	env := &next.env
	if env.StartBy = time.Until(next.startBy); env.StartBy <= 0 {
		f.refuseUnstarted(token, full("its start-by had passed when its reserved arc refused it"))
		return true
	}
	tell(c.span, number, env.Reason)
	span := f.spanPublication(c, env, subject)
	tell(span, number, env.Reason)
	if _, err := f.publish(subject, f.publication.header(env.StartBy), env); err != nil {
		f.refuseUnstarted(token, &schema.Error{Code: schema.CodeUnavailable, Message: "the call could not be sent", Cause: err})
	}
	span.End()
	return true
}

// refuseUnstarted refuses a call that certainly did not start, if it is still in flight.
func (f *Frontend) refuseUnstarted(token uint64, err error) {
	if c := f.pending.take(token, true); c != nil {
		f.refuse(c, err)
	}
}

// crowded reports whether a refusal says that the stream or the subject has no place for this call, and not that it is not
// what the record says.
func crowded(m *nats.Msg) bool {
	switch m.Header.Get("Status") {
	case "429":
		return true
	case "":
	default:
		return false
	}
	e, ok := apiError(m.Data)
	if !ok {
		return false
	}
	switch e.ErrCode {
	case jsStoreFailed, jsInsufficient, jsMemoryExceeded, jsTooManyRequests, jsMessageTooLarge:
		return true
	}
	return false
}
