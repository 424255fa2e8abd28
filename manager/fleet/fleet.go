package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/sourcegraph/conc"
	"golang.org/x/time/rate"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/lifecycle"
	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/manager"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// Host is the manager whose environments these are. None of its methods waits for the fleet.
type Host interface {
	SetCapacity(places int)
	Retire(environments []string)
}

var _ Host = (*manager.Manager)(nil)

// Config says whose fleet it is.
type Config struct {
	Manager string // its id; needed
	Names   subjects.Names
	// Local is the worker of this process, nil if there is none, and LocalPlaces its capacity; LocalTenants says that it keeps
	// sub-tenants apart.
	Local        manager.Worker
	LocalPlaces  int
	LocalTenants bool
	Logger       *slog.Logger         // nil discards
	Metrics      *telemetry.Metrics   // nil: nobody looks
	Telemetry    *telemetry.Telemetry // nil: no spans
}

// Counters are what a fleet has seen.
type Counters struct {
	Workers int64 // that are up
	Opened  int64 // sessions
	Lost    int64 // runs whose worker went away
	Refused int64 // what no worker of this manager may say, and what was none of it
}

// Fleet is the workers of one manager. Safe for concurrent use.
type Fleet struct {
	cfg  Config
	nc   *nats.Conn
	log  *slog.Logger
	host Host

	leases jetstream.KeyValue
	hears  *nats.Subscription   // of workers that want a session
	relays []*nats.Subscription // of what they need of streams
	life   context.Context
	end    context.CancelFunc
	tasks  conc.WaitGroup
	guard  lifecycle.Guard

	apart                 atomic.Bool // a worker of another process has been here: until then everything is local
	opened, lost, refused atomic.Int64
	unrun                 *telemetry.Refused // answered here, because their worker had gone

	telling sync.Mutex // orders what the host is told of the capacity

	mu           sync.Mutex // guards what follows; nothing blocks under it
	sessions     map[string]*session
	environments map[string]*environment // not those of Local
	local        map[string]int          // places of Local's
	localUsed    int
	looking      map[string]bool                  // workers whose lease is being read
	hosted       map[string]*recent[functionName] // by worker: functions that it made environments of
	logged       map[string]*recent[logName]      // by worker: logs of these and of the sub-tenants whose calls it ran
	relearned    time.Time                        // until then the manager before this one may have given it others
	usage        map[string]*rate.Limiter         // by worker: bytes of usage that are passed on
	stopped      bool
}

var (
	_ manager.Worker  = (*Fleet)(nil)
	_ manager.Stocked = (*Fleet)(nil)

	_ manager.Isolating = (*Fleet)(nil)
)

// Stock is what the worker of this process keeps ready.
func (f *Fleet) Stock() *schema.Stock {
	if w, ok := f.cfg.Local.(manager.Stocked); ok {
		return w.Stock()
	}
	return nil
}

