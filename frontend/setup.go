package frontend

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/watch"
	"github.com/hearth-run/hearth/schema"
)

const (
	setUpAgain  = 100 * time.Millisecond // what a manager has not set up yet is looked for again
	bucketWait  = 2 * time.Second        // for one answer about a bucket: a cluster that has no leader yet gives none
	streamAgain = 20                     // so often, where the server does not answer for the stream at all
)

// awaitSetUp waits until managers have set the fabric up, and loads what calls need: functions, reservations, ring, fabric,
// arcs. It ends with ctx, naming what was missing.
func (f *Frontend) awaitSetUp(ctx context.Context, js jetstream.JetStream) error {
	var w waiting
	telling, end := context.WithCancel(ctx)
	var loop conc.WaitGroup
	loop.Go(func() { w.tell(telling, f.log) })
	defer loop.Wait()
	defer end()
	return f.loadSetUp(ctx, js, &w)
}

func (f *Frontend) loadSetUp(ctx context.Context, js jetstream.JetStream, waits *waiting) error {
	functions, err := f.bucket(ctx, js, waits, topology.Functions)
	if err != nil {
		return err
	}
	ring, err := f.bucket(ctx, js, waits, topology.Ring)
	if err != nil {
		return err
	}
	arcs, err := f.bucket(ctx, js, waits, topology.Arcs)
	if err != nil {
		return err
	}
	reservations, err := f.bucket(ctx, js, waits, topology.Reservations)
	if err != nil {
		return err
	}
	keys, err := f.bucket(ctx, js, waits, topology.Keys)
	if err != nil {
		return err
	}
	f.functions.kv = functions
	w := &f.watches
	w.functions = watch.New(f.nc, functions, ">", decodeFunction, f.log)
	w.functions.OnChange(func(key string, record *schema.FunctionRecord, revision uint64, deleted bool) {
		f.functions.changed(record, key, revision, deleted)
		f.view.saw(revision)
		select {
		case f.functionsChanged <- struct{}{}:
		default:
		}
	})
	haveRing, haveFabric := make(chan struct{}), make(chan struct{})
	w.ring = watch.New(f.nc, ring, schema.RingKey, decode[schema.RingRecord], f.log)
	w.ring.OnChange(func(_ string, r schema.RingRecord, _ uint64, deleted bool) {
		if deleted {
			return // nobody deletes it; the last one serves until there is another
		}
		f.view.ring.Store(&r)
		closeOnce(haveRing)
	})
	w.fabric = watch.New(f.nc, ring, schema.FabricKey, decode[schema.Fabric], f.log)
	w.fabric.OnChange(func(_ string, v schema.Fabric, _ uint64, deleted bool) {
		if deleted {
			return
		}
		f.view.fabric.Store(&v)
		closeOnce(haveFabric)
	})
	w.arcs = watch.New(f.nc, arcs, ">", decode[schema.ArcRecord], f.log)
	w.reservations = watch.New(f.nc, reservations, ">", decodeReservation, f.log)
	w.reservations.OnChange(f.reservationChanged)
	w.keys = watch.New(f.nc, keys, schema.TokenKeysName("*"), decode[schema.TokenKeysRecord], f.log)
	for _, c := range []struct {
		name  string
		start func(context.Context) error
	}{
		{"functions", w.functions.Start}, {"ring", w.ring.Start}, {"fabric", w.fabric.Start}, {"arcs", w.arcs.Start},
		{"reservations", w.reservations.Start}, {"the keys of tokens", w.keys.Start},
	} {
		waits.on("the values of " + c.name)
		if err := c.start(ctx); err != nil {
			return fmt.Errorf("load %s: %w", c.name, err)
		}
	}
	if err := await(ctx, haveFabric, waits, "key fabric, which the first manager writes"); err != nil {
		return err
	}
	if err := await(ctx, haveRing, waits, "key ring, which the controller writes"); err != nil {
		return err
	}
	return f.awaitStreams(ctx, waits)
}

