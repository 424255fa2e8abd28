package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
)

func TestLoadInterleavesAndCounts(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	order := ""
	each := func(letter string, err error) side {
		return closedLoop(1, timed(func(context.Context, int) error {
			mu.Lock()
			defer mu.Unlock()
			order += letter
			return err
		}))
	}
	perSecond := func(round []benchSide) float64 { return ratio(round[1].perSecond(), round[0].perSecond()) }
	// A slice of no length still makes one call for each caller.
	l := load{slice: time.Nanosecond, duration: 1, sides: []side{each("c", nil), each("f", nil)}}
	r := l.run(t.Context())
	if want := "cffc"; len(order) != 4*r.Rounds || order[:4] != want {
		t.Errorf("%d rounds in the order %q, want %s each", r.Rounds, order, want)
	}
	if r.sides[0].Calls != 2*r.Rounds || r.sides[1].Calls != 2*r.Rounds || r.Errors != 0 || r.ratio(perSecond) <= 0 {
		t.Errorf("%+v", r)
	}
	order = ""
	l.sides = []side{each("c", nil), each("h", nil), each("f", nil)}
	if r = l.run(t.Context()); order[:6] != "chffhc" || len(r.rounds[0]) != 3 {
		t.Errorf("three sides in the order %q", order)
	}
	l.sides = []side{each("c", nil), each("f", errors.New("refused"))}
	if r = l.run(t.Context()); r.sides[1].Calls != 0 || r.Errors != 2*r.Rounds || r.FirstError != "refused" || r.ratio(perSecond) != 0 {
		t.Errorf("failed calls count as calls: %+v", r)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l.duration = time.Hour
	if r = l.run(ctx); r.Rounds != 1 {
		t.Errorf("%d rounds after the end of the context", r.Rounds)
	}
}

func TestQuantiles(t *testing.T) {
	t.Parallel()
	var latencies []time.Duration
	for i := range 100 {
		latencies = append(latencies, time.Duration(100-i)*time.Microsecond)
	}
	for q, want := range map[float64]float64{0.5: 50, 0.99: 99, 1: 100, 0: 1} {
		if got := quantile(latencies, q); got != want {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if quantile(nil, 0.5) != 0 || median(nil) != 0 || ratio(1, 0) != 0 {
		t.Error("figures of nothing must be 0")
	}
	if median([]float64{3, 1}) != 2 || median([]float64{5, 1, 3}) != 3 {
		t.Error("medians are wrong")
	}
}

func TestCPUOfProcesses(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the CPU time of another process is read on Linux alone")
	}
	before, ok := cpuOf(os.Getpid())
	if !ok {
		t.Fatal("the CPU clock of this process cannot be read")
	}
	eventually(t, "a busy process uses CPU time", func() bool {
		now, _ := cpuOf(os.Getpid())
		return now-before > time.Millisecond
	})
	child := exec.CommandContext(t.Context(), os.Args[0], "bench-echo")
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(descendants(os.Getpid()), child.Process.Pid) {
		t.Errorf("%d is not among the descendants %v", child.Process.Pid, descendants(os.Getpid()))
	}
	if _, ok := (cpuMeter{child.Process.Pid}).read(); !ok {
		t.Error("the CPU time of a child cannot be read")
	}
	_ = in.Close()
	_ = child.Wait()
	if _, ok := (cpuMeter{child.Process.Pid}).read(); ok {
		t.Error("a process that is gone has CPU time")
	}
}
