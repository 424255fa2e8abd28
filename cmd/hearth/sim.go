package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hearth-run/hearth/deploy/sim"
	"github.com/hearth-run/hearth/schema"
)

// simFlags are what was asked for.
type simFlags struct {
	trace        string
	managers     int
	capacity     int
	frontends    int
	reserve, set []string
	init, hop    time.Duration
	lag          time.Duration
	functions    int
	rate         float64
	duration     time.Duration
	seed         uint64
}

func (a *app) sim() *cobra.Command {
	var f simFlags
	cmd := &cobra.Command{
		Use:   "sim",
		Short: "Run a trace of calls over simulated managers, in virtual time",
		Long: `Run calls over simulated managers, in virtual time: the arc of each call, the warm pools, shares, arcs and catchers are decided by the
code that a fabric runs; the NATS server, its network, inits and runs are simulated. It needs no fabric, and the same input gives the
same output. Use it to see what --managers, --capacity, a reservation or a number of the fabric would do to calls that you know.

--trace names a CSV file (- is standard input) with a header and the columns at_ms, function and duration_ms, and where you know them
init_ms, tenant and memory_mb. It is read line by line, however long it is; lines may be up to 65,536 calls out of order. Without it
calls are drawn from --seed: Poisson arrivals at --rate a second, functions f1, f2, ... by Zipf, and in the middle, for a tenth of the
time, a burst of five times the rate.

--reserve NAME=N has N environments of a function ready before the first call; NAME=N@D asks for that D after it, or changes it.

The last lines compare with an all-knowing scheduler on the same places: one queue over all managers, any idle environment of the kind, a
new one only where none would be ready before it, in the place of the one whose next use is furthest in the future; each ends with its
last call. What it needs could have been enough; a fabric whose reservations make environments ahead, or that refuses calls, may have
fewer cold starts.

Keys of --json: managers capacity frontends seconds calls{total ran refused} starts{cold specialised warm} reasons{reserved spillover
scale overflow unreserved refused} refusals{full max_environments growth start_by subject_full tenant} wait{p50_ms p99_ms max_ms}
environments{made members evicted expired reclaimed most seconds} utilisation{environments capacity} arcs{grown shrunk} caught
handed_over messages{by kind} messages_per_call per_manager[id calls cold made most_places utilisation] reservations[function limit
size open] all_knowing{made refused wait_p99_ms environment_seconds exact made_ratio environment_time_ratio}. members are environments
made for reservations, most how many there were at once, open whether the reserved arc takes calls, exact whether the all-knowing one saw
all calls from the first on.`,
		Example: `  hearth sim
  hearth sim --managers 3 --capacity 20 --rate 300 --reserve f1=10
  hearth sim --trace calls.csv --reserve resize=10 --reserve resize=4@60s --set reclaim=2s
  gunzip -c calls.csv.gz | hearth sim --trace - --set theta=0.9 --json | jq .starts
  printf 'at_ms,function,duration_ms\n0,count,20\n5,count,20\n' | hearth sim --trace -`,
		GroupID: groupSee,
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := f.config()
			if err != nil {
				return err
			}
			return a.runSim(cmd, cfg, f)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.trace, "trace", "", "CSV file of calls; - is standard input (default: calls drawn from --seed)")
	flags.IntVar(&f.managers, "managers", sim.DefaultManagers, "managers on the ring")
	flags.IntVar(&f.capacity, "capacity", sim.DefaultCapacity, "environments of 128 MB, of each manager")
	flags.IntVar(&f.frontends, "frontends", sim.DefaultFrontends, "frontends, which take the calls in turns")
	flags.StringArrayVar(&f.reserve, "reserve", nil, "NAME=N or NAME=N@D, environments of a function kept ready (repeatable)")
	flags.StringArrayVar(&f.set, "set", nil, "KEY=VALUE, a number of the fabric (repeatable; \"hearth fabric get\" lists them)")
	flags.DurationVar(&f.init, "init", sim.DefaultInit, "init of functions whose calls tell none")
	flags.DurationVar(&f.hop, "hop", sim.DefaultHop, "way of a message to the NATS server, and from it")
	flags.DurationVar(&f.lag, "lag", 0, "by which statuses come later to the last frontend: its view is behind")
	flags.IntVar(&f.functions, "functions", sim.DefaultFunctions, "functions of the drawn calls")
	flags.Float64Var(&f.rate, "rate", sim.DefaultRate, "drawn calls a second, outside the burst")
	flags.DurationVar(&f.duration, "duration", sim.DefaultDuration, "for how long they come")
	flags.Uint64Var(&f.seed, "seed", 1, "what they are drawn from")
	_ = cmd.RegisterFlagCompletionFunc("set", completeFabricKey("="))
	jsonFlag(cmd)
	return cmd
}

