package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hearth-run/hearth/schema"
)

// Bounds and defaults of a measurement.
const (
	maxConcurrency = 1024
	maxDuration    = 10 * time.Minute
	benchSlice     = 250 * time.Millisecond
	benchPayload   = 128 // bytes
	// benchConnections is how many connections the callers share at most: so many that no one of them is what is measured, and so
	// few that the messages of many callers travel together.
	benchConnections = 8
)

// benchFlags are what was asked for.
type benchFlags struct {
	concurrency int
	duration    time.Duration
	function    string
	payload     string
	driver      string
	loop        string
	connections int
	twin        string
	own         bool

	events         bool
	drain, running int

	reservations int
	telemetry    bool
}

// twinHop is the value of --twin.
const twinHop = "hop"

func (a *app) bench() *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure calls against plain NATS request-reply, interleaved in one run",
		Long: `Measure a closed loop of calls and, in turns of 250 ms within the same run, a plain NATS request-reply echo through the
same server: p50, p99, rate, the fabric's CPU time for each call (Linux), and the ratios of the two. Read the ratios:
absolute figures are those of this machine at this moment.

Caller, core echo and fabric are processes of their own, over TCP on loopback. It measures the fabric that --server,
--context or a running ` + "`hearth up`" + ` of this user name, else (or with --own) one of its own in a temporary folder.
Without --function it deploys an echo for the time of the run.

With --twin hop the turns have a third side: the same package in the same kind of process behind the same Runtime API
server, called in a loop without NATS. No fabric can be quicker than core NATS and that hop together.

With --events it measures events in a fabric of its own, each part beside its plain twin on the same server: the PubAck
(js.Publish to an equal file stream; one at a time, and --concurrency at once), from the publish until the function has run,
one at a time in an idle system, and how quickly a backlog of --drain events goes, --running at once (a file work queue with
a hand-written worker that runs the same function on the bare Runtime API). The drain takes as long as it takes, each other
part --duration. With --driver null there is no function, and the drain alone is measured.

With --reservations N it measures what reservations cost, in fabrics of its own that are alike but for how many they hold: one,
those that are busy (64 at most, spread over all, one caller each), and N. They are called in turns within one run. It prints
the rates and their ratio, what each fabric uses while nobody calls (CPU, memory, goroutines), the p50 of a reserved call beside
that of a warm one without a reservation, and how long a manager that comes and goes keeps up to 200 reservations moving while
all of them are called.

With --telemetry it measures what traces cost a call, in fabrics of its own that are called in turns: one that leaves telemetry out,
one without an endpoint, one that sends the spans of all calls to a collector, and one that sends those of one in a hundred. It prints
the fabric's CPU time for each call over the whole run (what it uses idle is taken off), and the ratios to the first.`,
		Example: `  hearth bench
  hearth bench --concurrency 8 --duration 20s --json
  hearth bench --own --driver null
  hearth bench --own --driver null --concurrency 256
  hearth bench --own --loop aws              # an echo on aws-lambda-go instead of our lean loop
  hearth bench --own --loop aws --twin hop   # and what it costs without a fabric
  hearth bench --own --events --concurrency 16
  hearth bench --own --driver null --reservations 1000
  hearth bench --own --telemetry --duration 60s
  hearth bench --function count --payload '{"text": "a b"}'`,
		GroupID: groupSee,
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.validate(); err != nil {
				return err
			}
			switch {
			case f.events:
				return a.runBenchEvents(cmd, f)
			case f.reservations > 0:
				return a.runBenchReservations(cmd, f)
			case f.telemetry:
				return a.runBenchTelemetry(cmd, f)
			}
			return a.runBench(cmd, f)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.IntVar(&f.concurrency, "concurrency", 1, "callers, each with one request in flight")
	flags.IntVar(&f.connections, "connections", 0, "connections that the callers share (default: one for each, at most 8)")
	flags.DurationVar(&f.duration, "duration", 10*time.Second, "how long to measure, after the warm-up")
	flags.StringVar(&f.function, "function", "", "function to call (default: an echo made for the run)")
	flags.StringVar(&f.payload, "payload", "", "JSON to call it with (default: a string of 128 bytes)")
	flags.BoolVar(&f.own, "own", false, "measure a fabric of its own, even if one runs")
	flags.StringVar(&f.driver, "driver", "process", "driver of its own fabric: native, process or null")
	flags.StringVar(&f.loop, "loop", "", "what runs the echo: lean, aws, nodejs or python (default: the first that this host has)")
	flags.StringVar(&f.twin, "twin", "", "measure beside it, too: hop, the same function on the bare Runtime API without NATS")
	flags.BoolVar(&f.events, "events", false, "measure events instead of calls, each part beside its plain JetStream twin")
	flags.IntVar(&f.drain, "drain", defaultDrain, "events of the backlog that is drained; 0 leaves it out")
	flags.IntVar(&f.running, "running", defaultRunning, "events that run at once in the drain")
	flags.IntVar(&f.reservations, "reservations", 0, "measure what so many reservations cost, instead of calls")
	flags.BoolVar(&f.telemetry, "telemetry", false, "measure what telemetry costs a call, instead of calls")
	_ = cmd.RegisterFlagCompletionFunc("twin", cobra.FixedCompletions([]string{twinHop}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("driver", completeDriver)
	_ = cmd.RegisterFlagCompletionFunc("loop", cobra.FixedCompletions(loops[:], cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("function", a.completeFunction)
	jsonFlag(cmd)
	return cmd
}

func (f *benchFlags) validate() error {
	switch {
	case f.concurrency < 1 || f.concurrency > maxConcurrency:
		return usagef("--concurrency is %d; 1 to %d", f.concurrency, maxConcurrency)
	case f.duration < time.Millisecond || f.duration > maxDuration:
		return usagef("--duration is %v; up to %v", f.duration, maxDuration)
	case !slices.Contains(drivers, f.driver):
		return usagef("--driver is %q; native, process or null", f.driver)
	case f.payload != "" && !json.Valid([]byte(f.payload)):
		return usagef("--payload is no JSON: %.40q", f.payload)
	case f.function != "" && f.own:
		return usagef("--function names one of a running fabric and --own starts one without any; leave one of them out")
	case f.function != "" && f.loop != "":
		return usagef("--loop is for the echo made for the run; leave it out with --function")
	}
	switch {
	case f.connections < 0 || f.connections > maxConcurrency:
		return usagef("--connections is %d; 1 to %d, or 0 for one a caller, at most %d", f.connections, maxConcurrency, benchConnections)
	case f.twin != "" && f.twin != twinHop:
		return usagef("--twin is %q%s; hop", f.twin, didYouMean(f.twin, []string{twinHop}))
	case f.twin != "" && !f.own:
		return usagef("--twin compares with a fabric of its own; add --own")
	case f.twin != "" && f.driver == "null":
		return usagef("--twin hop runs the function's process, and driver null has none; leave out --driver")
	}
	return cmp.Or(f.validateEvents(), f.validateReservations(), f.validateTelemetry(), knownLoop(f.loop))
}

// runBench finds or starts a fabric, makes the echo, and lets a process of its own measure.
func (a *app) runBench(cmd *cobra.Command, f benchFlags) (err error) {
	ctx := cmd.Context()
	t, err := a.target(cmd)
	if err != nil {
		return err
	}
	running := t.note != nil || a.settings.given("server") || a.settings.given("context")
	if f.function != "" {
		if err := checkFunction(ctx, t, f.function); err != nil {
			return err
		}
	}
	if f.own || !running && f.function == "" {
		stop := a.progress("starting a fabric to measure")
		own, err := startOwnFabric(ctx, f.driver, 2*f.concurrency+8)
		stop()
		if err != nil {
			return err
		}
		defer own.stop()
		t = own.target
	} else if a.settings.given("driver") {
		return usagef("--driver is that of a fabric of its own; add --own, or leave it out")
	}

	spec := callerSpec{
		Target: specOf(t), Callers: f.concurrency, Connections: cmp.Or(f.connections, benchConnections), Duration: f.duration, Slice: benchSlice,
		Payload: []byte(f.payload), Function: f.function, Echo: f.function == "", Subject: "bench-" + strings.ToLower(rand.Text()[:8]),
	}
	if t.note != nil {
		spec.PID = t.note.PID
	}
	if len(spec.Payload) == 0 {
		spec.Payload = echoPayload()
	}
	loop := f.loop
	if f.function == "" {
		spec.Function = spec.Subject
		e, remove, err := a.deployEcho(ctx, t, spec.Function, f, plainEcho, 10*time.Second)
		if err != nil {
			return err
		}
		defer remove()
		if loop = e.loop; f.twin == twinHop {
			spec.Hop = e.hop(spec.Payload)
		}
	}
	echo, err := startPart(ctx, "bench-echo", echoSpec{Target: spec.Target, Subject: spec.Subject})
	if err != nil {
		return err
	}
	defer echo.stop()
	if err := echo.ready(ctx); err != nil {
		return err
	}
	stop := a.progress(fmt.Sprintf("measuring for %v", f.duration))
	result, err := measure[benchResult](ctx, "bench-caller", spec)
	stop()
	if err != nil {
		return err
	}
	result.Loop = loop
	if f.own || !running {
		result.Driver = f.driver
	}
	return a.printBench(cmd, result)
}

// echoPayload is what echoes are called with.
func echoPayload() []byte { return []byte(`"` + strings.Repeat("x", benchPayload-2) + `"`) }

// checkFunction finds out before anything is started whether there is such a function.
func checkFunction(ctx context.Context, t target, name string) error {
	if err := schema.ValidateFunctionName(name); err != nil {
		return inFlags(err)
	}
	c, err := t.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.GetFunctionConfiguration(ctx, name, "")
	return named(ctx, c.Client, name, err)
}

// measure runs a part that measures and reads its result.
func measure[T any](ctx context.Context, name string, spec any) (*T, error) {
	p, err := startPart(ctx, name, spec)
	if err != nil {
		return nil, err
	}
	defer p.stop()
	line, err := p.line(ctx)
	if err != nil {
		return nil, err
	}
	result := new(T)
	if err := json.Unmarshal(line, result); err != nil {
		return nil, fmt.Errorf("read the result of %s %.80q: %w", name, line, err)
	}
	return result, nil
}
