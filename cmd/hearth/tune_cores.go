package main

import (
	"context"
	"math"
	"runtime"
	"runtime/metrics"
	"time"

	"github.com/sourcegraph/conc"
)

// When a fabric takes more cores and when it gives them back. Each change stops the world for a moment, so one look at a burst
// is not enough for more, and going back takes a long calm.
const (
	coresLook = 200 * time.Millisecond
	coresBusy = 2  // goroutines for each of the few cores that are ready to run and wait: the few do not suffice
	coresCalm = 1  // so many for each of them, or fewer: they may
	moreAfter = 2  // busy looks in a row
	fewAfter  = 50 // calm looks since the last busy one: 10 s
)

// cores decides how many cores the goroutines of this process may run on: few, or all while these do not suffice. What tells is
// how many goroutines wait for a core. CPU time does not: on a host whose functions take what they can get, a fabric that
// misses a core uses less than one.
type cores struct {
	few, all   int
	busy, calm int // looks
	many       bool
}

// look takes in how many goroutines waited on the average since the last look, and reports how many cores there are to be from
// now on, if that changes.
func (c *cores) look(waiting float64) (n int, changed bool) {
	switch {
	case waiting >= float64(coresBusy*c.few):
		c.busy++
		c.calm = 0
	case waiting <= float64(coresCalm*c.few):
		c.calm++
		c.busy = 0
	default:
		c.busy = 0
	}
	switch {
	case !c.many && c.busy >= moreAfter:
		c.many = true
		return c.all, true
	case c.many && c.calm >= fewAfter:
		c.many = false
		return c.few, true
	}
	return 0, false
}

// tuneCores has this process take half of the cores that it may use, and all of them while those are not enough, until stop is
// called, which gives it Go's own number again. All of them all the time would cost a lone caller the wake-ups (tune); half all
// the time, on two cores that others use too, left a backlog of events at 0.22 of its plain twin's rate with nodejs, 0.52 so.
func tuneCores() (stop func()) {
	runtime.SetDefaultGOMAXPROCS() // what the host and a CPU limit of its container allow
	all := runtime.GOMAXPROCS(0)
	few := max(1, all/2)
	if few == all {
		return func() {}
	}
	runtime.GOMAXPROCS(few)
	ctx, cancel := context.WithCancel(context.Background())
	var loop conc.WaitGroup
	loop.Go(func() {
		tick := time.NewTicker(coresLook)
		defer tick.Stop()
		var w waiters
		w.sinceLast(time.Now())
		followCores(ctx, cores{few: few, all: all}, tick.C, w.sinceLast, func(n int) { runtime.GOMAXPROCS(n) })
	})
	return func() {
		cancel()
		loop.Wait()
		runtime.SetDefaultGOMAXPROCS()
	}
}

// followCores looks at every tick until its context ends.
func followCores(ctx context.Context, c cores, tick <-chan time.Time, waiting func(time.Time) float64, set func(int)) {
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick:
			if n, changed := c.look(waiting(now)); changed {
				set(n)
			}
		}
	}
}

// waiters counts goroutines that are ready to run and wait, on the average over time: all their waits together over the time in
// which they waited. The runtime's own count of them is one moment's, and whoever reads it has just been given a core.
type waiters struct {
	at     time.Time
	sample [1]metrics.Sample
	counts []uint64
}

// waitsTimed is how many waits there are for each that the runtime times (runtime.gTrackingPeriod).
const waitsTimed = 8

func (w *waiters) sinceLast(now time.Time) float64 {
	w.sample[0].Name = "/sched/latencies:seconds"
	metrics.Read(w.sample[:])
	if w.sample[0].Value.Kind() != metrics.KindFloat64Histogram {
		return 0 // this Go has it no more: few cores stay
	}
	h := w.sample[0].Value.Float64Histogram()
	first := w.counts == nil
	if first {
		w.counts = make([]uint64, len(h.Counts))
	}
	seconds := 0.0
	for i, n := range h.Counts {
		if n > w.counts[i] {
			seconds += float64(n-w.counts[i]) * within(h.Buckets[i], h.Buckets[i+1])
		}
		w.counts[i] = n
	}
	took := now.Sub(w.at).Seconds()
	w.at = now
	if first || took <= 0 {
		return 0
	}
	return waitsTimed * seconds / took
}

// within is a value between two bounds of a histogram, of which one may be infinite.
func within(low, high float64) float64 {
	switch {
	case math.IsInf(low, -1):
		return max(0, high)
	case math.IsInf(high, 1):
		return low
	}
	return (low + high) / 2
}
