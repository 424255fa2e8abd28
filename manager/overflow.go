package manager

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/story"
	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/manager/pace"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// Ranks 0 and 1 of a reserved arc, or the one there is, keep one pull of the worst class open: what comes by it found no idle
// member. A frontend whose view was behind sent it there, or others were quicker (DESIGN 2, S22).
//
//	first delivery, or younger than catch ── a member came free here ──► it takes it
//	                                      ── else kept, 2 ms, NAK ─────► whoever has one by then
//	after that ── a member is idle here ───────────────────────────────► the path of every claim, by the lock
//	           ── else it moves to the unreserved arc of its function:
//
//	  catcher                          stream of the shard        CALLS_U             frontend
//	     │ ── STREAM.MSG.DELETE ─────────►│ one of several wins      │                   │
//	     │ ── copy, reply: the frontend's inbox of PubAcks ─────────►│ ── PubAck, or ───►│
//	     │                                │                          │    why it is full │
//
// The copy is the same call: token, payload (or that the frontend holds it) and what is left of its start-by. The frontend
// learns by the PubAck where it lies now, and an unreserved stream that refuses it is told to the frontend as if it had
// published there itself.
//
// A process that dies between the two loses the call: it is in no stream and in nobody's beat, so its frontend answers
// ExecutionLost, as for any call that may have started. The other order would leave two messages of one call, which could
// both run.
const (
	reservedCatchers = pace.ReservedCatchers
	moves            = 256 // that may be under way at once; more are given back
)

// overflow moves a caught call off its reserved arc.
func (m *Manager) overflow(c *claim) {
	if m.left(c) <= 0 {
		m.drop(c)
		return
	}
	if m.moving.Add(1) > moves {
		m.moving.Add(-1)
		m.giveBackLater(c)
		return
	}
	m.spawn(func() {
		defer m.moving.Add(-1)
		m.move(c)
	})
}

// left is what is left of a claim's start-by.
func (m *Manager) left(c *claim) time.Duration { return c.call.StartBy - (c.age + m.now() - c.came) }

func (m *Manager) move(c *claim) {
	if l := m.lock(m.life, c); l != crossed {
		m.uncrossed(c, l)
		return
	}
	left := m.left(c)
	if left <= 0 { // the lock took that long
		m.unmoved(c, schema.Errorf(schema.CodeCapacityExceeded, "no member of the reservation was idle in time"))
		return
	}
	call := c.call
	call.Reason, call.StartBy = schema.ReasonOverflow, left
	arc := subjects.UnreservedArc(call.Account, call.Function, call.Tenant, m.view.Load().fabric.Arcs)
	subject := m.names.UnreservedCall(arc, call.Account, call.Function, call.Version, call.Tenant)
	span := m.traceCopy(c, &call, subject, subjects.UnreservedName(arc))
	err := m.nc.PublishMsg(&nats.Msg{
		Subject: subject,
		Reply:   subjects.FrontendInbox(call.Frontend, "p."+fmt.Sprintf("%016x", call.Token)), // as the frontend itself writes it
		Header:  nats.Header{nats.MsgTTLHdr: []string{strconv.Itoa(schema.CallTTL(left)) + "s"}},
		Data:    schema.EncodeCall(make([]byte, 0, schema.CallSize(&call)), &call),
	})
	span.End()
	if err != nil {
		if !errors.Is(err, nats.ErrConnectionClosed) {
			m.log.Warn("move a call off a reserved arc", telemetry.LogCall(call.RequestID, call.Traceparent), "arc", c.arc, "error", err)
		}
		m.unmoved(c, schema.Errorf(schema.CodeUnavailable, "the call could not be moved to an unreserved arc"))
		return
	}
	m.count.moved.Add(1)
	c.traceEnd(telemetry.OutcomeMoved)
	c.story.Add(story.MovedOff(arc))
}

// unmoved answers a call that is in no stream any more and certainly did not start.
func (m *Manager) unmoved(c *claim, err error) {
	c.traceRefusal(err)
	c.story.Add(story.TurnedDown(err))
	c.mark = schema.MarkRefused
	m.answerError(c, err)
	m.tellEnd(c)
}
