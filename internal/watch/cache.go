package watch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/sourcegraph/conc"
)

const (
	listTime   = 5 * time.Second // without a value while listing, until it is begun anew
	firstPause = 20 * time.Millisecond
	lastPause  = time.Second
	lookEvery  = 2 * time.Second // whether the bucket is still the same
	lookTime   = time.Second
)

// Cache is the present values of one bucket under a filter. Get, Range, Revision and Failures may be called at any time
// and concurrently; before Start there is nothing.
type Cache[T any] struct {
	nc       *nats.Conn
	kv       jetstream.KeyValue
	filter   string
	decode   func([]byte) (T, error)
	log      *slog.Logger
	onChange func(key string, value T, revision uint64, deleted bool)

	// values is replaced as a whole by the one goroutine that follows, never changed.
	values   atomic.Pointer[map[string]entry[T]]
	revision atomic.Uint64
	failures atomic.Uint64
	made     time.Time // the bucket that values are of; the following goroutine's

	mu      sync.Mutex // guards what follows; never held while waiting
	started bool
	stopped bool
	cancel  context.CancelFunc
	loop    conc.WaitGroup
}

type entry[T any] struct {
	value    T
	revision uint64
	bad      bool // the present value of the key cannot be decoded and there was none before: not shown
}

// New makes a cache of the keys that match filter (a key, or a NATS wildcard: ">" is all). nc is the connection of kv,
// whose reconnects make the cache list again. decode is called with the bytes of a value, on one goroutine at a time, and
// may keep them. A nil log discards.
func New[T any](nc *nats.Conn, kv jetstream.KeyValue, filter string, decode func([]byte) (T, error), log *slog.Logger) *Cache[T] {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c := &Cache[T]{nc: nc, kv: kv, filter: filter, decode: decode, log: log}
	c.values.Store(&map[string]entry[T]{})
	return c
}

// OnChange sets what is called for every value that came, changed or went (deleted: value is the zero value), after readers
// see it and in the order of the bucket; also for those of the first listing, before Start returns. It is called on one
// goroutine and holds everything up while it runs. Set it before Start.
func (c *Cache[T]) OnChange(f func(key string, value T, revision uint64, deleted bool)) {
	c.onChange = f
}

// Start loads the present values and follows from then on. It returns when they are there, or with an error when ctx ends
// before. A second Start is an error.
func (c *Cache[T]) Start(ctx context.Context) error {
	c.mu.Lock()
	if c.started || c.stopped {
		c.mu.Unlock()
		return errors.New("watch: started twice, or after Stop")
	}
	c.started = true
	// What follows outlives the start: it ends with Stop, not with ctx.
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c.cancel = cancel
	reconnects := c.nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
	loaded := make(chan struct{})
	c.loop.Go(func() {
		defer c.nc.RemoveStatusListener(reconnects)
		c.run(run, reconnects, sync.OnceFunc(func() { close(loaded) }))
	})
	c.mu.Unlock()
	select {
	case <-loaded:
		return nil
	case <-ctx.Done():
		c.Stop()
		return fmt.Errorf("load %q of bucket %s: %w", c.filter, c.kv.Bucket(), context.Cause(ctx))
	}
}

// Stop ends following and waits. What was loaded can still be read. Safe twice and before Start.
func (c *Cache[T]) Stop() {
	c.mu.Lock()
	c.stopped = true
	cancel := c.cancel
	c.mu.Unlock()
	if cancel != nil {
		cancel()
		c.loop.Wait()
	}
}

// Get is the value of a key and its revision in the bucket. It takes no lock and allocates nothing.
func (c *Cache[T]) Get(key string) (value T, revision uint64, ok bool) {
	e, ok := (*c.values.Load())[key]
	return e.value, e.revision, ok && !e.bad
}

// Range calls f for every value until it returns false, in no order, over one moment's values.
func (c *Cache[T]) Range(f func(key string, value T, revision uint64) bool) {
	for key, e := range *c.values.Load() {
		if !e.bad && !f(key, e.value, e.revision) {
			return
		}
	}
}

// Revision is the highest revision seen, of deletions and of values that cannot be decoded too.
func (c *Cache[T]) Revision() uint64 { return c.revision.Load() }

// Failures counts the values that could not be decoded.
func (c *Cache[T]) Failures() uint64 { return c.failures.Load() }

