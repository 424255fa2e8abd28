package watch_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/internal/watch"
	"github.com/hearth-run/hearth/schema"
)

func TestMain(m *testing.M) { natstest.Main(m) }

const patience = 20 * time.Second

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func number(b []byte) (int, error) { return strconv.Atoi(string(b)) }

// bundle is a cache over a bucket with what OnChange told, replayed into a map.
type bundle struct {
	f     *natstest.Fabric
	nc    *nats.Conn
	kv    jetstream.KeyValue
	cache *watch.Cache[int]

	mu    sync.Mutex
	told  map[string]int
	count int
}

func setup(t *testing.T, kind string) *bundle {
	t.Helper()
	b := &bundle{f: natstest.Start(t), told: map[string]int{}}
	b.nc = b.f.ConnectTCP(t)
	js, err := jetstream.New(b.nc)
	if err != nil {
		t.Fatal(err)
	}
	if b.kv, err = js.KeyValue(within(t), b.f.Names.Bucket(kind)); err != nil {
		t.Fatal(err)
	}
	b.cache = watch.New(b.nc, b.kv, ">", number, slog.New(slog.NewTextHandler(t.Output(), nil)))
	b.cache.OnChange(func(key string, v int, _ uint64, deleted bool) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.count++
		if deleted {
			delete(b.told, key)
		} else {
			b.told[key] = v
		}
	})
	t.Cleanup(b.cache.Stop)
	return b
}

func (b *bundle) put(t *testing.T, key, value string) uint64 {
	t.Helper()
	rev, err := b.kv.PutString(within(t), key, value)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func (b *bundle) shown() map[string]int {
	all := map[string]int{}
	b.cache.Range(func(key string, v int, _ uint64) bool { all[key] = v; return true })
	return all
}

// shows waits until readers see exactly these values, and OnChange was told the same.
func (b *bundle) shows(t *testing.T, want map[string]int) {
	t.Helper()
	natstest.Eventually(t, patience, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return maps.Equal(b.shown(), want) && maps.Equal(b.told, want)
	}, fmt.Sprintf("shown are %v", want))
}

func TestCacheLoadsAndFollows(t *testing.T) {
	t.Parallel()
	b := setup(t, topology.Functions)
	b.put(t, "a", "1")
	b.put(t, "gone", "1")
	if err := b.kv.Delete(within(t), "gone"); err != nil {
		t.Fatal(err)
	}
	rev := b.put(t, "b", "2")
	if err := b.cache.Start(within(t)); err != nil {
		t.Fatal(err)
	}
	// No waiting: Start returned, so they are there, and told.
	if got := b.shown(); !maps.Equal(got, map[string]int{"a": 1, "b": 2}) || !maps.Equal(b.told, got) {
		t.Errorf("after Start: shown %v, told %v", got, b.told)
	}
	if v, r, ok := b.cache.Get("b"); v != 2 || r != rev || !ok || b.cache.Revision() != rev {
		t.Errorf("b: %d at %d, %v; revision %d", v, r, ok, b.cache.Revision())
	}
	if _, _, ok := b.cache.Get("gone"); ok {
		t.Error("a deleted key is shown")
	}
	rev = b.put(t, "a", "3")
	b.shows(t, map[string]int{"a": 3, "b": 2})
	if _, r, _ := b.cache.Get("a"); r != rev {
		t.Errorf("a is at %d, want %d", r, rev)
	}
	if err := b.kv.Purge(within(t), "b"); err != nil {
		t.Fatal(err)
	}
	b.shows(t, map[string]int{"a": 3})
	natstest.Eventually(t, patience, func() bool { return b.cache.Revision() == rev+1 }, "the deletion has been seen")
}

func TestCacheKeepsTheLastGoodValue(t *testing.T) {
	t.Parallel()
	b := setup(t, topology.Functions)
	good := b.put(t, "a", "1")
	b.put(t, "never", "garbage")
	if err := b.cache.Start(within(t)); err != nil {
		t.Fatal(err)
	}
	b.put(t, "a", "garbage")
	b.put(t, "b", "2")
	b.shows(t, map[string]int{"a": 1, "b": 2})
	if v, r, ok := b.cache.Get("a"); v != 1 || r != good || !ok {
		t.Errorf("a: %d at %d, %v", v, r, ok)
	}
	if _, _, ok := b.cache.Get("never"); ok || b.cache.Failures() != 2 {
		t.Errorf("never is shown: %v; %d failures", ok, b.cache.Failures())
	}
	b.put(t, "never", "5")
	b.shows(t, map[string]int{"a": 1, "b": 2, "never": 5})
	b.put(t, "never", "garbage")
	if err := b.kv.Delete(within(t), "never"); err != nil {
		t.Fatal(err)
	}
	b.shows(t, map[string]int{"a": 1, "b": 2})
}

