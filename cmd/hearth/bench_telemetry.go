package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// What telemetry costs a call is measured on fabrics that are alike but for where their spans go, called in turns within one run: one
// whose Config leaves telemetry out, one as `hearth up` is without an endpoint, one that sends the spans of all calls to a collector, and
// one that sends those of one call in a hundred. All of them keep stories and count for metrics, as shipped; those with an endpoint
// send their metrics, too. The collector is a process of its own, whose CPU time is nobody's here.
var telemetrySides = [...]struct {
	name    string
	told    bool     // telemetry is set up as `hearth up` does it, else left out
	sampler []string // values of the standard variables; nil: no endpoint
}{
	{name: "left out"},
	{name: "no endpoint", told: true},
	{name: "all sampled", told: true, sampler: []string{otelSampler + "=parentbased_always_on"}},
	{name: "1 in 100", told: true, sampler: []string{otelSampler + "=parentbased_traceidratio", otelSamplerArg + "=0.01"}},
}

// batchDelay is OTel's own wait for a batch of spans to fill; a short measurement shortens it, so that all of its spans are sent within it.
const batchDelay = 5 * time.Second

// telemetryResult is what `bench --telemetry --json` prints.
type telemetryResult struct {
	Sides       []telemetrySide `json:"sides"`
	Driver      string          `json:"driver"`
	Loop        string          `json:"loop,omitempty"`
	Concurrency int             `json:"concurrency"`
	Rounds      int             `json:"rounds"`
	Errors      int             `json:"errors"`
	FirstError  string          `json:"first_error,omitempty"`
}

// telemetrySide is one of the fabrics. Ratios are to the one that leaves telemetry out. CPU is that of the fabric's process for each call
// over the whole run, what it sends between its turns included, and what it uses idle taken off; absent where it cannot be read.
type telemetrySide struct {
	Side     string    `json:"side"`
	Load     benchSide `json:"load"` // in its turns
	CPU      *float64  `json:"cpu_us,omitempty"`
	More     *float64  `json:"more_us,omitempty"` // than without telemetry
	Ratio    float64   `json:"ratio_cpu,omitempty"`
	InTurns  spread    `json:"ratio_cpu_in_turns"` // of the CPU within its turns, over the rounds
	RatioP50 spread    `json:"ratio_p50"`
	Spans    float64   `json:"spans_a_call"` // that the collector has
	Metrics  int       `json:"metric_pushes"`
}

// spread is the middle of the figures of all rounds, and between what the middle half of them lies: the noise.
type spread struct {
	Low  float64 `json:"low"`
	Mid  float64 `json:"mid"`
	High float64 `json:"high"`
}

// validateTelemetry checks what `bench --telemetry` is asked for.
func (f *benchFlags) validateTelemetry() error {
	switch {
	case !f.telemetry:
		return nil
	case !f.own:
		return usagef("--telemetry measures fabrics of its own; add --own")
	case f.events || f.reservations > 0 || f.twin != "":
		return usagef("--telemetry, --events, --reservations and --twin are measurements apart; leave out all but one")
	}
	return nil
}

// telemetryBench is a run.
type telemetryBench struct {
	app       *app
	flags     benchFlags
	collector *part
	fabrics   []*measuredFabric
	remove    []func()
	spec      telemetrySpec
	result    telemetryResult
}

func (a *app) runBenchTelemetry(cmd *cobra.Command, f benchFlags) error {
	b := &telemetryBench{app: a, flags: f}
	defer b.stop()
	for _, step := range []func(context.Context) error{b.start, b.measure} {
		if err := step(cmd.Context()); err != nil {
			return err
		}
	}
	return a.printTelemetryResult(cmd, &b.result)
}

func (b *telemetryBench) stop() {
	for _, remove := range b.remove {
		remove()
	}
	for _, f := range b.fabrics {
		f.stop()
	}
	if b.collector != nil {
		b.collector.stop() // after those that send to it
	}
}

