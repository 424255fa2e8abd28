package manager

import (
	"strconv"
	"time"

	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
)

// traceArrival begins the span of a claim: from its arrival to its start, or to whatever else became of it.
func (m *Manager) traceArrival(c *claim) {
	if !m.cfg.Telemetry.Enabled() {
		return
	}
	parent := telemetry.Parent{Traceparent: c.call.Traceparent, Tracestate: c.call.Tracestate}
	c.span = m.cfg.Telemetry.Start(parent, telemetry.SpanClaim, telemetry.Consumer)
	if !c.span.Recording() {
		return
	}
	sequence := strconv.FormatUint(c.ack.StreamSeq, 10)
	c.span.Set(telemetry.System.String(telemetry.SystemNATS), telemetry.Operation.String("claim"),
		telemetry.OperationOf.String(telemetry.OperationReceive), telemetry.Destination.String(c.subject),
		telemetry.Group.String(c.ack.Consumer), telemetry.MessageID.String(c.ack.Stream+"/"+sequence),
		telemetry.Conversation.String(c.call.RequestID), telemetry.MessageBytes.Int(len(c.call.Payload)+c.call.Held),
		telemetry.RequestID.String(c.call.RequestID), telemetry.Account.String(c.call.Account),
		telemetry.Invoked.String(c.call.Function), telemetry.Version.String(c.call.Version),
		telemetry.Manager.String(m.cfg.ID), telemetry.Frontend.String(c.call.Frontend), telemetry.Arc.String(c.arc),
		telemetry.Reason.String(string(c.call.Reason)), telemetry.Rank.Int(c.rank), telemetry.Attempt.Int(int(c.call.Attempt)),
		telemetry.Deliveries.Int(int(c.ack.Delivered)), telemetry.Sequence.Int64(int64(c.ack.StreamSeq)))
	if c.call.Tenant != "" {
		c.span.String(telemetry.Tenant, c.call.Tenant)
	}
	if c.handed {
		c.span.Bool(telemetry.Handed, true)
	}
}

// traceStart ends the span of a claim that starts, and makes it the parent of what the worker records. The init of a cold start,
// which ended when its environment took the call, is a span of its own below it.
func (m *Manager) traceStart(c *claim, environment string, start schema.Start, init time.Duration) {
	if !m.cfg.Telemetry.Enabled() {
		return
	}
	next := c.span.Context()
	c.call.Traceparent, c.call.Tracestate = next.Traceparent, next.Tracestate
	if c.span.Recording() {
		c.span.Set(telemetry.Outcome.String(telemetry.OutcomeStarted), telemetry.Instance.String(environment),
			telemetry.Start.String(string(start)), telemetry.Cold.Bool(start == schema.StartCold))
		if init > 0 {
			c.span.Int(telemetry.Init, int(init.Milliseconds()))
			now := time.Now()
			s := m.cfg.Telemetry.StartAt(now.Add(-init), next, telemetry.SpanInit, telemetry.Internal)
			s.Set(telemetry.Function.String(c.call.Function), telemetry.Version.String(c.call.Version), telemetry.Instance.String(environment),
				telemetry.Manager.String(m.cfg.ID))
			s.EndAt(now)
		}
	}
	c.span.End()
}

// traceEnd ends the span of a claim that does not start here, and is no failure of the call by that.
func (c *claim) traceEnd(outcome string) {
	c.span.String(telemetry.Outcome, outcome)
	c.span.End()
}

// traceFail ends the span of a claim that is answered with a failure, and is run by nobody.
func (c *claim) traceFail(outcome, code, message string) {
	c.span.String(telemetry.Outcome, outcome)
	c.span.Fail(code, message)
	c.span.End()
}

// traceInitFailure is [claim.traceFail] for a call whose environment's init failed, of which its function may have said anything.
func (c *claim) traceInitFailure(failure *schema.FunctionError) {
	code := string(schema.CodeInitError)
	if failure != nil {
		code = telemetry.ErrorName(failure.Type)
	}
	c.traceFail(telemetry.OutcomeFailed, code, "its environment's init failed")
}

// traceRefusal is [claim.traceFail] for an error.
func (c *claim) traceRefusal(err error) {
	if c.span.Recording() {
		c.traceFail(telemetry.OutcomeRefused, string(schema.CodeOf(err)), err.Error())
	}
}

// traceCopy begins the span of the copy that a catcher publishes, under its claim, and makes it the parent of who claims the copy.
func (m *Manager) traceCopy(c *claim, call *schema.Call, subject, arc string) telemetry.Span {
	if !m.cfg.Telemetry.Enabled() {
		return telemetry.Span{}
	}
	s := m.cfg.Telemetry.Start(c.span.Context(), telemetry.SpanPublish, telemetry.Producer)
	under := s.Context()
	call.Traceparent, call.Tracestate = under.Traceparent, under.Tracestate
	if s.Recording() {
		s.Set(telemetry.System.String(telemetry.SystemNATS), telemetry.Operation.String(telemetry.OperationSend),
			telemetry.OperationOf.String(telemetry.OperationSend), telemetry.Destination.String(subject),
			telemetry.Conversation.String(call.RequestID), telemetry.MessageBytes.Int(len(call.Payload)+call.Held),
			telemetry.Manager.String(m.cfg.ID), telemetry.Invoked.String(call.Function), telemetry.Arc.String(arc),
			telemetry.Reason.String(string(call.Reason)), telemetry.Attempt.Int(int(call.Attempt)))
		if call.Tenant != "" {
			s.String(telemetry.Tenant, call.Tenant)
		}
	}
	return s
}

// outcome is what the span of a claim says of a line that it did not cross.
func (l line) outcome() string {
	if l == lost {
		return telemetry.OutcomeNotOurs
	}
	return telemetry.OutcomeUnclear
}