func TestCacheShowsLeasesExpire(t *testing.T) {
	t.Parallel()
	b := setup(t, topology.Members)
	if err := b.cache.Start(within(t)); err != nil {
		t.Fatal(err)
	}
	b.put(t, "manager.m1", "1")
	b.shows(t, map[string]int{"manager.m1": 1})
	b.shows(t, map[string]int{})
}

func TestCacheAfterARestartOfTheServer(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{topology.Functions, topology.Members} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b := setup(t, kind)
			b.put(t, "stays", "1")
			if err := b.cache.Start(within(t)); err != nil {
				t.Fatal(err)
			}
			b.shows(t, map[string]int{"stays": 1})
			b.f.Restart(t)
			if v, _, ok := b.cache.Get("stays"); v != 1 || !ok {
				t.Errorf("stays: %d, %v while the server restarts", v, ok)
			}
			// By another connection, maybe before the cache's own is back.
			js := b.f.JetStream(t)
			kv, err := js.KeyValue(within(t), b.f.Names.Bucket(kind))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := kv.PutString(within(t), "new", "2"); err != nil {
				t.Fatal(err)
			}
			want := map[string]int{"stays": 1, "new": 2}
			if kind == topology.Members {
				want = map[string]int{} // leases are renewed by who lives, and nobody does here
			}
			b.shows(t, want)
		})
	}
}

// What leaves no trace to replay: the stream behind the bucket is another one after the restart, with older sequences.
func TestCacheListsAnewAfterAReconnect(t *testing.T) {
	t.Parallel()
	b := setup(t, topology.Functions)
	for i := range 10 {
		b.put(t, "old", strconv.Itoa(i))
	}
	b.put(t, "both", "1")
	if err := b.cache.Start(within(t)); err != nil {
		t.Fatal(err)
	}
	b.f.RestartEmpty(t)
	b.f.Ensure(t, schema.DefaultFabric())
	kv, err := b.f.JetStream(t).KeyValue(within(t), b.f.Names.Bucket(topology.Functions))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.PutString(within(t), "both", "2"); err != nil {
		t.Fatal(err)
	}
	b.shows(t, map[string]int{"both": 2})
}

func TestCacheToldOnlyOfChangesAfterAReconnect(t *testing.T) {
	t.Parallel()
	b := setup(t, topology.Functions)
	b.put(t, "a", "1")
	b.put(t, "b", "1")
	if err := b.cache.Start(within(t)); err != nil {
		t.Fatal(err)
	}
	b.f.Restart(t)
	natstest.Eventually(t, patience, func() bool { return b.nc.IsConnected() && b.nc.Stats().Reconnects > 0 },
		"the connection is back")
	b.put(t, "b", "2")
	b.shows(t, map[string]int{"a": 1, "b": 2})
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.count != 3 {
		t.Errorf("%d changes told, want 3: a, b, b again", b.count)
	}
}

func TestCacheStopAndStart(t *testing.T) {
	t.Parallel()
	b := setup(t, topology.Functions)
	b.cache.Stop() // before Start
	if err := b.cache.Start(within(t)); err == nil {
		t.Error("started after Stop")
	}

	c := watch.New(b.nc, b.kv, ">", number, nil)
	if err := c.Start(within(t)); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(within(t)); err == nil {
		t.Error("started twice")
	}
	var all conc.WaitGroup
	for range 10 {
		all.Go(c.Stop)
	}
	all.Wait()

	cause := errors.New("told to stop")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	if err := watch.New(b.nc, b.kv, ">", number, nil).Start(ctx); !errors.Is(err, cause) {
		t.Errorf("told to stop: %v", err)
	}
}

