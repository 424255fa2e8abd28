package main

import (
	"context"
	"fmt"
	"time"

	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/subjects"
)

// Of watching a backlog go: how often it is looked at, and how long it may stand still.
const (
	drainLook  = 20 * time.Millisecond
	drainStall = 30 * time.Second
)

// drain measures a backlog of events beside two of half its size, before and after, for the plain worker.
func (b *eventBench) drain(ctx context.Context) error {
	if b.spec.Drain == 0 {
		return nil
	}
	queue, events := b.names.Stream(topology.BenchQueue), b.names.Events(subjects.DefaultAccount)
	before, err := b.drainOf(ctx, b.queue, queue, b.spec.Drain/2, nil)
	if err != nil {
		return err
	}
	m := memoryWatch{pid: b.spec.PID}
	side, err := b.drainOf(ctx, b.events, events, b.spec.Drain, &m)
	if err != nil {
		return err
	}
	after, err := b.drainOf(ctx, b.queue, queue, b.spec.Drain/2, nil)
	if err != nil {
		return err
	}
	twin := drainSide{Measured: before.Measured + after.Measured, Seconds: before.Seconds + after.Seconds}
	twin.Rate = rounded(ratio(float64(twin.Measured), twin.Seconds))
	b.result.Drain = &drainResult{
		Events: b.spec.Drain, Running: b.spec.Running, Event: side, Queue: twin, RatioRate: rounded(ratio(side.Rate, twin.Rate)), Memory: m.side(),
	}
	for _, kind := range []string{topology.Retries, topology.DeadLetters} {
		left, err := b.held(ctx, b.names.Stream(kind))
		if err != nil {
			return err
		}
		if left > 0 {
			b.result.Errors += int(left)
			b.result.FirstError = fmt.Sprintf("%d events of the drain lie on %s", left, kind)
		}
	}
	return nil
}

// drainOf fills a stream and watches it until it is empty.
func (b *eventBench) drainOf(ctx context.Context, subject, stream string, n int, m *memoryWatch) (s drainSide, err error) {
	defer m.watch()()
	if err := b.fill(ctx, subject, n); err != nil {
		return s, err
	}
	m.filled()
	left, err := b.held(ctx, stream)
	if err != nil {
		return s, err
	}
	begin := time.Now()
	first, moved := left, begin
	for left > 0 {
		if err := pause(ctx, drainLook); err != nil {
			return s, err
		}
		now, err := b.held(ctx, stream)
		if err != nil {
			return s, err
		}
		if now < left {
			moved = time.Now()
		} else if time.Since(moved) > drainStall {
			return s, fmt.Errorf("%d of %d messages have been left in %s for %v", now, n, stream, drainStall)
		}
		left = now
	}
	took := time.Since(begin).Seconds()
	return drainSide{Measured: int(first), Seconds: rounded(took), Rate: rounded(ratio(float64(first), took))}, nil
}

// held is how many messages a stream holds.
func (b *eventBench) held(ctx context.Context, stream string) (uint64, error) {
	s, err := b.conns[0].Stream(ctx, stream)
	if err != nil {
		return 0, fmt.Errorf("look at stream %s: %w", stream, err)
	}
	return s.CachedInfo().State.Msgs, nil
}

// memoryWatch follows the memory of a process. A nil one follows nothing.
type memoryWatch struct {
	pid                   int
	start, full, peak, at int64 // bytes; at is the last look
	known                 bool
}

// watch looks from now on until stop is called.
func (m *memoryWatch) watch() (stop func()) {
	if m == nil {
		return func() {}
	}
	if m.start, m.known = memoryOf(m.pid); !m.known {
		return func() {}
	}
	m.peak = m.start
	done := make(chan struct{})
	var loop conc.WaitGroup
	loop.Go(func() {
		tick := time.NewTicker(5 * drainLook)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-done:
				return
			}
			if now, ok := memoryOf(m.pid); ok {
				m.peak = max(m.peak, now)
			}
		}
	})
	return func() {
		close(done)
		loop.Wait()
		m.at, _ = memoryOf(m.pid)
		m.peak = max(m.peak, m.full, m.at)
	}
}

// filled notes the memory with the whole backlog.
func (m *memoryWatch) filled() {
	if m != nil {
		m.full, _ = memoryOf(m.pid)
	}
}

// side is what was seen; nil where nothing can be.
func (m *memoryWatch) side() *memorySide {
	if !m.known {
		return nil
	}
	mib := func(bytes int64) float64 { return rounded(float64(bytes) / (1 << 20)) }
	return &memorySide{mib(m.start), mib(m.full), mib(m.peak), mib(m.at), rounded(ratio(float64(m.peak), float64(m.start)))}
}
