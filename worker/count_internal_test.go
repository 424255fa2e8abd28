package worker

import (
	"testing"
	"time"

	"github.com/hearth-run/hearth/schema"
)

// Counting a call that an environment ran takes atomics that are at hand, whoever looks at them.
func TestCountingAllocatesNothing(t *testing.T) {
	w := &Worker{metrics: newMetrics(), usage: newUsage()}
	e := &environment{worker: w, binding: &schema.Binding{Account: "default", Function: "f", Key: schema.Key{Version: "1"}, MemoryMB: 128}}
	e.counts()
	e.countsFor("acme")
	run := &schema.Run{Call: &schema.Call{Account: "default", Function: "f", Reason: schema.ReasonSpillover}, Start: schema.StartWarm}
	x := &execution{run: run, started: time.Now()}
	for _, o := range []*schema.Outcome{
		{Duration: time.Millisecond}, {Error: &schema.FunctionError{Type: string(schema.CodeTimedOut)}},
	} {
		if n := testing.AllocsPerRun(1000, func() {
			w.countCall(e, run, o, true)
			w.metrics.answered(x, o)
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
	}
	if row := e.counted.usage; row.key.tenant != "acme" || row.calls.Load() != 2002 || row.errors.Load() != 1001 {
		t.Errorf("counted %+v", row.counts())
	}
}

func BenchmarkCount(b *testing.B) {
	w := &Worker{metrics: newMetrics(), usage: newUsage()}
	e := &environment{worker: w, binding: &schema.Binding{Account: "default", Function: "f", Key: schema.Key{Version: "1"}, MemoryMB: 128}}
	e.counts()
	run := &schema.Run{Call: &schema.Call{Account: "default", Function: "f", Reason: schema.ReasonUnreserved}, Start: schema.StartWarm}
	x, o := &execution{run: run, started: time.Now()}, &schema.Outcome{Duration: 50 * time.Microsecond}
	b.ReportAllocs()
	for b.Loop() {
		w.countCall(e, run, o, true)
		w.metrics.answered(x, o)
	}
}