// stop ends the watches that were begun.
func (w *watches) stop() {
	var all conc.WaitGroup // side by side: each waits for the server
	if w.functions != nil {
		all.Go(w.functions.Stop)
	}
	if w.ring != nil {
		all.Go(w.ring.Stop)
	}
	if w.fabric != nil {
		all.Go(w.fabric.Stop)
	}
	if w.arcs != nil {
		all.Go(w.arcs.Stop)
	}
	if w.reservations != nil {
		all.Go(w.reservations.Stop)
	}
	if w.keys != nil {
		all.Go(w.keys.Stop)
	}
	all.Wait()
}

// bucket opens a KV bucket, waiting until a manager has made it.
func (f *Frontend) bucket(ctx context.Context, js jetstream.JetStream, waits *waiting, kind string) (jetstream.KeyValue, error) {
	name := f.names.Bucket(kind)
	waits.on("bucket " + name)
	for {
		once, cancel := context.WithTimeoutCause(ctx, bucketWait, errors.New("no answer from JetStream"))
		kv, err := js.KeyValue(once, name)
		cancel()
		if err == nil {
			return kv, nil
		}
		if !errors.Is(err, jetstream.ErrBucketNotFound) {
			waits.on(fmt.Sprintf("bucket %s (%v)", name, err))
			f.log.Debug("bucket does not answer yet", "bucket", name, "error", err)
		}
		if err := pause(ctx, setUpAgain); err != nil {
			return nil, fmt.Errorf("wait for bucket %s, which managers make: %w", name, err)
		}
	}
}

// awaitStreams waits for the streams of unreserved arcs. A server that answers nothing at all, as one does that does not let this
// frontend ask, is not waited for for ever: a stream's identity then stays unknown, and calls that a restart of the
// server swallows are told as lost instead of not started.
func (f *Frontend) awaitStreams(ctx context.Context, waits *waiting) error {
	for tries := 0; ; tries++ {
		var unknown *stream
		f.eachStream(func(s *stream) {
			if s.reserved || s.first.Load() != 0 {
				return
			}
			if unknown = s; tries%streamAgain == 0 {
				f.ask(s)
			}
		})
		if unknown == nil {
			return nil
		}
		if tries == 3*streamAgain {
			f.log.Warn("a stream of calls cannot be asked for; going on without", "stream", unknown.name)
			return nil
		}
		waits.on("stream " + unknown.name)
		if err := pause(ctx, setUpAgain/2); err != nil {
			return fmt.Errorf("wait for stream %s, which managers make: %w", unknown.name, err)
		}
	}
}

// awaitRound waits until every manager on the ring has told its status, for two rounds at most: who is silent then
// is as good as gone.
func (f *Frontend) awaitRound(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*tickTime)
	defer cancel()
	for {
		change := f.view.change()
		if f.view.round() {
			return
		}
		select {
		case <-change:
		case <-ctx.Done():
			return
		}
	}
}

// awaitAlone refuses an id under which another process tells its statuses: callers of the one would be counted as the
// other's. Whoever lives has told two of them since listening began.
func (f *Frontend) awaitAlone(ctx context.Context, listening time.Time) error {
	if !f.stable {
		return nil
	}
	if err := pause(ctx, time.Until(listening.Add(2*tickTime+tickTime/4))); err != nil {
		return fmt.Errorf("wait for another holder of the id: %w", err)
	}
	if other := f.twin.Load(); other != nil {
		return schema.Errorf(schema.CodeConflict, "frontend id %q is held by another process (incarnation %s): stop that one, or choose "+
			"another with --id", f.id, other)
	}
	return nil
}

// arcKey is the key of unreserved arc nn in bucket arcs.
func arcKey(nn int) string { return "u." + strconv.Itoa(nn) }

func decode[T any](b []byte) (T, error) {
	var v T
	err := schema.Unmarshal(b, &v)
	return v, err
}

func await(ctx context.Context, ready <-chan struct{}, waits *waiting, what string) error {
	waits.on(what)
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for %s: %w", what, context.Cause(ctx))
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// closeOnce closes a channel that one goroutine alone closes, unless it is closed already.
func closeOnce(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}
