package manager

import (
	"testing"
	"time"

	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
)

// What a claim's span costs where nobody records it: nothing, and the caller's context goes on.
func TestSpansThatNobodyRecords(t *testing.T) {
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	m := &Manager{}
	c := &claim{call: schema.Call{Traceparent: trace, RequestID: "id"}}
	err := schema.Errorf(schema.CodeCapacityExceeded, "full")
	if n := testing.AllocsPerRun(100, func() {
		m.traceArrival(c)
		c.span.Event(telemetry.EventUnpromised, telemetry.To, "m2")
		m.traceCopy(c, &c.call, "subject", "u.1").End()
		m.traceStart(c, "e1", schema.StartCold, time.Second)
		c.traceEnd(telemetry.OutcomeGivenBack)
		c.traceRefusal(err)
	}); n != 0 || c.call.Traceparent != trace {
		t.Errorf("%v allocations, %s goes on", n, c.call.Traceparent)
	}
}
