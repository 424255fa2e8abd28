package manager

import (
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
)

// traceArrival begins the span of a claim: from its arrival to its start, or to whatever else became of it.
func (m *Manager) traceArrival(c *claim) {
	if !m.cfg.Telemetry.Enabled() {
		return
	}
	parent := telemetry.Parent{Traceparent: c.call.Traceparent, Tracestate: c.call.Tracestate}
	attrs := []attribute.KeyValue{
		telemetry.System.String(telemetry.SystemNATS), telemetry.Operation.String("claim"),
		telemetry.OperationOf.String(telemetry.OperationReceive), telemetry.Destination.String(c.subject),
		telemetry.Group.String(c.ack.Consumer), telemetry.MessageBytes.Int(len(c.call.Payload) + c.call.Held),
		telemetry.RequestID.String(c.call.RequestID), telemetry.Account.String(c.call.Account),
		telemetry.Invoked.String(c.call.Function), telemetry.Version.String(c.call.Version),
		telemetry.Manager.String(m.cfg.ID), telemetry.Frontend.String(c.call.Frontend), telemetry.Arc.String(c.arc),
		telemetry.Reason.String(string(c.call.Reason)), telemetry.Rank.Int(c.rank), telemetry.Attempt.Int(int(c.call.Attempt)),
		telemetry.Deliveries.Int(int(c.ack.Delivered)), telemetry.Sequence.Int64(int64(c.ack.StreamSeq)),
	}
	if c.call.Tenant != "" {
		attrs = append(attrs, telemetry.Tenant.String(c.call.Tenant))
	}
	c.span = m.cfg.Telemetry.Start(parent, telemetry.SpanClaim, telemetry.Consumer, attrs...)
}

// traceStart ends the span of a claim that starts, and makes it the parent of what the worker records.
func (c *claim) traceStart(environment string, start schema.Start, init time.Duration) {
	if !c.span.Recording() {
		return
	}
	c.span.String(telemetry.Instance, environment)
	c.span.String(telemetry.Start, string(start))
	c.span.Bool(telemetry.Cold, start == schema.StartCold)
	if init > 0 {
		c.span.Int(telemetry.Init, int(init.Milliseconds()))
	}
	next := c.span.Context()
	c.call.Traceparent, c.call.Tracestate = next.Traceparent, next.Tracestate
	c.span.End()
}

// traceEnd ends the span of a claim that does not start here.
func (c *claim) traceEnd(why string) {
	c.span.Fail(why, "not started here")
	c.span.End()
}
