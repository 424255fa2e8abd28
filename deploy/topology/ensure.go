package topology

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/sourcegraph/conc/pool"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

const (
	// atOnce bounds the requests for streams of one Ensure that are on their way, and those for consumers.
	atOnce = 16
	// attempt bounds one request: an R1 stream whose server is gone never answers (measured: the create hangs).
	attempt = 3 * time.Second
	// Pauses between attempts grow from the first to the last, each drawn from its upper half.
	firstPause = 10 * time.Millisecond
	lastPause  = 500 * time.Millisecond
)

// Ensure makes what is missing of a fabric: [EnsureStores], then [EnsureCalls]. See there.
func Ensure(ctx context.Context, js jetstream.JetStream, names subjects.Names, fabric schema.Fabric) error {
	if err := EnsureStores(ctx, js, names); err != nil {
		return err
	}
	return EnsureCalls(ctx, js, names, fabric)
}

// EnsureStores makes the KV buckets and the object store of packages where they are missing. A manager runs it before it
// reads the fabric's numbers, which stand in one of them. It may run any number of times and at several managers at once.
//
// It is a [schema.CodeConflict] naming each difference if something else stands under one of the names; a server that is
// starting is waited for until ctx ends. js needs the rights of a manager.
func EnsureStores(ctx context.Context, js jetstream.JetStream, names subjects.Names) error {
	p := together(ctx)
	for _, kind := range Buckets() {
		p.Go(func(ctx context.Context) error { return ensureBucket(ctx, js, names, kind) })
	}
	p.Go(func(ctx context.Context) error { return ensureStream(ctx, js, fixed(kept(js, CodeStore(names)))) })
	return p.Wait()
}

// EnsureCalls makes the streams of unreserved arcs with one consumer for each of fabric.Arcs (0 means the default), and the
// streams EVENTS of the account default, RETRIES, DEADLETTERS, LOGS and USAGE, where they are missing. Consumers of higher arcs, left over from a larger number,
// stay until they are empty. It behaves as [EnsureStores] does.
func EnsureCalls(ctx context.Context, js jetstream.JetStream, names subjects.Names, fabric schema.Fabric) error {
	p := together(ctx)
	for _, c := range []jetstream.StreamConfig{
		Events(names, subjects.DefaultAccount), RetriesStream(names), DeadLettersStream(names), LogsStream(names),
		UsageStream(names),
	} {
		p.Go(func(ctx context.Context) error { return ensureStream(ctx, js, fixed(kept(js, c))) })
	}
	p.Go(func(ctx context.Context) error { return ensureArcs(ctx, js, names, fabric) })
	return p.Wait()
}

// ensureArcs is the part of [EnsureCalls] that sync calls rest on: the streams of unreserved arcs and their consumers.
func ensureArcs(ctx context.Context, js jetstream.JetStream, names subjects.Names, fabric schema.Fabric) error {
	arcs := fabric.Arcs
	if arcs == 0 {
		arcs = subjects.DefaultArcs
	}
	if arcs < 0 || arcs > subjects.MaxArcs {
		return schema.Errorf(schema.CodeInvalidParameter, "arcs: is %d; 1 to %d", arcs, subjects.MaxArcs)
	}
	p := together(ctx)
	for stream := range subjects.UnreservedStreams {
		p.Go(func(ctx context.Context) error { return EnsureCallsU(ctx, js, names, stream, arcs) })
	}
	return p.Wait()
}

// EnsureCallsU makes one stream of unreserved arcs and the consumers of those of its arcs that a fabric of so many has. It behaves as
// [EnsureStores] does.
func EnsureCallsU(ctx context.Context, js jetstream.JetStream, names subjects.Names, stream, arcs int) error {
	callsU := func() jetstream.StreamConfig { return CallsU(names, stream, time.Now()) }
	if err := ensureStream(ctx, js, callsU); err != nil {
		return err
	}
	p := together(ctx).WithMaxGoroutines(atOnce / subjects.UnreservedStreams)
	for nn := stream; nn < arcs; nn += subjects.UnreservedStreams {
		p.Go(func(ctx context.Context) error { return ensureConsumer(ctx, js, callsU, Arc(names, nn)) })
	}
	return p.Wait()
}

// together runs some at once and gives the first error, when all have ended: a request that the server still works on is
// not left behind.
func together(ctx context.Context) *pool.ContextPool {
	return pool.New().WithContext(ctx).WithFirstError().WithMaxGoroutines(atOnce)
}

