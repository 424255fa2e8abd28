package main

import (
	"cmp"
	"context"
	"math"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sourcegraph/conc"
)

// load compares sides whose slices alternate forth and back (ABBA), so that whatever else the machine does falls on all of
// them alike.
type load struct {
	slice    time.Duration // of one turn; a round has two for each side
	duration time.Duration // of all rounds; at least one is run
	sides    []side
	cpu      cpuMeter
	cpus     []cpuMeter // one for each side, where they are not of one fabric
}

// side runs for one slice of time and tells what came of it.
type side func(ctx context.Context, length time.Duration) turn

// turn is what came of one slice.
type turn struct {
	Latencies []time.Duration // of what succeeded
	Elapsed   time.Duration
	Failed    int
	First     string // error
}

// closedLoop is a side of so many callers, each of which makes its next call when the last has ended, and at least one in
// a slice. A call tells how long it took.
func closedLoop(callers int, call func(ctx context.Context, caller int) (time.Duration, error)) side {
	return func(ctx context.Context, length time.Duration) turn {
		per := make([][]time.Duration, callers)
		var failed atomic.Int64
		var first atomic.Pointer[string]
		begin := time.Now()
		var loops conc.WaitGroup
		for i := range callers {
			loops.Go(func() {
				for again := true; again && ctx.Err() == nil; again = time.Since(begin) < length {
					took, err := call(ctx, i)
					if err != nil {
						failed.Add(1)
						text := err.Error()
						first.CompareAndSwap(nil, &text)
						continue
					}
					per[i] = append(per[i], took)
				}
			})
		}
		loops.Wait()
		t := turn{Elapsed: time.Since(begin), Failed: int(failed.Load()), Latencies: slices.Concat(per...)}
		if text := first.Load(); text != nil {
			t.First = *text
		}
		return t
	}
}

// timed makes a call of one that does not tell its time.
func timed(call func(ctx context.Context, caller int) error) func(context.Context, int) (time.Duration, error) {
	return func(ctx context.Context, caller int) (time.Duration, error) {
		begin := time.Now()
		err := call(ctx, caller)
		return time.Since(begin), err
	}
}

// benchSide is one side's share of `bench --json`. CPU times are for each call: of the fabric's process, of those of
// functions, of the one that measures; absent where they cannot be read.
type benchSide struct {
	P50          float64  `json:"p50_us"`
	P99          float64  `json:"p99_us"`
	Rate         float64  `json:"rate"` // calls a second
	CPU          *float64 `json:"cpu_us,omitempty"`
	FunctionsCPU *float64 `json:"functions_cpu_us,omitempty"`
	CallerCPU    *float64 `json:"caller_cpu_us,omitempty"`
	Calls        int      `json:"calls"`
	latencies    []time.Duration
	elapsed      time.Duration
	used         cpuTimes
	measured     bool
}

// loadResult is what all rounds gave.
type loadResult struct {
	Rounds     int
	Errors     int
	FirstError string
	sides      []benchSide   // all rounds together, in the order of the load's sides
	rounds     [][]benchSide // each round
}

// run runs whole rounds until the duration is over or ctx ends, and sums up.
func (l *load) run(ctx context.Context) loadResult {
	result := loadResult{sides: make([]benchSide, len(l.sides))}
	begin := time.Now()
	for result.Rounds == 0 || time.Since(begin) < l.duration && ctx.Err() == nil {
		round := make([]benchSide, len(l.sides))
		for turn := range 2 * len(l.sides) {
			at := min(turn, 2*len(l.sides)-1-turn)
			t := l.turn(ctx, &round[at], at)
			result.Errors += t.Failed
			result.FirstError = cmp.Or(result.FirstError, t.First)
		}
		result.Rounds++
		for i := range round {
			result.sides[i].add(&round[i])
		}
		result.rounds = append(result.rounds, round)
	}
	for i := range result.sides {
		result.sides[i].sum()
	}
	return result
}

// turn lets a side run for one slice.
func (l *load) turn(ctx context.Context, into *benchSide, at int) turn {
	cpu := l.cpu
	if l.cpus != nil {
		cpu = l.cpus[at]
	}
	before, known := cpu.read()
	t := l.sides[at](ctx, l.slice)
	into.elapsed += t.Elapsed
	into.latencies = append(into.latencies, t.Latencies...)
	if after, ok := cpu.read(); ok && known {
		into.used.add(after, before)
		into.measured = true
	}
	return t
}

// ratio is the median over the rounds of a ratio within a round, over those in which every side had a call that succeeded.
func (r *loadResult) ratio(within func(round []benchSide) float64) float64 {
	var all []float64
	for _, round := range r.rounds {
		if !slices.ContainsFunc(round, func(s benchSide) bool { return len(s.latencies) == 0 }) {
			all = append(all, within(round))
		}
	}
	return rounded(median(all))
}

// p50 and perSecond are figures of one round, for ratios.
func (s *benchSide) p50() float64 { return quantile(s.latencies, 0.5) }

func (s *benchSide) add(round *benchSide) {
	s.latencies = append(s.latencies, round.latencies...)
	s.elapsed += round.elapsed
	s.used.add(round.used, cpuTimes{})
	s.measured = s.measured || round.measured
}

func (s *benchSide) perSecond() float64 { return ratio(float64(len(s.latencies)), s.elapsed.Seconds()) }

// sum makes the figures of all slices together.
func (s *benchSide) sum() {
	s.Calls = len(s.latencies)
	s.P50, s.P99 = rounded(quantile(s.latencies, 0.5)), rounded(quantile(s.latencies, 0.99))
	s.Rate = rounded(s.perSecond())
	if s.measured && s.Calls > 0 {
		each := func(d time.Duration) *float64 {
			v := rounded(float64(d.Microseconds()) / float64(s.Calls))
			return &v
		}
		s.CPU, s.FunctionsCPU, s.CallerCPU = each(s.used.fabric), each(s.used.functions), each(s.used.caller)
	}
}

// quantile is the q-quantile in microseconds, by the nearest rank; 0 of nothing.
func quantile(latencies []time.Duration, q float64) float64 {
	if len(latencies) == 0 {
		return 0
	}
	slices.Sort(latencies)
	at := int(q*float64(len(latencies)) + 0.5)
	return float64(latencies[min(max(at-1, 0), len(latencies)-1)]) / float64(time.Microsecond)
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	if n := len(values); n%2 == 0 {
		return (values[n/2-1] + values[n/2]) / 2
	}
	return values[len(values)/2]
}

// rounded keeps three decimals: more is noise, and floats print all of it.
func rounded(v float64) float64 { return math.Round(v*1000) / 1000 }

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// cpuMeter reads the CPU time of a fabric's process, of those below it, and of this one; the zero value reads nothing.
type cpuMeter struct{ pid int }

// cpuTimes are CPU times until now, or of some calls.
type cpuTimes struct{ fabric, functions, caller time.Duration }

// add adds what was used between two readings. A process that ended takes its time along.
func (c *cpuTimes) add(after, before cpuTimes) {
	c.fabric += after.fabric - before.fabric
	c.functions += max(0, after.functions-before.functions)
	c.caller += after.caller - before.caller
}

func (m cpuMeter) read() (t cpuTimes, ok bool) {
	if m.pid == 0 {
		return t, false
	}
	if t.fabric, ok = cpuOf(m.pid); !ok {
		return t, false
	}
	for _, pid := range descendants(m.pid) {
		if used, ok := cpuOf(pid); ok {
			t.functions += used
		}
	}
	t.caller, ok = cpuOf(os.Getpid())
	return t, ok
}
