package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hearth-run/hearth/schema"
)

// Bounds and defaults of a measurement of events.
const (
	maxEventsDuration = time.Minute // the stream of events is bounded, and nobody takes out what is only accepted
	defaultDrain      = 100_000
	maxDrain          = 2_000_000
	defaultRunning    = 8
	maxRunning        = 128
)

// eventsResult is what `bench --events --json` prints: each part beside its plain twin. Ratios are medians over the rounds of
// the ratio within a round, but for the drain, which is one.
type eventsResult struct {
	Accept     []acceptResult `json:"accept,omitempty"` // absent, as the next, where the driver runs no code
	Run        *runResult     `json:"run,omitempty"`
	Drain      *drainResult   `json:"drain,omitempty"` // absent where it was left out
	Errors     int            `json:"errors"`
	FirstError string         `json:"first_error,omitempty"`
	Driver     string         `json:"driver"`
	Loop       string         `json:"loop,omitempty"`
}

// acceptResult is from the publish until its PubAck, with so many in flight.
type acceptResult struct {
	Event       benchSide `json:"event"`
	Publish     benchSide `json:"publish"` // js.Publish to an equal file stream
	RatioP50    float64   `json:"ratio_p50"`
	RatioRate   float64   `json:"ratio_rate"`
	Concurrency int       `json:"concurrency"`
	Connections int       `json:"connections"`
	Rounds      int       `json:"rounds"`
}

// runResult is from the publish until the function has run, one event at a time.
type runResult struct {
	Event    latencySide `json:"event"`
	Queue    latencySide `json:"queue"` // a file work queue with a hand-written worker
	RatioP50 float64     `json:"ratio_p50"`
	RatioP99 float64     `json:"ratio_p99"` // of all events
	Rounds   int         `json:"rounds"`
}

type latencySide struct {
	P50   float64 `json:"p50_us"`
	P99   float64 `json:"p99_us"`
	Calls int     `json:"calls"`
}

// drainResult is a backlog until it is gone.
type drainResult struct {
	Events    int         `json:"events"`
	Running   int         `json:"running"` // at once
	Event     drainSide   `json:"event"`
	Queue     drainSide   `json:"queue"` // a file work queue with a hand-written worker, half before and half after
	RatioRate float64     `json:"ratio_rate"`
	Retries   int         `json:"retries"`          // messages on RETRIES meanwhile
	Memory    *memorySide `json:"memory,omitempty"` // of the fabric's process, its NATS server included
}

// drainSide counts from the last PubAck on: what was taken out before is not measured.
type drainSide struct {
	Measured int      `json:"measured"`
	Seconds  float64  `json:"seconds"`
	Rate     float64  `json:"rate"`
	CPU      *float64 `json:"cpu_us,omitempty"` // for each, of all that works on it: the fabric with its server, the worker, functions
}

// memorySide is resident memory in MiB: before the backlog, with it, the most until it is gone, and then.
type memorySide struct {
	Start  float64 `json:"start_mib"`
	Filled float64 `json:"filled_mib"`
	Peak   float64 `json:"peak_mib"`
	End    float64 `json:"end_mib"`
	Ratio  float64 `json:"ratio_peak_start"`
}

// validateEvents checks what `bench --events` is asked for.
func (f *benchFlags) validateEvents() error {
	if !f.events {
		return nil
	}
	switch {
	case !f.own:
		return usagef("--events measures a fabric of its own; add --own")
	case f.twin != "":
		return usagef("--twin is for calls; leave it out with --events")
	case f.payload != "":
		return usagef("--payload is for calls; leave it out with --events")
	case f.duration > maxEventsDuration:
		return usagef("--duration is %v; up to %v with --events", f.duration, maxEventsDuration)
	case f.drain < 0 || f.drain > maxDrain || f.drain == 1:
		return usagef("--drain is %d; 2 to %d events, or 0 to leave it out", f.drain, maxDrain)
	case f.drain == 0 && f.driver == "null":
		return usagef("--drain is 0 and --driver null has no function to measure with; leave one of them out")
	case f.running < 1 || f.running > maxRunning:
		return usagef("--running is %d; 1 to %d", f.running, maxRunning)
	}
	return nil
}