// config is the fabric that the flags describe.
func (f *simFlags) config() (sim.Config, error) {
	cfg := sim.Config{
		Managers: f.managers, Capacity: f.capacity, Frontends: f.frontends, Fabric: schema.DefaultFabric(), Init: f.init, Hop: f.hop, Lag: f.lag,
	}
	set, err := fabricValues(f.set)
	if err != nil {
		return cfg, fmt.Errorf("--set: %w", err)
	}
	for key, value := range set {
		if err := cfg.Fabric.Set(key, value); err != nil {
			return cfg, fmt.Errorf("--set: %w", err)
		}
	}
	for _, text := range f.reserve {
		r, err := parseReserve(text)
		if err != nil {
			return cfg, err
		}
		cfg.Reserve = append(cfg.Reserve, r)
	}
	switch { // 0 stands for the default there
	case f.managers < 1 || f.managers > sim.MaxManagers:
		return cfg, usagef("--managers is %d; 1 to %d", f.managers, sim.MaxManagers)
	case f.capacity < 1 || f.capacity > sim.MaxCapacity:
		return cfg, usagef("--capacity is %d; 1 to %d", f.capacity, sim.MaxCapacity)
	case f.frontends < 1 || f.frontends > sim.MaxFrontends:
		return cfg, usagef("--frontends is %d; 1 to %d", f.frontends, sim.MaxFrontends)
	case f.init < time.Microsecond || f.init > sim.MaxDelay:
		return cfg, usagef("--init is %v; 1us to %v", f.init, sim.MaxDelay)
	case f.hop < time.Microsecond || f.hop > sim.MaxDelay:
		return cfg, usagef("--hop is %v; 1us to %v", f.hop, sim.MaxDelay)
	case f.functions < 1 || f.functions > sim.MaxFunctions:
		return cfg, usagef("--functions is %d; 1 to %d", f.functions, sim.MaxFunctions)
	case !(f.rate > 0 && f.rate <= sim.MaxRate):
		return cfg, usagef("--rate is %v; above 0, at most %v", f.rate, sim.MaxRate)
	case f.duration <= 0 || f.duration > sim.MaxDuration:
		return cfg, usagef("--duration is %v; above 0, at most %v", f.duration, sim.MaxDuration)
	}
	return cfg, inSimFlags(cfg.Validate())
}

// parseReserve reads NAME=N or NAME=N@D.
func parseReserve(text string) (r sim.Reservation, err error) {
	const wanted = "--reserve is %q; NAME=N or NAME=N@D is wanted, for instance resize=10 or resize=4@60s"
	name, rest, ok := strings.Cut(text, "=")
	n, at, timed := strings.Cut(rest, "@")
	if !ok {
		return r, usagef(wanted, text)
	}
	r.Function = name
	if r.Limit, err = strconv.Atoi(n); err != nil || r.Limit < 0 {
		return r, usagef(wanted, text)
	}
	if timed {
		if r.At, err = time.ParseDuration(at); err != nil || r.At < 0 {
			return r, usagef(wanted, text)
		}
	}
	return r, nil
}

// inSimFlags names the flags that a refusal of the simulation speaks of.
func inSimFlags(err error) error {
	var e *schema.Error
	if !errors.As(err, &e) || len(e.Fields) == 0 {
		return err
	}
	parts := make([]string, len(e.Fields))
	for i, field := range e.Fields {
		parts[i] = "--" + field.String()
	}
	return usagef("%s", strings.Join(parts, "; "))
}

func (a *app) runSim(cmd *cobra.Command, cfg sim.Config, f simFlags) error {
	src, closes, err := a.simSource(f)
	if err != nil {
		return err
	}
	defer closes()
	defer a.progress("simulating")()
	r, err := sim.Run(cmd.Context(), cfg, src)
	if err != nil {
		return inTrace(f.trace, err)
	}
	return a.printSim(cmd, r)
}

// simSource is where the calls come from.
func (a *app) simSource(f simFlags) (src sim.Source, closes func(), err error) {
	closes = func() {}
	if f.trace == "" {
		return &sim.Workload{Functions: f.functions, Rate: f.rate, Duration: f.duration, Seed: f.seed}, closes, nil
	}
	for _, drawn := range []string{"functions", "rate", "duration", "seed"} {
		if a.settings.source[drawn] == "flag" {
			return nil, closes, usagef("--%s is of calls that are drawn, and --trace names others; leave one of them out", drawn)
		}
	}
	var in io.Reader = a.stdin
	if f.trace != "-" {
		file, err := os.Open(f.trace)
		if err != nil {
			var pe *fs.PathError
			if errors.As(err, &pe) {
				err = pe.Err
			}
			return nil, closes, usagef("--trace %s: %v; a CSV file is wanted, or - for standard input", f.trace, err)
		}
		in, closes = file, func() { file.Close() }
	}
	t, err := sim.NewTrace(in)
	if err != nil {
		closes()
		return nil, func() {}, inTrace(f.trace, err)
	}
	return t, closes, nil
}

// inTrace says of which trace a bad line is.
func inTrace(trace string, err error) error {
	var line *sim.LineError
	switch {
	case errors.As(err, &line):
		return usagef("--trace %s, %v", trace, line)
	case trace != "" && schema.CodeOf(err) == schema.CodeInvalidParameter:
		return usagef("--trace %s: %s", trace, strings.TrimPrefix(inSimFlags(err).Error(), "--"))
	}
	return inSimFlags(err)
}
