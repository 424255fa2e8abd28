package sim

import (
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"time"

	"github.com/hearth-run/hearth/schema"
)

// Defaults of a [Workload].
const (
	DefaultFunctions = 20
	DefaultRate      = 100.0
	DefaultDuration  = time.Minute
)

// Workload is a source of calls that nobody recorded: arrivals by Poisson at Rate a second, functions by Zipf (the nth of f1, f2, … is
// called 1/n as often as the first), and in the middle, for a tenth of the time, a burst of five times the rate. The function decides how
// long its calls run (exponential, with a mean of 20 to 320 ms), how long its init takes (100 to 500 ms) and how much memory it has
// (128 or 256 MB). The zero value of a field is its default.
type Workload struct {
	Functions int           // default 20
	Rate      float64       // calls a second outside the burst; default 100
	Duration  time.Duration // default 1 min
	Seed      uint64        // the same seed gives the same calls

	rand   *rand.Rand
	share  []float64 // of calls, summed up
	at     time.Duration
	opened bool
}

// Bounds of a [Workload].
const (
	MaxRate     = 1e5
	MaxDuration = 30 * 24 * time.Hour

	burstFrom, burstTo = 0.45, 0.55
	burstTimes         = 5
)

// Validate checks every field and names each that is not allowed, in a [schema.Error] of code InvalidParameterValue.
func (w *Workload) Validate() error {
	var bad []schema.FieldError
	if w.Functions < 0 || w.Functions > MaxFunctions {
		bad = append(bad, schema.FieldError{Field: "functions", Got: fmt.Sprint(w.Functions), Allowed: fmt.Sprintf("1 to %d", MaxFunctions)})
	}
	if !(w.Rate >= 0 && w.Rate <= MaxRate) {
		bad = append(bad, schema.FieldError{Field: "rate", Got: fmt.Sprint(w.Rate), Allowed: fmt.Sprintf("above 0, at most %.0f calls a second", MaxRate)})
	}
	if w.Duration < 0 || w.Duration > MaxDuration {
		bad = append(bad, schema.FieldError{Field: "duration", Got: w.Duration.String(), Allowed: fmt.Sprintf("above 0, at most %v", MaxDuration)})
	}
	if len(bad) == 0 {
		return nil
	}
	return schema.Invalid(bad...)
}

func (w *Workload) open() {
	w.opened = true
	if w.Functions == 0 {
		w.Functions = DefaultFunctions
	}
	if w.Rate == 0 {
		w.Rate = DefaultRate
	}
	if w.Duration == 0 {
		w.Duration = DefaultDuration
	}
	w.rand = rand.New(rand.NewPCG(w.Seed, 0x68656172))
	w.share = make([]float64, w.Functions)
	sum := 0.0
	for n := range w.share {
		sum += 1 / float64(n+1)
		w.share[n] = sum
	}
}

// Next is the next call, or io.EOF.
func (w *Workload) Next() (Call, error) {
	if !w.opened {
		w.open()
	}
	rate := w.Rate
	if part := float64(w.at) / float64(w.Duration); part >= burstFrom && part < burstTo {
		rate *= burstTimes
	}
	w.at += time.Duration(w.rand.ExpFloat64() / rate * float64(time.Second))
	if w.at >= w.Duration || w.at < 0 {
		return Call{}, io.EOF
	}
	n := w.pick()
	c := Call{At: w.at, Function: fmt.Sprintf("f%d", n+1), Init: time.Duration(100+n*37%401) * time.Millisecond, MemoryMB: 128 << (n % 3 / 2)}
	mean := 20 * math.Pow(2, float64(n*7%5))
	c.Run = time.Duration(w.rand.ExpFloat64() * mean * float64(time.Millisecond))
	return c, nil
}

// pick draws a function by how often it is called.
func (w *Workload) pick() int {
	x := w.rand.Float64() * w.share[len(w.share)-1]
	lo, hi := 0, len(w.share)-1
	for lo < hi {
		if mid := (lo + hi) / 2; w.share[mid] <= x {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}