// runBenchEvents starts a fabric, deploys the function, starts the plain worker beside it, and lets a process of its own
// measure.
func (a *app) runBenchEvents(cmd *cobra.Command, f benchFlags) error {
	ctx := cmd.Context()
	stop := a.progress("starting a fabric to measure")
	// A function's events may use its share of the places: all of them over the functions with a backlog and one.
	own, err := startOwnFabric(ctx, f.driver, 2*f.running, "--measured", "--drain-timeout", "1s")
	stop()
	if err != nil {
		return err
	}
	defer own.stop()
	name := "bench-" + strings.ToLower(rand.Text()[:8])
	e, remove, err := a.deployEcho(ctx, own.target, name, f, speaker, schema.MaxTimeout)
	if err != nil {
		return err
	}
	defer remove()
	queue := queueSpec{Target: specOf(own.target), Running: f.running}
	if f.driver != "null" {
		queue.Hop = e.hop(nil)
	}
	worker, err := startPart(ctx, "bench-queue", queue)
	if err != nil {
		return err
	}
	defer worker.stop()
	if err := worker.ready(ctx); err != nil {
		return err
	}
	spec := eventsSpec{
		Target: queue.Target, Function: name, Runs: queue.Hop != nil, Connections: f.connections, Duration: f.duration, Slice: benchSlice,
		Drain: f.drain, Running: f.running, PID: own.target.note.PID, Worker: worker.cmd.Process.Pid, InFlight: []int{1},
	}
	if f.concurrency > 1 {
		spec.InFlight = append(spec.InFlight, f.concurrency)
	}
	stop = a.progress("measuring")
	result, err := measure[eventsResult](ctx, "bench-events", spec)
	stop()
	if err != nil {
		return err
	}
	result.Driver, result.Loop = f.driver, e.loop
	return a.printEvents(cmd, result)
}

func (a *app) printEvents(cmd *cobra.Command, r *eventsResult) error {
	var err error
	if asJSON(cmd) {
		err = a.printJSON(r)
	} else {
		err = a.printEventsTable(r)
	}
	if err == nil && r.Errors > 0 {
		err = fmt.Errorf("%s, the first: %s", plural(r.Errors, "failure", "failures"), r.FirstError)
	}
	return err
}

func (a *app) printEventsTable(r *eventsResult) error {
	t := a.table("", "EVENTS", "PLAIN TWIN", "RATIO", "AIM")
	us := func(v float64) string { return fmt.Sprintf("%.0f us", v) }
	rate := func(v float64) string { return fmt.Sprintf("%.0f a second", v) }
	row := func(what, event, twin string, ratio float64, aim string) {
		t.row(what, event, twin, fmt.Sprintf("%.2f", ratio), aim)
	}
	for _, s := range r.Accept {
		at := fmt.Sprintf(", %d in flight", s.Concurrency)
		row("accepted, p50"+at, us(s.Event.P50), us(s.Publish.P50), s.RatioP50, "at most 1.1")
		row("accepted"+at, rate(s.Event.Rate), rate(s.Publish.Rate), s.RatioRate, "at least 0.9")
	}
	if s := r.Run; s != nil {
		row("handed in until run, p50", us(s.Event.P50), us(s.Queue.P50), s.RatioP50, "at most 5, better 3")
	}
	if s := r.Drain; s != nil {
		row(fmt.Sprintf("%d drained, %d at once", s.Events, s.Running), rate(s.Event.Rate), rate(s.Queue.Rate), s.RatioRate, "at least 0.6")
		if m := s.Memory; m != nil {
			mib := func(v float64) string { return fmt.Sprintf("%.0f MiB", v) }
			t.row("memory, most", mib(m.Peak), "at the start "+mib(m.Start), fmt.Sprintf("%.2f", m.Ratio), "flat")
		}
	}
	if err := t.flush(); err != nil {
		return err
	}
	what := "driver " + r.Driver
	if r.Loop != "" {
		what += ", function by " + r.Loop
	}
	_, err := fmt.Fprintln(a.stdout, what+", "+plural(r.Errors, "error", "errors"))
	return err
}

// idlePause lies between two events of the idle system: all that followed the last one has ended by then.
const idlePause = 10 * time.Millisecond

// pause waits so long, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
