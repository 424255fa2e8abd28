package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/hearth-run/hearth/internal/natstest"
)

func TestGCPercent(t *testing.T) {
	t.Parallel()
	for live, want := range map[uint64]int{0: 400, 4 << 20: 400, 16 << 20: 400, 32 << 20: 200, 64 << 20: 100, 1 << 30: 100} {
		if got := gcPercent(live); got != want {
			t.Errorf("%d MB live: %d %%, want %d", live>>20, got, want)
		}
	}
}

// A heap that grows is collected more often, one that shrinks less often again.
func TestTuneCollector(t *testing.T) { // not parallel: it is about the whole process
	defer debug.SetGCPercent(debug.SetGCPercent(gcLeast))
	defer tuneCollector()()
	reaches := func(what string, reached func(percent uint64) bool) {
		t.Helper()
		percent := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		natstest.Eventually(t, 10*time.Second, func() bool {
			runtime.GC() // what follows it runs a moment later
			metrics.Read(percent)
			return reached(percent[0].Value.Uint64())
		}, what)
	}
	func() {
		large := make([]byte, 256<<20)
		reaches("a large heap is collected at Go's own rate", func(percent uint64) bool { return percent == gcLeast })
		runtime.KeepAlive(large)
	}()
	reaches("a small heap may grow", func(percent uint64) bool { return percent > gcLeast })
}