// run lists and follows, again and again, until ctx ends or the connection is closed for good.
func (c *Cache[T]) run(ctx context.Context, reconnects <-chan nats.Status, loaded func()) {
	pause := firstPause
	for {
		err := c.watch(ctx, reconnects, func() { pause = firstPause; loaded() })
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, nats.ErrConnectionClosed):
			<-ctx.Done()
			return
		case errors.Is(err, errReconnected):
			continue
		case errors.Is(err, errAnother):
			c.log.Warn("the bucket was put back or made anew, will list again", "bucket", c.kv.Bucket(), "filter", c.filter)
			continue
		}
		c.log.Warn("watch lost, will list again", "bucket", c.kv.Bucket(), "filter", c.filter, "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause/2 + rand.N(pause/2)):
		}
		pause = min(2*pause, lastPause)
	}
}

var (
	errReconnected = errors.New("the connection was lost and is back")
	errClosed      = errors.New("the watch ended")
	errSilent      = errors.New("no answer while listing")
	errAnother     = errors.New("the bucket is another one")
)

// another reports whether the bucket is not the one that the values are of: it was deleted and made again, or put back from a backup.
// Its watch says nothing of that: it goes on with the revisions that come behind those it saw. made is when this one was made.
func (c *Cache[T]) another(ctx context.Context) (made time.Time, another bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	msg, err := c.nc.RequestWithContext(ctx, "$JS.API.STREAM.INFO.KV_"+c.kv.Bucket(), nil)
	if err != nil {
		return made, false, fmt.Errorf("look at bucket %s: %w", c.kv.Bucket(), err)
	}
	var info struct {
		Created time.Time           `json:"created"`
		Error   *jetstream.APIError `json:"error"`
		State   struct {
			LastSeq uint64 `json:"last_seq"`
		} `json:"state"`
	}
	switch err := json.Unmarshal(msg.Data, &info); {
	case err != nil:
		return made, false, fmt.Errorf("look at bucket %s: %w", c.kv.Bucket(), err)
	case info.Error != nil:
		return made, false, fmt.Errorf("look at bucket %s: %w", c.kv.Bucket(), info.Error)
	}
	return info.Created, !c.made.IsZero() && (!info.Created.Equal(c.made) || info.State.LastSeq < c.revision.Load()), nil
}

