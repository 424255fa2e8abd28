package main

import (
	"context"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/internal/natstest"
)

// What a fabric takes, look by look: n looks at which so many goroutines waited.
func TestCores(t *testing.T) {
	t.Parallel()
	type looks struct {
		waiting float64
		n       int
	}
	for name, c := range map[string]struct {
		few, all int
		looks    []looks
		want     []int // every change
	}{
		"one busy look is a burst":     {1, 2, []looks{{9, 1}, {1.5, 1}, {9, 1}, {0, 1}, {9, 1}}, nil},
		"two in a row take all":        {1, 2, []looks{{2, 2}, {9, 10}}, []int{2}},
		"few are enough for a little":  {1, 2, []looks{{1.9, 100}}, nil},
		"by the number of the few":     {4, 8, []looks{{7.9, 100}, {8, 2}}, []int{8}},
		"a calm that lasts gives back": {1, 2, []looks{{2, 2}, {1, fewAfter}, {0, fewAfter}}, []int{2, 1}},
		"not a short one":              {1, 2, []looks{{2, 2}, {0, fewAfter - 1}, {2, 1}, {0, fewAfter - 1}}, []int{2}},
		"between the two it stays":     {1, 2, []looks{{2, 2}, {0, fewAfter - 1}, {1.5, 500}}, []int{2}},
		"and again":                    {1, 2, []looks{{2, 2}, {0, fewAfter}, {2, 2}, {0, fewAfter}}, []int{2, 1, 2, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cores, got := cores{few: c.few, all: c.all}, []int(nil)
			for _, l := range c.looks {
				for range l.n {
					if n, changed := cores.look(l.waiting); changed {
						got = append(got, n)
					}
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("changes to %v, want %v", got, c.want)
			}
		})
	}
}

// The loop hands each look to whoever decides, does what he says, and ends with its context.
func TestFollowCores(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	tick, set := make(chan time.Time), make(chan int)
	var loop conc.WaitGroup
	loop.Go(func() {
		followCores(ctx, cores{few: 3, all: 6}, tick, func(time.Time) float64 { return 6 }, func(n int) { set <- n })
	})
	for range moreAfter {
		tick <- time.Time{}
	}
	if n := <-set; n != 6 {
		t.Errorf("it takes %d cores, want 6", n)
	}
	cancel()
	loop.Wait()
}

// Goroutines that want to run all the time and share one core wait, all but one of them.
func TestWaiters(t *testing.T) { // not parallel: it is about the whole process
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const spinning = 9
	ctx, cancel := context.WithCancel(t.Context())
	var spinners conc.WaitGroup
	defer spinners.Wait()
	defer cancel()
	for range spinning {
		spinners.Go(func() {
			for ctx.Err() == nil {
				runtime.Gosched()
			}
		})
	}
	var w waiters
	w.sinceLast(time.Now())
	natstest.Eventually(t, 20*time.Second, func() bool {
		if time.Since(w.at) < coresLook {
			return false
		}
		n := w.sinceLast(time.Now())
		return n > (spinning-1)/2.0 && n < (spinning-1)*2
	}, "the goroutines that wait are counted")
}

// Half of the cores at first, all while goroutines wait for one, and Go's own number after the end.
func TestTuneCores(t *testing.T) { // not parallel: it is about the whole process
	runtime.SetDefaultGOMAXPROCS()
	all := runtime.GOMAXPROCS(0)
	if all < 2 {
		t.Skip("one core only")
	}
	stop := tuneCores()
	defer stop()
	if n := runtime.GOMAXPROCS(0); n != all/2 {
		t.Fatalf("it begins with %d of %d cores", n, all)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var spinners conc.WaitGroup
	defer spinners.Wait()
	defer cancel()
	for range 8 * all {
		spinners.Go(func() {
			for ctx.Err() == nil {
				runtime.Gosched()
			}
		})
	}
	natstest.Eventually(t, 30*time.Second, func() bool { return runtime.GOMAXPROCS(0) == all }, "it takes all cores")
	stop()
	if n := runtime.GOMAXPROCS(0); n != all {
		t.Errorf("%d of %d cores after its end", n, all)
	}
}
