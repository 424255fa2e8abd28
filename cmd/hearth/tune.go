package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
)

// A fabric's small heap may grow further between collections: at Go's 100 % a twentieth of the CPU of warm calls went into
// collecting a heap of a few MB. A larger one may not: while the server drains a backlog its buffers of 8 MB lie there, 30 to
// 42 MB live, and up to five times that is resident (measured at 400 %: 140 MiB before, 258 at most with 100,000 events;
// so: 124 before, 147 at most with 70,000).
const (
	gcMost   = 400      // percent
	gcLeast  = 100      // Go's own
	gcGrowth = 64 << 20 // bytes that a heap between the two grows by
)

// tune sets this process up for being a fabric until stop is called, unless GOMAXPROCS or GOGC say otherwise. A fabric takes half
// of the cores: the functions on this host need the others, and a call is a chain of short hand-overs between goroutines, each of
// which costs the wake-up of an idle core where one is free to take it (measured on two busy cores, driver process, one call in
// flight: 258 us of CPU a call instead of 471, p50 258 us instead of 407). While half are not enough it takes all (tune_cores.go).
func tune() (stop func()) {
	stopCores, stopCollector := func() {}, func() {}
	if os.Getenv("GOMAXPROCS") == "" {
		stopCores = tuneCores()
	}
	if os.Getenv("GOGC") == "" {
		stopCollector = tuneCollector()
	}
	return func() {
		stopCores()
		stopCollector()
	}
}

// tuneCollector sets after every collection by how much the heap may grow until the next one. It goes on until stop is called;
// the percentage stays as it was last.
func tuneCollector() (stop func()) {
	c := &collector{percent: gcMost}
	debug.SetGCPercent(gcMost)
	c.again()
	return func() { c.stopped.Store(true) }
}

// collector follows the collections of this process, one at a time: the runtime runs what follows the next one only after this
// one has asked for it.
type collector struct {
	percent int
	stopped atomic.Bool
}

// again has collected called once the next collection has ended: nothing holds what it finds.
func (c *collector) again() {
	type unheld struct{ c *collector }
	runtime.AddCleanup(&unheld{c}, (*collector).collected, c)
}

func (c *collector) collected() {
	if c.stopped.Load() {
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	// Setting it stops the world for a moment, so not for little.
	if next := gcPercent(live[0].Value.Uint64()); next < c.percent*9/10 || next > c.percent*11/10 {
		c.percent = next
		debug.SetGCPercent(next)
	}
	c.again()
}

// gcPercent is by how much a heap of so many bytes may grow, in percent of them.
func gcPercent(live uint64) int {
	return int(min(gcMost, max(gcLeast, gcGrowth*100/max(live, 1))))
}
