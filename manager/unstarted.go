package manager

import (
	"context"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/story"
	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
)

// A claim that no environment will run is answered here, if it is ours to answer: the start line is crossed by the lock, so that
// nobody else runs it meanwhile.

// fail answers a claim whose environment's init failed.
func (m *Manager) fail(c *claim, failure *schema.FunctionError) {
	c.mark = schema.MarkFailed
	m.answerUnstarted(m.life, c, func() {
		c.traceInitFailure(failure)
		c.run = schema.Run{
			Call: &c.call, Subject: c.subject, Arc: c.arc, Rank: c.rank, Manager: m.cfg.ID, Start: schema.StartCold,
			Ended: func(*schema.Run, *schema.Outcome) {},
		}
		c.story.Add(story.InitFailed())
		m.worker.Refuse(&c.run, failure)
	})
}

// cannotRun lets go of a claim whose function version is not to be had: refused where it is gone, given back where this
// manager could not find out.
func (m *Manager) cannotRun(c *claim, err error) {
	if schema.CodeOf(err) == schema.CodeInternal {
		m.log.Warn("look up the function of a call", telemetry.LogCall(c.call.RequestID, c.call.Traceparent), "error", err)
		m.giveBack(c)
		return
	}
	m.spawn(func() { m.refuse(c, err) })
}

// refuse answers a claim with an error, if it is ours to answer.
func (m *Manager) refuse(c *claim, err error) {
	m.answerUnstarted(m.life, c, func() {
		c.traceRefusal(err)
		c.story.Add(story.TurnedDown(err))
		m.answerError(c, err)
	})
}

func (m *Manager) answerError(c *claim, err error) {
	m.metrics.refuse(c, err)
	status, text := schema.ErrorHeaders(err)
	msg := nats.NewMsg(c.call.Reply)
	msg.Header.Set(schema.HeaderErrorCode, status)
	msg.Header.Set(schema.HeaderError, text)
	msg.Header.Set(schema.HeaderRequestID, c.call.RequestID)
	if err := m.nc.PublishMsg(msg); err != nil {
		m.log.Warn("refuse a call", telemetry.LogCall(c.call.RequestID, c.call.Traceparent), "error", err)
	}
}

// answerUnstarted crosses the start line for a call that no environment will run, and answers it.
func (m *Manager) answerUnstarted(ctx context.Context, c *claim, answer func()) {
	m.mu.Lock()
	m.waiting.remove(c)
	c.limited = m.limited(c)
	m.mu.Unlock()
	if l := m.lock(ctx, c); l != crossed {
		m.uncrossed(c, l)
		return
	}
	if c.mark == 0 {
		c.mark = schema.MarkRefused
	}
	m.tellEnd(c)
	answer()
}
