package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/subjects"
)

// eventsSpec is what the process that measures events is told.
type eventsSpec struct {
	Target      targetSpec
	Function    string
	Runs        bool  // there is a function, so that it can tell of its run and be held
	InFlight    []int // acceptance is measured with so many at once
	Connections int
	Duration    time.Duration // of each part but the drain
	Slice       time.Duration
	Drain       int
	Running     int
	PID         int // of the fabric
	Worker      int // pid of the plain one
}

// eventBench measures events beside their plain twins.
type eventBench struct {
	spec   eventsSpec
	names  subjects.Names
	conns  []*conn
	plain  []jetstream.JetStream // on the same connections
	events string                // subjects: of an event, and of its twins
	queue  string
	stream string

	words  atomic.Int64
	result eventsResult
}

// benchEvents measures and prints the result as JSON.
func (a *app) benchEvents(cmd *cobra.Command, in *bufio.Reader) error {
	spec, err := readSpec[eventsSpec](in)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	t, err := spec.Target.target()
	if err != nil {
		return err
	}
	most := 1
	for _, n := range spec.InFlight {
		most = max(most, n)
	}
	conns, hang, err := t.connections(ctx, min(most, cmp.Or(spec.Connections, benchConnections)))
	if err != nil {
		return err
	}
	defer hang()
	b := &eventBench{
		spec: spec, names: t.names, events: t.names.Event(subjects.DefaultAccount, spec.Function, ""),
		queue: t.names.Bench(topology.BenchQueue), stream: t.names.Bench(topology.BenchPublish),
	}
	if err := b.open(conns); err != nil {
		return err
	}
	// Acceptance comes last: what it leaves in the stream is not run.
	if err := b.run(ctx); err != nil {
		return err
	}
	if err := b.drain(ctx); err != nil {
		return err
	}
	if err := b.accept(ctx); err != nil {
		return err
	}
	return a.printJSON(b.result)
}

// open takes connections over.
func (b *eventBench) open(conns []*conn) error {
	b.conns = conns
	for _, c := range conns {
		js, err := jetstream.New(c.Conn(), jetstream.WithPublishAsyncMaxPending(fillWindow))
		if err != nil {
			return err
		}
		b.plain = append(b.plain, js)
	}
	return nil
}

// payload is a JSON string of words, filled up to the usual length.
func payload(words string) []byte {
	return []byte(`"` + words + " " + strings.Repeat("x", max(1, benchPayload-3-len(words))) + `"`)
}

// handIn gives one payload to a side and returns with its PubAck.
type handIn func(ctx context.Context, caller int, data []byte) error

// send hands in an event as users of the client do.
func (b *eventBench) send(ctx context.Context, i int, data []byte) error {
	_, err := b.conns[i%len(b.conns)].Send(ctx, client.Event{Function: b.spec.Function, Payload: data})
	return err
}

// publish hands in a message by js.Publish.
func (b *eventBench) publish(subject string) handIn {
	return func(ctx context.Context, i int, data []byte) error {
		ctx, cancel := context.WithTimeout(ctx, requestTimeout)
		defer cancel()
		if _, err := b.plain[i%len(b.plain)].Publish(ctx, subject, data); err != nil {
			return fmt.Errorf("publish to %s: %w", subject, err)
		}
		return nil
	}
}

// count takes over how a load went.
func (b *eventBench) count(r *loadResult) {
	b.result.Errors += r.Errors
	b.result.FirstError = cmp.Or(b.result.FirstError, r.FirstError)
}

