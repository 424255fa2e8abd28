//go:build linux && (amd64 || arm64)

package worker_test

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hearth-run/hearth/worker/driver/drivertest"
	"github.com/hearth-run/hearth/worker/driver/native"
	"github.com/hearth-run/hearth/worker/driver/process"
)

// BenchmarkWarmBeside is a warm call in a sandbox beside one in a bare process of the same function, in turns, without NATS: what
// isolation costs a call.
func BenchmarkWarmBeside(b *testing.B) {
	needsSandbox(b)
	zip, err := carried()
	if err != nil {
		b.Fatal(err)
	}
	code := store{}
	inside := code.add(zip)
	outside := code.put(b, map[string]string{"bootstrap": "#!/bin/sh\nexec " + functionPath + " " + functionArgument + "\n"})
	folder := drivertest.Folder(b)
	bare, err := process.New(process.Config{Dir: filepath.Join(folder, "environments")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = bare.Close() })
	sandbox, err := native.New(native.Config{Dir: filepath.Join(folder, "tree")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = sandbox.Close() })
	calls := []func(){
		started(b, bare, filepath.Join(folder, "cache1"), code, outside, nil),
		started(b, sandbox, filepath.Join(folder, "cache2"), code, inside, nil),
	}
	const turn = 50 // long enough that the processes of the other do not stand in its caches
	var took [2][]time.Duration
	for b.Loop() {
		for i, call := range calls {
			for range turn {
				began := time.Now()
				call()
				took[i] = append(took[i], time.Since(began))
			}
		}
	}
	for i := range took {
		slices.Sort(took[i])
	}
	p50 := func(i int) float64 { return float64(took[i][len(took[i])/2]) / 1e3 }
	b.ReportMetric(p50(0), "bare-us")
	b.ReportMetric(p50(1), "native-us")
	b.ReportMetric(p50(1)/p50(0), "warm-ratio")
}
