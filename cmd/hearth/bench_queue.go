package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/sourcegraph/conc"
	"github.com/spf13/cobra"

	"github.com/hearth-run/hearth/deploy/topology"
)

// The plain twin of everything that happens to an event after its PubAck: a worker as one would write it by hand, on a file
// work queue like that of events, for the same function on the bare Runtime API. It pulls batches, keeps so many running,
// and acks what ran.

// queueSpec is what it is told.
type queueSpec struct {
	Target  targetSpec
	Running int      // at once
	Hop     *hopSpec // nil: nothing is run, as with driver null
}

// Of the worker: how much it pulls at once and how long it waits for that, as its consumer is set up.
const (
	queueBatch   = 64
	queueWait    = 2 * time.Second
	queueDurable = "worker"
)

// benchQueue works until standard input closes, and removes its stream.
func (a *app) benchQueue(cmd *cobra.Command, in *bufio.Reader) error {
	spec, err := readSpec[queueSpec](in)
	if err != nil {
		return err
	}
	defer tune()() // as the fabric that it is compared with
	t, err := spec.Target.target()
	if err != nil {
		return err
	}
	c, err := t.connect(cmd.Context())
	if err != nil {
		return err
	}
	defer c.Close()
	js, err := jetstream.New(c.Conn())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	q := queueWorker{spec: spec}
	if spec.Hop != nil {
		if q.hops, err = startHops(ctx, spec.Hop, spec.Running); err != nil {
			return err
		}
		defer q.hops.stop()
	}
	stream := topology.Bench(t.names, topology.BenchQueue)
	if _, err := js.CreateStream(ctx, stream); err != nil {
		return fmt.Errorf("make stream %s: %w", stream.Name, err)
	}
	defer removeStream(ctx, js, stream.Name)
	if q.consumer, err = js.CreateConsumer(ctx, stream.Name, jetstream.ConsumerConfig{
		Durable: queueDurable, AckPolicy: jetstream.AckExplicitPolicy, MaxDeliver: -1,
	}); err != nil {
		return fmt.Errorf("make a consumer on %s: %w", stream.Name, err)
	}
	var loop conc.WaitGroup
	loop.Go(func() { err = q.run(ctx) })
	fmt.Fprintln(a.stdout, "ready")
	_, _ = io.Copy(io.Discard, in)
	cancel()
	loop.Wait()
	return err
}

// removeStream removes a stream of ours, whatever ended before.
func removeStream(ctx context.Context, js jetstream.JetStream, name string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = js.DeleteStream(ctx, name) // the fabric's folder goes anyway
}

type queueWorker struct {
	spec     queueSpec
	hops     *hops
	consumer jetstream.Consumer
}

// run works until ctx ends. A function that fails ends it: the measurement would be void.
func (q *queueWorker) run(ctx context.Context) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	claimed := make(chan jetstream.Msg, queueBatch)
	var workers conc.WaitGroup
	for i := range q.spec.Running {
		workers.Go(func() {
			for m := range claimed {
				if err := q.handle(ctx, i, m); err != nil && ctx.Err() == nil {
					fail(err)
				}
			}
		})
	}
	for ctx.Err() == nil {
		batch, err := q.consumer.Fetch(queueBatch, jetstream.FetchMaxWait(queueWait))
		if err != nil {
			fail(fmt.Errorf("pull from the work queue: %w", err))
			break
		}
		for m := range batch.Messages() {
			claimed <- m
		}
		if err := batch.Error(); err != nil && !errors.Is(err, jetstream.ErrNoMessages) {
			fail(fmt.Errorf("pull from the work queue: %w", err))
		}
	}
	close(claimed)
	workers.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// handle runs one message in the worker's own environment.
func (q *queueWorker) handle(ctx context.Context, i int, m jetstream.Msg) error {
	if q.hops != nil {
		if _, _, err := q.hops.all[i].call(ctx, m.Data()); err != nil {
			return err
		}
	}
	return m.Ack()
}