func fixed(c jetstream.StreamConfig) func() jetstream.StreamConfig {
	return func() jetstream.StreamConfig { return c }
}

// ensureStream makes one stream; want is asked anew for each attempt, for the sake of the first sequence.
func ensureStream(ctx context.Context, js jetstream.JetStream, want func() jetstream.StreamConfig) error {
	err := retry(ctx, func(ctx context.Context) error {
		c := want()
		err := makeStream(ctx, js, c)
		if alone(err) {
			c.Replicas = 1
			err = makeStream(ctx, js, c)
		}
		if few(err) && c.Replicas > 1 {
			err = fmt.Errorf("%d servers of the cluster keep it: start as many, with JetStream on: %w", c.Replicas, err)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("set up stream %s: %w", want().Name, err)
	}
	return nil
}

// makeStream makes a stream, or gives the one that stands there what it lacks.
func makeStream(ctx context.Context, js jetstream.JetStream, c jetstream.StreamConfig) error {
	_, err := js.CreateStream(ctx, c)
	if !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return err
	}
	s, err := js.Stream(ctx, c.Name)
	if err != nil {
		return err
	}
	has := s.CachedInfo().Config
	if d := streamDifferences(has, c); len(d) > 0 {
		return conflict(d)
	}
	if raised, changed := raise(has, c); changed {
		_, err = js.UpdateStream(ctx, raised)
		return err
	}
	return nil
}

// ensureConsumer makes one consumer; where its stream went away meanwhile (a server that restarted), that too.
func ensureConsumer(ctx context.Context, js jetstream.JetStream, on func() jetstream.StreamConfig, c jetstream.ConsumerConfig) error {
	stream := on().Name
	err := retry(ctx, func(ctx context.Context) error {
		_, err := js.CreateConsumer(ctx, stream, c)
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
			if err := ensureStream(ctx, js, on); err != nil {
				return err
			}
			return errAgain
		case !errors.Is(err, jetstream.ErrConsumerExists):
			return err
		}
		consumer, err := js.Consumer(ctx, stream, c.Durable)
		if err != nil {
			return err
		}
		has := consumer.CachedInfo().Config
		if d := consumerDifferences(has, c); len(d) > 0 {
			return conflict(d)
		}
		if raised, changed := raiseConsumer(has, c); changed {
			_, err = js.UpdateConsumer(ctx, stream, raised)
			return err
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("set up consumer %s of stream %s: %w", c.Durable, stream, err)
	}
	return nil
}

func conflict(d differences) error {
	return schema.Errorf(schema.CodeConflict,
		"another one stands there: %v; move it away, or give this fabric another prefix", d)
}

// errAgain asks for another attempt.
var errAgain = errors.New("changed meanwhile")

// retry runs do until it succeeds, fails for a reason that waiting does not mend, or ctx ends.
func retry(ctx context.Context, do func(ctx context.Context) error) error {
	var last error // of an attempt that ctx did not cut short: that one says what is wrong
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		once, cancel := context.WithTimeoutCause(ctx, attempt, errors.New("no answer from JetStream"))
		err := do(once)
		cancel()
		if err == nil || !passing(err) {
			return err
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			cause := context.Cause(ctx)
			return &schema.Error{
				Code: schema.CodeUnavailable, Message: fmt.Sprintf("%v; last attempt: %v", cause, last), Cause: errors.Join(cause, last),
			}
		case <-time.After(pause/2 + rand.N(pause/2)):
		}
	}
}

// passing reports whether an error may be gone at the next attempt: nobody answered, the server starts, another manager
// changed the same thing.
func passing(err error) bool {
	for _, transient := range []error{
		errAgain, context.DeadlineExceeded, nats.ErrTimeout, nats.ErrNoResponders, jetstream.ErrNoStreamResponse, nats.ErrDisconnected,
		nats.ErrConnectionReconnecting, nats.ErrReconnectBufExceeded, jetstream.ErrStreamNotFound,
		jetstream.ErrConsumerNotFound, jetstream.ErrConsumerDoesNotExist,
	} {
		if errors.Is(err, transient) {
			return true
		}
	}
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return false
	}
	return few(err) || api.Code == 503 && api.ErrorCode != jetstream.JSErrCodeJetStreamNotEnabledForAccount
}
