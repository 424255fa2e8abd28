package main

import (
	"context"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hearth-run/hearth/deploy/topology"
)

// Every part of it, with a function that runs: what is measured is there and adds up.
func TestBenchOfEvents(t *testing.T) {
	t.Parallel()
	r := alone(t, "bench", "--own", "--events", "--drain", "200", "--running", "2", "--concurrency", "3", "--duration", "300ms", "--json")
	if r.code != exitOK {
		t.Fatalf("exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	got := decode[eventsResult](t, r.stdout)
	if got.Errors != 0 || len(got.Accept) != 2 || got.Run == nil || got.Drain == nil || got.Driver != "process" || got.Loop == "" {
		t.Fatalf("%s", r.stdout)
	}
	for i, s := range got.Accept {
		if want := []int{1, 3}[i]; s.Concurrency != want || s.Connections != want || s.Event.Calls == 0 || s.Publish.Calls == 0 || s.Rounds == 0 ||
			s.RatioP50 <= 0 || s.RatioRate <= 0 {
			t.Errorf("%d in flight: %+v", want, s)
		}
	}
	if s := got.Run; s.Event.Calls == 0 || s.Queue.Calls == 0 || s.Event.P99 < s.Event.P50 || s.RatioP50 <= 0 || s.Rounds == 0 {
		t.Errorf("run: %+v", s)
	}
	if s := got.Drain; s.Events != 200 || s.Running != 2 || s.Event.Measured > 200 || s.Queue.Measured > 200 || s.Retries < 0 {
		t.Errorf("drain: %+v", s)
	}
	if runtime.GOOS == "linux" && got.Drain.Memory == nil {
		t.Error("the memory of the fabric was not watched")
	}
}

// Without a function there is the drain alone.
func TestBenchOfEventsWithoutCode(t *testing.T) {
	t.Parallel()
	r := alone(t, "bench", "--own", "--events", "--driver", "null", "--drain", "100", "--running", "2", "--duration", "100ms", "--json")
	got := decode[eventsResult](t, r.stdout)
	if r.code != exitOK || got.Errors != 0 || got.Accept != nil || got.Run != nil || got.Drain == nil || got.Drain.Events != 100 || got.Driver != "null" {
		t.Fatalf("exit %d: %s%s", r.code, r.stdout, r.stderr)
	}
}

// The plain worker takes a backlog down to nothing, and leaves nothing behind.
func TestPlainWorkerDrains(t *testing.T) {
	t.Parallel()
	own, err := startOwnFabric(t.Context(), "null", 4, "--measured")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(own.stop)
	e, err := makeEcho(t.Context(), benchFlags{driver: "process"}, speaker)
	if err != nil {
		t.Fatal(err)
	}
	worker, err := startPart(t.Context(), "bench-queue", queueSpec{Target: specOf(own.target), Running: 2, Hop: e.hop(nil)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(worker.stop)
	if err := worker.ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	c, err := own.target.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	names := own.target.names
	b := &eventBench{names: names, queue: names.Bench(topology.BenchQueue)}
	if err := b.open([]*conn{c}); err != nil {
		t.Fatal(err)
	}
	m := memoryWatch{pid: own.target.note.PID}
	stream := names.Stream(topology.BenchQueue)
	s, err := b.drainOf(t.Context(), backlog{b.queue, []string{stream}}, 500, &m)
	if err != nil || s.Measured > 500 || s.Measured > 0 && s.Rate <= 0 {
		t.Errorf("%+v, %v", s, err)
	}
	if left, err := b.held(t.Context(), stream); left != 0 || err != nil {
		t.Errorf("%d messages are left: %v", left, err)
	}
	if last, err := b.lastOf(t.Context(), stream); last != 500 || err != nil {
		t.Errorf("%d messages were published: %v", last, err)
	}
	if side := m.side(); runtime.GOOS == "linux" && (side == nil || side.Start <= 0 || side.Peak < side.Start || side.Peak < side.End || side.Peak < side.Filled) {
		t.Errorf("memory: %+v", side)
	}

	// The same function tells when it runs.
	o, err := newObserver()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.stop)
	before := time.Now()
	if err := b.publish(b.queue)(t.Context(), 0, payload("tell "+o.address()+" 17")); err != nil {
		t.Fatal(err)
	}
	if at, err := o.wait(t.Context(), "17"); err != nil || at.Before(before) {
		t.Errorf("told at %v, published at %v: %v", at, before, err)
	}

	worker.stop()
	if _, err := b.plain[0].Stream(t.Context(), stream); err == nil {
		t.Error("the worker left its stream")
	}
}

func TestTwoDrainsAsOne(t *testing.T) {
	t.Parallel()
	four, eight := 4.0, 8.0
	got := drainSide{Measured: 100, Seconds: 1, CPU: &four}.and(drainSide{Measured: 300, Seconds: 3, CPU: &eight})
	if got.Measured != 400 || got.Seconds != 4 || got.Rate != 100 || *got.CPU != 7 {
		t.Errorf("%+v", got)
	}
	if got := (drainSide{Measured: 1, Seconds: 1}).and(drainSide{Measured: 1, Seconds: 1, CPU: &four}); got.CPU != nil {
		t.Errorf("half of a CPU time is none: %v", *got.CPU)
	}
}

func TestObserver(t *testing.T) {
	t.Parallel()
	o, err := newObserver()
	if err != nil {
		t.Fatal(err)
	}
	defer o.stop()
	conn, err := net.Dial("tcp", o.address())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("1\n2\n3\n")); err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"2", "3"} { // one that nobody waited for is passed over
		if _, err := o.wait(t.Context(), word); err != nil {
			t.Error(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := o.wait(ctx, "1"); err != context.Canceled {
		t.Errorf("waits for what has passed: %v", err)
	}
}

func TestMemoryOfProcesses(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the memory of another process is read on Linux alone")
	}
	if bytes, ok := memoryOf(os.Getpid()); !ok || bytes < 1<<20 || bytes > 1<<40 {
		t.Errorf("%d bytes, %v", bytes, ok)
	}
	if _, ok := memoryOf(-1); ok {
		t.Error("a process that is not there has memory")
	}
}

func TestPayloadIsOfOneLength(t *testing.T) {
	t.Parallel()
	for _, words := range []string{"one", "tell 127.0.0.1:40000 1234567"} {
		if p := payload(words); len(p) != benchPayload || !strings.HasPrefix(string(p), `"`+words+" x") || p[len(p)-1] != '"' {
			t.Errorf("%d bytes: %s", len(p), p)
		}
	}
}