// watch lists once and follows until something ends it.
func (c *Cache[T]) watch(ctx context.Context, reconnects <-chan nats.Status, listed func()) error {
	// nats.go takes the context of a watch for its requests too: it bounds the creation, and ends with the watch.
	once, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silent := time.AfterFunc(listTime, func() { cancel(errSilent) })
	defer silent.Stop()
	made, anew, err := c.another(once)
	if err != nil {
		return errors.Join(err, context.Cause(once))
	}
	w, err := c.kv.Watch(once, c.filter)
	if err != nil {
		return errors.Join(err, context.Cause(once))
	}
	defer End(c.nc, w, func() { cancel(nil) })

	l := listing[T]{anew: anew, old: maps.Clone(*c.values.Load()), values: make(map[string]entry[T]), deleted: make(map[string]bool)}
	for !l.complete {
		select {
		case e, ok := <-w.Updates():
			if !ok {
				return errClosed
			}
			silent.Reset(listTime)
			c.list(&l, e)
		case s := <-reconnects:
			return reconnected(s)
		case <-once.Done():
			return context.Cause(once)
		}
	}
	if err := c.confirm(once, &l); err != nil {
		return err
	}
	silent.Stop()
	c.publish(&l)
	c.made = made
	listed()
	look := time.NewTicker(lookEvery/2 + rand.N(lookEvery/2))
	defer look.Stop()
	for {
		select {
		case e, ok := <-w.Updates():
			if !ok {
				return errClosed
			}
			if e != nil {
				c.apply(e, w.Updates())
			}
		case <-look.C:
			// An error is of a server that is away, or of a bucket that is: the next look tells.
			if _, another, err := c.another(ctx); err == nil && another {
				return errAnother
			}
		case s := <-reconnects:
			return reconnected(s)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func reconnected(s nats.Status) error {
	if s == nats.CLOSED {
		return nats.ErrConnectionClosed
	}
	return errReconnected
}

// listing is the values as they are listed, beside those before.
type listing[T any] struct {
	complete bool
	anew     bool // of another bucket: the same revision may have another value
	old      map[string]entry[T]
	values   map[string]entry[T]
	deleted  map[string]bool // came as deletions
	order    []string        // keys as they came
	revision uint64
}

func (c *Cache[T]) list(l *listing[T], e jetstream.KeyValueEntry) {
	if e == nil {
		l.complete = true
		return
	}
	l.revision = max(l.revision, e.Revision())
	if e.Operation() != jetstream.KeyValuePut {
		delete(l.values, e.Key()) // while listing goes on a key may come again
		l.deleted[e.Key()] = true
		return
	}
	l.order = append(l.order, e.Key())
	old, had := l.old[e.Key()]
	if !had || l.anew || old.revision != e.Revision() {
		old = c.entry(e, old, had)
	}
	l.values[e.Key()] = old
}

// confirm asks for keys that were shown and did not come: one that is written while a listing runs loses its place in it,
// because its last message is another one now, and comes behind the end. It is not gone for that.
func (c *Cache[T]) confirm(ctx context.Context, l *listing[T]) error {
	for key := range l.old {
		if _, came := l.values[key]; came || l.deleted[key] {
			continue
		}
		e, err := c.kv.Get(ctx, key)
		switch {
		case err == nil:
			c.list(l, e)
		case !errors.Is(err, jetstream.ErrKeyNotFound):
			return fmt.Errorf("look for key %s: %w", key, err)
		}
	}
	return nil
}

// entry decodes a value; a bad one leaves the old value in place, under the old revision.
func (c *Cache[T]) entry(e jetstream.KeyValueEntry, old entry[T], had bool) entry[T] {
	v, err := c.decode(e.Value())
	if err == nil {
		return entry[T]{value: v, revision: e.Revision()}
	}
	c.failures.Add(1)
	c.log.Error("value cannot be decoded, the last good one stays", "bucket", c.kv.Bucket(), "key", e.Key(),
		"revision", e.Revision(), "error", err)
	if had {
		return old
	}
	return entry[T]{bad: true, revision: e.Revision()}
}

// publish shows a complete listing and tells how it differs from what was shown.
func (c *Cache[T]) publish(l *listing[T]) {
	if l.anew {
		c.revision.Store(l.revision)
	}
	c.saw(l.revision)
	c.values.Store(&l.values)
	for key, old := range l.old {
		if _, still := l.values[key]; !still {
			c.tell(key, old, entry[T]{bad: true, revision: max(l.revision, old.revision)})
		}
	}
	for _, key := range l.order {
		if now, still := l.values[key]; still {
			old := l.old[key]
			if l.anew && !now.bad {
				old = entry[T]{} // it is told whatever its revision
			}
			c.tell(key, old, now)
			l.old[key] = now // a key that came twice is told once
		}
	}
}

// atOnce is how many changes that wait already share one copy of the values.
const atOnce = 256

// apply shows one change, with those that wait behind it.
func (c *Cache[T]) apply(first jetstream.KeyValueEntry, more <-chan jetstream.KeyValueEntry) {
	type told struct {
		key      string
		old, now entry[T]
	}
	var changes []told
	values := maps.Clone(*c.values.Load())
	revision := uint64(0)
	for _, e := range waiting(first, more) {
		revision = e.Revision()
		old, had := values[e.Key()]
		now := entry[T]{bad: true, revision: revision}
		if e.Operation() == jetstream.KeyValuePut {
			now = c.entry(e, old, had)
			values[e.Key()] = now
		} else {
			delete(values, e.Key())
		}
		changes = append(changes, told{e.Key(), old, now})
	}
	c.saw(revision)
	c.values.Store(&values)
	for _, x := range changes {
		c.tell(x.key, x.old, x.now)
	}
}

// waiting is the first entry and those that can be had without waiting, at most atOnce.
func waiting(first jetstream.KeyValueEntry, more <-chan jetstream.KeyValueEntry) []jetstream.KeyValueEntry {
	entries := []jetstream.KeyValueEntry{first}
	for len(entries) < atOnce {
		select {
		case e, ok := <-more:
			if !ok {
				return entries
			}
			if e != nil {
				entries = append(entries, e)
			}
		default:
			return entries
		}
	}
	return entries
}

// tell calls OnChange if what is shown of a key changed: bad is what is not shown.
func (c *Cache[T]) tell(key string, old, now entry[T]) {
	shown := old.revision > 0 && !old.bad
	switch {
	case c.onChange == nil, now.bad && !shown, !now.bad && shown && now.revision == old.revision:
	default:
		c.onChange(key, now.value, now.revision, now.bad)
	}
}

func (c *Cache[T]) saw(revision uint64) {
	if revision > c.revision.Load() {
		c.revision.Store(revision)
	}
}