// accept measures acceptance. The first events hold all places that events may use, so nobody works on the others meanwhile:
// on the plain side nobody does either. Where no code runs, nothing can hold, and the fabric works on them all the while (tried:
// a twentieth of the rate on busy cores): what is measured would not be the PubAck.
func (b *eventBench) accept(ctx context.Context) error {
	if !b.spec.Runs {
		return nil
	}
	twin := topology.Bench(b.names, topology.BenchPublish)
	if _, err := b.plain[0].CreateStream(ctx, twin); err != nil {
		return fmt.Errorf("make stream %s: %w", twin.Name, err)
	}
	defer removeStream(ctx, b.plain[0], twin.Name)
	data := payload("hang")
	by := func(hand handIn) func(context.Context, int) (time.Duration, error) {
		return timed(func(ctx context.Context, i int) error { return hand(ctx, i, data) })
	}
	for _, n := range b.spec.InFlight {
		event, publish := closedLoop(n, by(b.send)), closedLoop(n, by(b.publish(b.stream)))
		publish(ctx, b.spec.Slice)
		event(ctx, b.spec.Slice)
		l := load{slice: b.spec.Slice, duration: b.spec.Duration, cpu: cpuMeter{b.spec.PID}, sides: []side{publish, event}}
		r := l.run(ctx)
		b.count(&r)
		b.result.Accept = append(b.result.Accept, acceptResult{
			Publish: r.sides[0], Event: r.sides[1], Concurrency: n, Connections: min(n, len(b.conns)), Rounds: r.Rounds,
			RatioP50:  r.ratio(func(round []benchSide) float64 { return ratio(round[1].p50(), round[0].p50()) }),
			RatioRate: r.ratio(func(round []benchSide) float64 { return ratio(round[1].perSecond(), round[0].perSecond()) }),
		})
	}
	return context.Cause(ctx)
}

// run measures from the publish until the function has run, one at a time in an idle system. Function and moment are the
// same on both sides: what the handler of the function tells.
func (b *eventBench) run(ctx context.Context) error {
	if !b.spec.Runs {
		return nil
	}
	o, err := newObserver()
	if err != nil {
		return err
	}
	defer o.stop()
	by := func(hand handIn) func(context.Context, int) (time.Duration, error) {
		return func(ctx context.Context, i int) (time.Duration, error) {
			if err := pause(ctx, idlePause); err != nil {
				return 0, err
			}
			word := strconv.FormatInt(b.words.Add(1), 10)
			data := payload("tell " + o.address() + " " + word)
			begin := time.Now()
			if err := hand(ctx, i, data); err != nil {
				return 0, err
			}
			at, err := o.wait(ctx, word)
			return at.Sub(begin), err
		}
	}
	event, queue := by(b.send), by(b.publish(b.queue))
	if _, err := queue(ctx, 0); err != nil {
		return fmt.Errorf("the first message of the plain queue: %w", err)
	}
	if _, err := event(ctx, 0); err != nil {
		return fmt.Errorf("the first event: %w", err)
	}
	l := load{slice: b.spec.Slice, duration: b.spec.Duration, sides: []side{closedLoop(1, queue), closedLoop(1, event)}}
	r := l.run(ctx)
	b.count(&r)
	of := func(s *benchSide) latencySide { return latencySide{s.P50, s.P99, s.Calls} }
	b.result.Run = &runResult{
		Queue: of(&r.sides[0]), Event: of(&r.sides[1]), Rounds: r.Rounds, RatioP99: rounded(ratio(r.sides[1].P99, r.sides[0].P99)),
		RatioP50: r.ratio(func(round []benchSide) float64 { return ratio(round[1].p50(), round[0].p50()) }),
	}
	return context.Cause(ctx)
}

// fillWindow is how many messages of a backlog wait for their PubAck at once.
const fillWindow = 4096

// fill publishes a backlog as quickly as the server takes it.
func (b *eventBench) fill(ctx context.Context, subject string, n int) error {
	js, data := b.plain[0], payload("one")
	waiting := make([]jetstream.PubAckFuture, 0, fillWindow)
	settle := func() error {
		for _, f := range waiting {
			select {
			case <-f.Ok():
			case err := <-f.Err():
				return fmt.Errorf("publish a backlog to %s: %w", subject, err)
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		waiting = waiting[:0]
		return nil
	}
	for range n {
		f, err := js.PublishMsgAsync(&nats.Msg{Subject: subject, Data: data}, jetstream.WithStallWait(requestTimeout))
		if err != nil {
			return fmt.Errorf("publish a backlog to %s: %w", subject, err)
		}
		if waiting = append(waiting, f); len(waiting) == cap(waiting) {
			if err := settle(); err != nil {
				return err
			}
		}
	}
	return settle()
}
