package main

import (
	"runtime"
	"testing"
)

// One short measurement: who has an endpoint sends all its spans or a part of them, who has none sends none, and the figures agree with one
// another. None of them is judged.
func TestBenchOfTelemetry(t *testing.T) {
	t.Parallel()
	r := alone(t, "bench", "--own", "--driver", "null", "--telemetry", "--duration", "600ms", "--json")
	if r.code != exitOK {
		t.Fatalf("exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	got := decode[telemetryResult](t, r.stdout)
	if got.Errors != 0 || got.Rounds == 0 || len(got.Sides) != len(telemetrySides) {
		t.Fatalf("%s", r.stdout)
	}
	for i, s := range got.Sides {
		if s.Side != telemetrySides[i].name || s.Load.Calls == 0 || s.RatioP50.Mid <= 0 || s.RatioP50.Low > s.RatioP50.Mid || s.RatioP50.Mid > s.RatioP50.High {
			t.Errorf("%+v", s)
		}
		if runtime.GOOS == "linux" && (s.CPU == nil || s.More == nil || s.InTurns.Mid <= 0) {
			t.Errorf("%s: CPU was not read", s.Side)
		}
		switch endpoint := telemetrySides[i].sampler != nil; {
		case !endpoint && (s.Spans != 0 || s.Metrics != 0):
			t.Errorf("%s: %v spans a call, %d pushes of metrics", s.Side, s.Spans, s.Metrics)
		case i == 2 && s.Spans <= got.Sides[3].Spans: // four of a warm call, less what a queue that is full leaves out: on a busy host most
			t.Errorf("all sampled: %v spans a call", s.Spans)
		case i == 3 && s.Spans > 1:
			t.Errorf("one in a hundred sampled: %v spans a call", s.Spans)
		}
	}
	if s := got.Sides[0]; runtime.GOOS == "linux" && (*s.More != 0 || s.Ratio != 1) || s.RatioP50.Mid != 1 {
		t.Errorf("beside itself: %+v", s)
	}
	for _, args := range [][]string{{"--telemetry"}, {"--own", "--telemetry", "--events"}, {"--own", "--telemetry", "--twin", "hop"}} {
		if r := alone(t, append([]string{"bench"}, args...)...); r.code != exitUsage {
			t.Errorf("%v: exit %d, %s", args, r.code, r.stderr)
		}
	}
}