// Tenants reports whether a worker that is here keeps sub-tenants apart.
func (f *Fleet) Tenants() bool {
	if f.cfg.Local != nil && f.cfg.LocalPlaces > 0 && f.cfg.LocalTenants {
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.sessions {
		if s.up && !s.draining && s.capacity > 0 && s.tenants {
			return true
		}
	}
	return false
}

// New makes the fleet of a manager over that one's connection, so that offers, statuses and orders leave in their order.
func New(nc *nats.Conn, cfg Config) (*Fleet, error) {
	if nc == nil || cfg.Manager == "" || cfg.Names == (subjects.Names{}) {
		return nil, errors.New("fleet: needs a connection, a manager and names")
	}
	f := &Fleet{
		cfg: cfg, nc: nc, log: cfg.Logger, sessions: make(map[string]*session), environments: make(map[string]*environment),
		local: make(map[string]int), looking: make(map[string]bool), hosted: make(map[string]*recent[functionName]),
		logged: make(map[string]*recent[logName]),
		usage:  make(map[string]*rate.Limiter), unrun: telemetry.NewRefused(),
	}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	f.log = f.log.With("manager", cfg.Manager)
	cfg.Metrics.Add(f.scrape)
	return f, nil
}

// Open hears of workers from now on and tells the host what they have. It fails if the bucket of leases cannot be opened.
func (f *Fleet) Open(ctx context.Context, host Host) error {
	return f.guard.Start(ctx, func(ctx context.Context) error {
		js, err := jetstream.New(f.nc)
		if err != nil {
			return fmt.Errorf("use JetStream: %w", err)
		}
		if f.leases, err = js.KeyValue(ctx, f.cfg.Names.Bucket(topology.Members)); err != nil {
			return fmt.Errorf("open the leases of workers: %w", err)
		}
		f.host = host
		f.relearned = time.Now().Add(relearn)
		f.life, f.end = context.WithCancel(context.WithoutCancel(ctx))
		if f.hears, err = f.nc.Subscribe(subjects.ManagerAsks(f.cfg.Manager, subjects.AskHello), f.hello); err != nil {
			f.end()
			return fmt.Errorf("listen for workers: %w", err)
		}
		for kind, handle := range map[subjects.WorkerAsk]nats.MsgHandler{
			subjects.AskLease: f.relay(subjects.AskLease, f.passLease),
			subjects.AskLog:   f.relay(subjects.AskLog, f.passLog),
			subjects.AskCode:  f.relay(subjects.AskCode, f.passCode),
			subjects.AskUsage: f.relay(subjects.AskUsage, f.passUsage),
		} {
			sub, err := f.nc.Subscribe(subjects.ManagerAsks(f.cfg.Manager, kind), handle)
			if err != nil {
				f.deafen(append(f.relays, f.hears)...)
				f.end()
				return fmt.Errorf("listen for workers: %w", err)
			}
			f.relays = append(f.relays, sub)
		}
		f.tasks.Go(func() { f.watch(f.life) })
		return nil
	})
}

// Close ends all sessions, after its manager has stopped. What still runs has until ctx ends, at most a moment, to be ended by
// its workers, whom the manager has told to; after that its callers hear that it is lost. Safe twice, and unstarted.
func (f *Fleet) Close(ctx context.Context) error {
	return f.guard.Stop(ctx, func(ctx context.Context) error {
		f.deafen(f.hears)
		f.awaitRuns(ctx)
		f.mu.Lock()
		f.stopped = true
		all := f.all()
		f.mu.Unlock()
		f.end()
		for _, s := range all {
			s.order(&schema.WorkerOrder{Bye: true})
			f.close(s, "the manager stops")
		}
		f.deafen(f.relays...)
		f.tasks.Wait()
		return nil
	})
}

// deafen ends subscriptions.
func (f *Fleet) deafen(subs ...*nats.Subscription) {
	for _, sub := range subs {
		if err := sub.Unsubscribe(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
			f.log.Debug("stop to hear of workers", "subject", sub.Subject, "error", err)
		}
	}
}

// awaitRuns waits until no run of another process is left, or it takes too long.
func (f *Fleet) awaitRuns(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, byeWait)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		f.mu.Lock()
		left := 0
		for _, s := range f.sessions {
			left += len(s.runs) + len(s.answering)
		}
		f.mu.Unlock()
		if left == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Counters takes a look; the numbers are read one after the other.
func (f *Fleet) Counters() Counters {
	c := Counters{Opened: f.opened.Load(), Lost: f.lost.Load(), Refused: f.refused.Load()}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.sessions {
		if s.up {
			c.Workers++
		}
	}
	return c
}

// all are the sessions. The mutex is held.
func (f *Fleet) all() []*session {
	all := make([]*session, 0, len(f.sessions))
	for _, s := range f.sessions {
		all = append(all, s)
	}
	return all
}

// tellCapacity tells the host how many places there are.
func (f *Fleet) tellCapacity() {
	f.telling.Lock()
	defer f.telling.Unlock()
	f.mu.Lock()
	places := f.cfg.LocalPlaces
	for _, s := range f.sessions {
		switch {
		case s.draining:
			places += s.used
		case s.up:
			places += s.capacity
		}
	}
	f.mu.Unlock()
	f.host.SetCapacity(places)
}

// refuse counts something that a worker may not say.
func (f *Fleet) refuse(worker, what string) {
	f.refused.Add(1)
	f.log.Warn("a worker said what it may not", "worker", worker, "what", what)
}
