package main

import (
	"cmp"
	"context"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sourcegraph/conc"
)

// load is a closed loop over two targets whose slices alternate (ABBA), so that whatever else the machine does falls on
// both alike. Each of its callers sends its next request when it has the answer to the last.
type load struct {
	callers  int
	slice    time.Duration // of one target; a round has four
	duration time.Duration // of all rounds; at least one is run
	core     func(ctx context.Context, caller int) error
	function func(ctx context.Context, caller int) error
	cpu      cpuMeter
}

// benchSide is one target's share of `bench --json`. CPU times are of the fabric's process and of the functions' ones,
// for each call; absent where they cannot be read.
type benchSide struct {
	P50            float64  `json:"p50_us"`
	P99            float64  `json:"p99_us"`
	Rate           float64  `json:"rate"` // calls a second
	CPU            *float64 `json:"cpu_us,omitempty"`
	FunctionsCPU   *float64 `json:"functions_cpu_us,omitempty"`
	Calls          int      `json:"calls"`
	latencies      []time.Duration
	elapsed        time.Duration
	fabric, others time.Duration
	measured       bool
}

// benchResult is what `bench --json` prints. The ratios are medians over the rounds of the ratio within a round.
type benchResult struct {
	Function    benchSide `json:"function"`
	Core        benchSide `json:"core"`
	RatioP50    float64   `json:"ratio_p50"`
	RatioRate   float64   `json:"ratio_rate"`
	Concurrency int       `json:"concurrency"`
	Errors      int       `json:"errors"`
	Rounds      int       `json:"rounds"`
	Cold        int       `json:"cold"`        // of the measured calls, how many found no environment that was ready
	Specialised int       `json:"specialised"` // or one to be bound first
	Driver      string    `json:"driver,omitempty"`
	Loop        string    `json:"loop,omitempty"`
	FirstError  string    `json:"first_error,omitempty"`
}

// run runs whole rounds until the duration is over or ctx ends, and sums up.
func (l *load) run(ctx context.Context) benchResult {
	result := benchResult{Concurrency: l.callers}
	var p50, rate []float64
	begin := time.Now()
	for result.Rounds == 0 || time.Since(begin) < l.duration && ctx.Err() == nil {
		var core, function benchSide
		for _, turn := range []struct {
			side *benchSide
			call func(context.Context, int) error
		}{{&core, l.core}, {&function, l.function}, {&function, l.function}, {&core, l.core}} {
			errors, first := l.runSlice(ctx, turn.side, turn.call)
			result.Errors += errors
			result.FirstError = cmp.Or(result.FirstError, first)
		}
		result.Rounds++
		result.Core.add(&core)
		result.Function.add(&function)
		if len(core.latencies) > 0 && len(function.latencies) > 0 {
			p50 = append(p50, ratio(quantile(function.latencies, 0.5), quantile(core.latencies, 0.5)))
			rate = append(rate, ratio(function.perSecond(), core.perSecond()))
		}
	}
	result.Core.sum()
	result.Function.sum()
	result.RatioP50, result.RatioRate = rounded(median(p50)), rounded(median(rate))
	return result
}

// runSlice lets all callers loop for one slice, and make at least one call each.
func (l *load) runSlice(ctx context.Context, side *benchSide, call func(context.Context, int) error) (errors int, first string) {
	fabric, others, measured := l.cpu.read()
	per := make([][]time.Duration, l.callers)
	var failed atomic.Int64
	var firstError atomic.Pointer[string]
	begin := time.Now()
	var callers conc.WaitGroup
	for i := range l.callers {
		callers.Go(func() {
			now := time.Now()
			for first := true; ctx.Err() == nil && (first || now.Sub(begin) < l.slice); first = false {
				err := call(ctx, i)
				end := time.Now()
				if err != nil {
					failed.Add(1)
					text := err.Error()
					firstError.CompareAndSwap(nil, &text)
				} else {
					per[i] = append(per[i], end.Sub(now))
				}
				now = end
			}
		})
	}
	callers.Wait()
	side.elapsed += time.Since(begin)
	for _, latencies := range per {
		side.latencies = append(side.latencies, latencies...)
	}
	if fabricEnd, othersEnd, ok := l.cpu.read(); ok && measured {
		side.fabric += fabricEnd - fabric
		side.others += max(0, othersEnd-others) // one that ended takes its time along
		side.measured = true
	}
	if text := firstError.Load(); text != nil {
		first = *text
	}
	return int(failed.Load()), first
}

func (s *benchSide) add(round *benchSide) {
	s.latencies = append(s.latencies, round.latencies...)
	s.elapsed += round.elapsed
	s.fabric += round.fabric
	s.others += round.others
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
		s.CPU, s.FunctionsCPU = each(s.fabric), each(s.others)
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

// cpuMeter reads the CPU time of a fabric's process and of those below it; the zero value reads nothing.
type cpuMeter struct{ pid int }

func (m cpuMeter) read() (fabric, others time.Duration, ok bool) {
	if m.pid == 0 {
		return 0, 0, false
	}
	if fabric, ok = cpuOf(m.pid); !ok {
		return 0, 0, false
	}
	for _, pid := range descendants(m.pid) {
		if used, ok := cpuOf(pid); ok {
			others += used
		}
	}
	return fabric, others, true
}