// A slow reader of changes, stopped in the middle of a flood, leaves nothing behind (TestMain looks).
func TestCacheStoppedUnderAFlood(t *testing.T) {
	t.Parallel()
	b := setup(t, topology.Functions)
	c := watch.New(b.nc, b.kv, ">", number, nil)
	come := make(chan struct{}, 1)
	hold := make(chan struct{})
	c.OnChange(func(string, int, uint64, bool) {
		select {
		case come <- struct{}{}:
		default:
		}
		<-hold
	})
	var all conc.WaitGroup
	all.Go(func() { _ = c.Start(within(t)) })
	for i := range 2000 {
		b.put(t, "k", strconv.Itoa(i))
	}
	<-come
	all.Go(c.Stop)
	close(hold)
	all.Wait()
}

func TestCacheOfAConnectionThatIsClosed(t *testing.T) {
	t.Parallel()
	b := setup(t, topology.Functions)
	b.put(t, "a", "1")
	nc := b.f.ConnectTCP(t)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(within(t), b.f.Names.Bucket(topology.Functions))
	if err != nil {
		t.Fatal(err)
	}
	c := watch.New(nc, kv, ">", number, nil)
	if err := c.Start(within(t)); err != nil {
		t.Fatal(err)
	}
	nc.Close()
	c.Stop()
	if v, _, ok := c.Get("a"); v != 1 || !ok {
		t.Errorf("a: %d, %v after Stop", v, ok)
	}
}

func TestGetAllocatesNothing(t *testing.T) {
	b := setup(t, topology.Functions)
	b.put(t, "a", "1")
	if err := b.cache.Start(within(t)); err != nil {
		t.Fatal(err)
	}
	key := string([]byte("a"))
	if n := testing.AllocsPerRun(1000, func() {
		if _, _, ok := b.cache.Get(key); !ok {
			t.Fatal("a is not there")
		}
	}); n != 0 {
		t.Errorf("Get allocates %v times", n)
	}
}

// A key that is written again and again while lists are made anew is never shown as gone.
func TestCacheKeepsWhatIsWrittenWhileListing(t *testing.T) {
	t.Parallel()
	b := setup(t, topology.Functions)
	b.put(t, "a", "1")
	b.put(t, "b", "1")
	var gone atomic.Int64
	c := watch.New(b.nc, b.kv, ">", number, nil)
	c.OnChange(func(_ string, _ int, _ uint64, deleted bool) {
		if deleted {
			gone.Add(1)
		}
	})
	if err := c.Start(within(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	stop := make(chan struct{})
	ctx := within(t)
	var writer conc.WaitGroup
	writer.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_, _ = b.kv.Put(ctx, "b", []byte("2")) // fails while the connection is away
			}
		}
	})
	for n := range uint64(20) {
		if err := b.nc.ForceReconnect(); err != nil {
			t.Fatal(err)
		}
		natstest.Eventually(t, patience, func() bool { return b.nc.IsConnected() && b.nc.Stats().Reconnects > n },
			"the connection is back")
	}
	close(stop)
	writer.Wait()
	if n := gone.Load(); n > 0 {
		t.Errorf("shown as gone %d times", n)
	}
}

// A bucket that is deleted and made again on the live server, or put back from a backup, is listed anew: what it does not have goes,
// what it has is told though its revision was seen before with another value, and it is followed from there.
func TestCacheOfABucketPutBack(t *testing.T) {
	t.Parallel()
	b := setup(t, topology.Functions)
	js, err := jetstream.New(b.nc)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		b.put(t, fmt.Sprint("k", i), fmt.Sprint(i))
	}
	if err := b.cache.Start(within(t)); err != nil {
		t.Fatal(err)
	}
	config := topology.Bucket(b.f.Names, topology.Functions)
	for round := range 2 {
		if err := js.DeleteStream(within(t), config.Name); err != nil {
			t.Fatal(err)
		}
		if _, err := js.CreateStream(within(t), config); err != nil {
			t.Fatal(err)
		}
		b.put(t, "k0", fmt.Sprint(10+round))
		b.put(t, "k7", "7")
		b.shows(t, map[string]int{"k0": 10 + round, "k7": 7})
		if got := b.cache.Revision(); got != 2 {
			t.Errorf("revision %d, want that of this bucket", got)
		}
		b.put(t, "k1", "1")
		b.shows(t, map[string]int{"k0": 10 + round, "k1": 1, "k7": 7})
	}
}