// start starts the collector and the fabrics, and makes an echo in each.
func (b *telemetryBench) start(ctx context.Context) (err error) {
	stop := b.app.progress("starting fabrics to measure")
	defer func() { stop() }()
	if b.collector, err = startPart(ctx, "bench-otlp", struct{}{}); err != nil {
		return err
	}
	line, err := b.collector.line(ctx)
	if err != nil {
		return err
	}
	url := strings.TrimSpace(string(line))
	b.spec = telemetrySpec{Collector: url, Function: "echo", Payload: []byte(b.flags.payload), Callers: b.flags.concurrency, Duration: b.flags.duration, Slice: benchSlice,
		Settle: min(batchDelay, b.flags.duration/4)}
	if len(b.spec.Payload) == 0 {
		b.spec.Payload = echoPayload()
	}
	for i, side := range telemetrySides {
		env := []string{} // those of OpenTelemetry that this process has are not for it
		if side.sampler != nil {
			env = append(env, fmt.Sprintf("%s=%s/%d", otelEndpoint, url, i), fmt.Sprintf("OTEL_BSP_SCHEDULE_DELAY=%d", b.spec.Settle.Milliseconds()))
			env = append(env, side.sampler...)
		}
		folder, err := os.MkdirTemp("", "hearth-bench-")
		if err != nil {
			return fmt.Errorf("make a folder for the fabric: %w", err)
		}
		f, err := awaitMeasured(ctx, folder, "bench-fabric", fabricSpec{
			Folder: folder, Managers: 1, Capacity: 2*b.flags.concurrency + 8, Driver: b.flags.driver, Telemetry: side.told,
		}, env...)
		if err != nil {
			return err
		}
		b.fabrics = append(b.fabrics, f)
		stop()
		e, remove, err := b.app.deployEcho(ctx, f.target, b.spec.Function, b.flags, plainEcho, 10*time.Second)
		if err != nil {
			return err
		}
		b.remove = append(b.remove, remove)
		b.result.Loop = e.loop
		b.spec.Sides = append(b.spec.Sides, telemetrySideSpec{specOf(f.target), f.target.note.PID})
	}
	return nil
}

// measure lets a process of its own call.
func (b *telemetryBench) measure(ctx context.Context) error {
	defer b.app.progress(fmt.Sprintf("measuring for %v", b.flags.duration))()
	m, err := measure[telemetryMeasured](ctx, "bench-traced", b.spec)
	if err != nil {
		return err
	}
	r := &b.result
	r.Driver, r.Concurrency, r.Rounds, r.Errors, r.FirstError = b.flags.driver, b.flags.concurrency, m.Rounds, m.Errors, m.FirstError
	for i, side := range m.Sides {
		one := telemetrySide{Side: telemetrySides[i].name, Load: side, CPU: m.CPU[i], InTurns: m.RatioCPU[i], RatioP50: m.RatioP50[i],
			Spans: rounded(ratio(float64(m.Came[i].Spans), float64(side.Calls))), Metrics: m.Came[i].Metrics}
		if one.CPU != nil && m.CPU[0] != nil {
			more := rounded(*one.CPU - *m.CPU[0])
			one.More, one.Ratio = &more, rounded(ratio(*one.CPU, *m.CPU[0]))
		}
		r.Sides = append(r.Sides, one)
	}
	return nil
}

func (a *app) printTelemetryResult(cmd *cobra.Command, r *telemetryResult) error {
	var err error
	if asJSON(cmd) {
		err = a.printJSON(r)
	} else {
		err = a.printTelemetryTable(r)
	}
	if err == nil && r.Errors > 0 {
		err = fmt.Errorf("%s, the first: %s", plural(r.Errors, "call failed", "calls failed"), r.FirstError)
	}
	return err
}

func (a *app) printTelemetryTable(r *telemetryResult) error {
	figure := func(v *float64, format string) string {
		if v == nil {
			return "-"
		}
		return fmt.Sprintf(format, *v)
	}
	between := func(s spread) string { return fmt.Sprintf("%.2f (%.2f to %.2f)", s.Mid, s.Low, s.High) }
	t := a.table("TELEMETRY", "CALLS/S", "P50", "RATIO", "FABRIC CPU", "MORE", "RATIO", "RATIO IN TURNS", "SPANS")
	for _, s := range r.Sides {
		t.row(s.Side, fmt.Sprintf("%.0f", s.Load.Rate), fmt.Sprintf("%.0f us", s.Load.P50), between(s.RatioP50), figure(s.CPU, "%.1f us a call"),
			figure(s.More, "%+.1f us"), fmt.Sprintf("%.2f", s.Ratio), between(s.InTurns), fmt.Sprintf("%.2f a call", s.Spans))
	}
	if err := t.flush(); err != nil {
		return err
	}
	what := "driver " + r.Driver
	if r.Loop != "" {
		what += ", echo by " + r.Loop
	}
	_, err := fmt.Fprintf(a.stdout, "%s, %d in flight, %s, %s, stories and metrics on in all; OTLP over HTTP to a process of its own\n", what, r.Concurrency,
		plural(r.Rounds, "round", "rounds"), plural(r.Errors, "error", "errors"))
	return err
}
