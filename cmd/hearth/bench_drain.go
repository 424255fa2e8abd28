package main

import (
	"context"
	"fmt"
	"strings"
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

// warmDrain is how many messages a place runs before a drain is measured: its environment is there then.
const warmDrain = 20

// drain measures a backlog of events beside two of half its size, before and after, for the plain worker. A drain is over when
// nothing waits, for another try neither.
func (b *eventBench) drain(ctx context.Context) error {
	if b.spec.Drain == 0 {
		return nil
	}
	retries := b.names.Stream(topology.Retries)
	queue := backlog{b.queue, []string{b.names.Stream(topology.BenchQueue)}}
	events := backlog{b.events, []string{b.names.Events(subjects.DefaultAccount), retries}}
	for _, warm := range []backlog{queue, events} {
		if _, err := b.drainOf(ctx, warm, warmDrain*b.spec.Running, nil); err != nil {
			return err
		}
	}
	first, err := b.lastOf(ctx, retries)
	if err != nil {
		return err
	}
	before, err := b.drainOf(ctx, queue, b.spec.Drain/2, nil)
	if err != nil {
		return err
	}
	m := memoryWatch{pid: b.spec.PID}
	event, err := b.drainOf(ctx, events, b.spec.Drain, &m)
	if err != nil {
		return err
	}
	after, err := b.drainOf(ctx, queue, b.spec.Drain/2, nil)
	if err != nil {
		return err
	}
	last, err := b.lastOf(ctx, retries)
	if err != nil {
		return err
	}
	twin := before.and(after)
	b.result.Drain = &drainResult{
		Events: b.spec.Drain, Running: b.spec.Running, Event: event, Queue: twin, RatioRate: rounded(ratio(event.Rate, twin.Rate)), Memory: m.side(),
		Retries: int(last - first),
	}
	dead, err := b.held(ctx, b.names.Stream(topology.DeadLetters))
	if err == nil && dead > 0 {
		b.result.Errors += int(dead)
		b.result.FirstError = fmt.Sprintf("%d events of the drain are dead letters", dead)
	}
	return err
}

// backlog is what is drained: where it is published, and the streams that it leaves.
type backlog struct {
	subject string
	streams []string
}

// and is two drains as one.
func (s drainSide) and(o drainSide) drainSide {
	sum := drainSide{Measured: s.Measured + o.Measured, Seconds: rounded(s.Seconds + o.Seconds)}
	sum.Rate = rounded(ratio(float64(sum.Measured), sum.Seconds))
	if s.CPU != nil && o.CPU != nil {
		cpu := rounded(ratio(*s.CPU*float64(s.Measured)+*o.CPU*float64(o.Measured), float64(sum.Measured)))
		sum.CPU = &cpu
	}
	return sum
}

// drainOf publishes a backlog and watches its streams until they are empty.
func (b *eventBench) drainOf(ctx context.Context, what backlog, n int, m *memoryWatch) (s drainSide, err error) {
	defer m.watch()()
	if err := b.fill(ctx, what.subject, n); err != nil {
		return s, err
	}
	m.filled()
	left, err := b.held(ctx, what.streams...)
	if err != nil {
		return s, err
	}
	begin := time.Now()
	used, known := familyCPU(b.spec.PID, b.spec.Worker)
	first, moved := left, begin
	for left > 0 {
		if err := pause(ctx, drainLook); err != nil {
			return s, err
		}
		now, err := b.held(ctx, what.streams...)
		if err != nil {
			return s, err
		}
		if now < left {
			moved = time.Now()
		} else if time.Since(moved) > drainStall {
			return s, fmt.Errorf("%d of %d messages have been left in %s for %v", now, n, strings.Join(what.streams, " and "), drainStall)
		}
		left = now
	}
	took := time.Since(begin).Seconds()
	s = drainSide{Measured: int(first), Seconds: rounded(took), Rate: rounded(ratio(float64(first), took))}
	if now, ok := familyCPU(b.spec.PID, b.spec.Worker); ok && known && first > 0 {
		cpu := rounded(float64((now - used).Microseconds()) / float64(first))
		s.CPU = &cpu
	}
	return s, nil
}

// familyCPU is the CPU time of processes and of all below them.
func familyCPU(pids ...int) (sum time.Duration, ok bool) {
	for _, pid := range pids {
		used, ok := cpuOf(pid)
		if pid == 0 || !ok {
			return 0, false
		}
		sum += used
		for _, child := range descendants(pid) {
			used, _ := cpuOf(child)
			sum += used
		}
	}
	return sum, true
}

// held is how many messages streams hold.
func (b *eventBench) held(ctx context.Context, streams ...string) (n uint64, err error) {
	for _, stream := range streams {
		s, err := b.plain[0].Stream(ctx, stream)
		if err != nil {
			return 0, fmt.Errorf("look at stream %s: %w", stream, err)
		}
		n += s.CachedInfo().State.Msgs
	}
	return n, nil
}

// lastOf is the last sequence of a stream.
func (b *eventBench) lastOf(ctx context.Context, stream string) (uint64, error) {
	s, err := b.plain[0].Stream(ctx, stream)
	if err != nil {
		return 0, fmt.Errorf("look at stream %s: %w", stream, err)
	}
	return s.CachedInfo().State.LastSeq, nil
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
