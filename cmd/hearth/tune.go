package main

import (
	"os"
	"runtime"
	"runtime/debug"
)

// gcPercent lets a fabric's small heap grow further between collections: at Go's 100 a twentieth of the CPU of warm calls
// went into collecting a heap of a few MB.
const gcPercent = 400

// tune sets this process up for being a fabric, unless GOMAXPROCS or GOGC say otherwise. A fabric takes half of the cores:
// the functions on this host need the others, and a call is a chain of short hand-overs between goroutines, each of which
// costs the wake-up of an idle core where one is free to take it (measured on two busy cores, driver process, one call in
// flight: 258 us of CPU a call instead of 471, p50 258 us instead of 407).
func tune() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(max(1, runtime.NumCPU()/2))
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}
