//go:build linux && (amd64 || arm64)

package worker_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker"
)

// clock is the system's, and what a test adds to it.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// pass lets time pass for the freezer, and waits for what comes of it.
func (c *clock) pass(t *testing.T, w *worker.Worker, d time.Duration, frozen int64) {
	t.Helper()
	c.ahead.Store(int64(d))
	defer c.ahead.Store(0)
	natstest.Eventually(t, patience, func() bool {
		w.Freeze()
		return w.Counters().Frozen == frozen
	}, "what is idle is frozen")
}

// TestFreeze: what is idle for 10 s stands still, and what it left running with it, and the next call finds it as it was: before a
// first call, which is how a reserved one waits, and after one.
func TestFreeze(t *testing.T) {
	t.Parallel()
	c := &clock{}
	b := sandboxed(t, func(cfg *worker.Config) { cfg.SetClock(c.now) })
	binding := b.binding()
	b.made("e1", binding)
	if next := b.worker.Freeze(); next <= 0 || next > 10*time.Second {
		t.Errorf("the next one is due in %s", next)
	}
	if n := b.worker.Counters(); n.Freezes != 0 {
		t.Errorf("frozen at once: %+v", n)
	}
	word := "freeze-" + t.TempDir()
	for i := range 3 {
		c.pass(t, b.worker, 10*time.Second, 1)
		if n := b.worker.Counters(); n.Freezes != int64(i+1) {
			t.Errorf("after 10 s: %+v", n)
		}
		for _, pid := range processes(t, word) {
			natstest.Eventually(t, patience, func() bool { return frozen(t, pid) }, "it stands still")
		}
		if m, _ := b.call("e1", binding, quoted("daemon "+word)); m.Header.Get(schema.HeaderFunctionError) != "" {
			t.Fatalf("answer %s", m.Data)
		}
		b.awaitEvent("e1", schema.EnvironmentParked, i+2)
		if n := b.worker.Counters(); n.Frozen != 0 {
			t.Errorf("after a call: %+v", n)
		}
		pids := processes(t, word)
		if len(pids) != i+1 || frozen(t, pids[0]) {
			t.Fatalf("processes %v, still frozen", pids)
		}
	}
	// Frozen, it is ended like any other.
	c.pass(t, b.worker, 10*time.Second, 1)
	b.worker.End("e1")
	b.awaitEvent("e1", schema.EnvironmentGone, 1)
	if n := b.worker.Counters(); n.Frozen != 0 {
		t.Errorf("after its end: %+v", n)
	}
	if pids := processes(t, word); len(pids) != 0 {
		t.Errorf("processes %v are left", pids)
	}
}

// TestNotFrozen: a call that runs, an init, and what the worker is told never to freeze.
func TestNotFrozen(t *testing.T) {
	t.Parallel()
	c := &clock{}
	b := sandboxed(t, func(cfg *worker.Config) { cfg.SetClock(c.now) })
	hangs := b.binding(func(b *schema.Binding) { b.Variables = schema.Variables{"FN_INIT": "hang"} })
	b.worker.Make("init", hangs, b.notify)
	binding := b.binding()
	b.made("busy", binding)
	run := b.run("busy", binding, quoted("hang"))
	b.worker.Start(run)
	c.ahead.Add(int64(time.Hour))
	if next := b.worker.Freeze(); next != 0 {
		t.Errorf("the next one is due in %s", next)
	}
	if n := b.worker.Counters(); n.Freezes != 0 {
		t.Errorf("%+v", n)
	}
	b.worker.End("busy")
	b.answer(run)
	b.worker.End("init")
	b.awaitEvent("init", schema.EnvironmentFailed, 1)
	never := sandboxed(t, func(cfg *worker.Config) { cfg.FreezeAfter = -1 })
	never.made("e1", never.binding())
	if next := never.worker.Freeze(); next != 0 {
		t.Errorf("the next one is due in %s", next)
	}
}

// TestFreezeRaces: calls and the freezer meet all the time, and every call is answered. An environment that was frozen behind the
// back of its call would answer by its time-out.
func TestFreezeRaces(t *testing.T) {
	t.Parallel()
	b := sandboxed(t, func(cfg *worker.Config) { cfg.FreezeAfter = time.Nanosecond })
	binding := b.binding()
	var wg conc.WaitGroup
	for _, id := range []string{"e1", "e2", "e3"} {
		wg.Go(func() {
			b.made(id, binding)
			for range 100 {
				if m, _ := b.call(id, binding, "1"); string(m.Data) != "1" {
					t.Errorf("%s: answer %s", id, m.Data)
				}
			}
		})
	}
	stop := make(chan struct{})
	var hand sync.WaitGroup
	hand.Go(func() { // so that two freezers meet, too
		for {
			select {
			case <-stop:
				return
			default:
				b.worker.Freeze()
			}
		}
	})
	wg.Wait()
	close(stop)
	hand.Wait()
	if n := b.worker.Counters(); n.Freezes == 0 || n.Answered != 300 {
		t.Errorf("%+v", n)
	}
}

// TestOrderlyEndOfFrozen: one with an extension is asked to end, by SIGTERM that its process really gets, at its end and at the
// worker's (A6).
func TestOrderlyEndOfFrozen(t *testing.T) {
	t.Parallel()
	c, s := &clock{}, &sink{}
	b := sandboxed(t, func(cfg *worker.Config) { cfg.SetClock(c.now); cfg.Lines = s.open })
	binding := b.binding()
	for _, id := range []string{"e1", "e2", "plain"} {
		b.made(id, binding)
		b.call(id, binding, quoted("polite"))
		b.awaitEvent(id, schema.EnvironmentParked, 2)
		if id != "plain" {
			b.call(id, binding, quoted("register"))
			b.awaitEvent(id, schema.EnvironmentParked, 3)
		}
	}
	c.pass(t, b.worker, 10*time.Second, 3)
	b.worker.End("e1")
	b.awaitEvent("e1", schema.EnvironmentGone, 1)
	if n := s.count("asked to end"); n != 1 {
		t.Errorf("%d were asked to end", n)
	}
	if err := b.worker.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if n := s.count("asked to end"); n != 2 {
		t.Errorf("%d were asked to end", n)
	}
}

// BenchmarkWarm is a warm call in a sandbox by the plain loop of the tests, and BenchmarkThawed one that finds its environment frozen.
func BenchmarkWarm(b *testing.B) { benchmarkFrozen(b, false) }

func BenchmarkThawed(b *testing.B) { benchmarkFrozen(b, true) }

func benchmarkFrozen(b *testing.B, frozen bool) {
	s := sandboxed(b, func(cfg *worker.Config) {
		cfg.SetClock(func() time.Time { return time.Now().Add(time.Hour) })
		if !frozen {
			cfg.FreezeAfter = -1
		}
	})
	binding := s.binding()
	s.made("e1", binding)
	for n := 1; b.Loop(); n++ {
		b.StopTimer()
		if frozen {
			for s.worker.Counters().Freezes < int64(n) {
				s.worker.Freeze()
			}
		}
		s.mu.Lock()
		s.order = nil // what tells its story takes longer with each call
		s.mu.Unlock()
		run := s.run("e1", binding, "1")
		b.StartTimer()
		s.worker.Start(run)
		s.answer(run)
		s.awaitEvent("e1", schema.EnvironmentParked, n+1)
	}
}
