package frontend

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"github.com/sourcegraph/conc"
	"golang.org/x/time/rate"

	"github.com/hearth-run/hearth/frontend/callers"
	"github.com/hearth-run/hearth/frontend/console"
	"github.com/hearth-run/hearth/frontend/events"
	"github.com/hearth-run/hearth/internal/lifecycle"
	"github.com/hearth-run/hearth/internal/story"
	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/internal/watch"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// serviceVersion is the version that the micro service tells, that of the protocol between callers and frontends.
const serviceVersion = "1.0.0"

// DefaultMaxInFlight is how many calls a frontend has in flight at most unless told otherwise.
const DefaultMaxInFlight = 65_536

// DefaultMaxHeld is how many bytes of payloads a frontend holds for claimers at most unless told otherwise.
const DefaultMaxHeld = 512 << 20

// Config is what a frontend may be told. The zero value is a frontend that serves NATS alone.
type Config struct {
	ID          string               // names its inboxes and statuses; "" draws one for this start
	Stable      bool                 // the ID was used before and may be another's now: Start refuses one that is
	Names       subjects.Names       // of the fabric; required
	HTTP        net.Listener         // where the Lambda API is served; nil: nowhere. The frontend closes it
	Hosts       []string             // names beside localhost and loopback addresses under which HTTP is served
	NoConsole   bool                 // the console is not served at HTTP
	Console     bool                 // it is there for [Frontend.Pages], whatever HTTP serves
	Anonymous   bool                 // HTTP callers need not say who they are (on loopback only)
	MaxInFlight int                  // calls in flight; 0: [DefaultMaxInFlight]
	MaxHeld     int64                // bytes of payloads over [schema.MaxCarried] at once; 0: [DefaultMaxHeld]
	Logger      *slog.Logger         // nil: nothing is logged
	Telemetry   *telemetry.Telemetry // nil: no spans
	Metrics     *telemetry.Metrics   // nil: nobody looks; else served at /metrics
}

// Frontend takes calls over NATS and HTTP, publishes them on their arcs, and sees that each is answered. One connection
// carries it. It is safe for concurrent use.
type Frontend struct {
	nc          *nats.Conn
	names       subjects.Names
	id          string
	incarnation string
	log         *slog.Logger
	tel         *telemetry.Telemetry
	random      *names
	counters    *counters
	stories     *story.Book
	refusals    *rate.Limiter // stories of refusals at the door: else a stranger's push all others out
	metrics     *metrics
	functions   *functions
	pending     *pending
	startBys    *wheel
	view        *view
	clock       clock
	publication publication
	door        *httpDoor        // nil without HTTP
	console     *console.Console // nil without HTTP, and where it is not wanted
	service     micro.Service
	misses      chan missedRequest
	arrived     atomic.Uint64 // requests from NATS that the handler has begun with
	arriving    atomic.Int64  // of them, those that it has not ended, or whose name waits to be looked up
	fetches     chan fetch

	functionsChanged chan struct{} // holds one: the functions changed since the last status
	watches          watches
	callers          *callers.Callers // whose tokens the tenant policy asks for
	events           *events.Pollers
	subs             []*nats.Subscription

	// Inboxes and subjects of this frontend, built once.
	inbox, publishInbox, answerInbox string
	statusPrefix, shardPrefix        string

	streams  streams
	statuses *statusQueue
	deletes  int // sent in this turn of the wheel; its goroutine's alone

	stable            bool         // Config.Stable
	twin              atomic.Value // string: incarnation of another holder of this id that was heard
	stopping, serving atomic.Bool
	sharing           atomic.Bool // a client in the fabric's own NATS account was seen, and told of
	life              lifecycle.Guard
	halted            sync.Once
	cancel            context.CancelFunc
	loops             conc.WaitGroup
	done              chan struct{} // closed when this frontend answers nobody any more
}

// watches are the KV-fed caches.
type watches struct {
	functions *watch.Cache[*schema.FunctionRecord]
	ring      *watch.Cache[schema.RingRecord]
	fabric    *watch.Cache[schema.Fabric]
	arcs      *watch.Cache[schema.ArcRecord]

	reservations *watch.Cache[schema.ReservationRecord]
	keys         *watch.Cache[schema.TokenKeysRecord]
}

// New makes a frontend on a connection that it shares and does not close. It starts nothing.
func New(nc *nats.Conn, cfg Config) (*Frontend, error) {
	if nc == nil {
		return nil, errors.New("new frontend: no connection")
	}
	if cfg.Names == (subjects.Names{}) {
		return nil, errors.New("new frontend: Config.Names is required")
	}
	if cfg.MaxHeld < 0 {
		return nil, fmt.Errorf("new frontend: Config.MaxHeld is %d; 0 or more", cfg.MaxHeld)
	}
	if cfg.MaxInFlight < 0 {
		return nil, fmt.Errorf("new frontend: Config.MaxInFlight is %d; 0 or more", cfg.MaxInFlight)
	}
	id := cmp.Or(cfg.ID, randomID())
	f := &Frontend{
		nc: nc, names: cfg.Names, id: id, stable: cfg.Stable, incarnation: randomID(),
		log: cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler)).With("frontend", id), tel: cfg.Telemetry,
		random: newNames(), counters: newCounters(), metrics: newMetrics(), functions: newFunctions(), stories: story.NewBook(schema.StoryFrontend, id), refusals: rate.NewLimiter(20, 200),
		pending:  newPending(cmp.Or(cfg.MaxInFlight, DefaultMaxInFlight), cmp.Or(cfg.MaxHeld, DefaultMaxHeld)),
		callers:  callers.New(callers.Config{}),
		startBys: newWheel(), view: newView(), statuses: newStatusQueue(),
		misses: make(chan missedRequest, missQueue), fetches: make(chan fetch, fetchQueue), functionsChanged: make(chan struct{}, 1), done: make(chan struct{}),
	}
	f.inbox = subjects.FrontendInbox(id, "")
	f.publishInbox, f.answerInbox = f.inbox+string(kindPublish)+".", subjects.FrontendInbox(id, subjects.AnswerKind+".")
	f.statusPrefix, f.shardPrefix = f.names.Prefix()+".status.", shardPrefix(f.names)
	for number := range subjects.UnreservedStreams {
		f.stream(number) // is always needed
	}
	f.clock.tick.Store(1) // 0 means never
	pollers, err := events.New(nc, eventRunner{f}, events.Config{Names: f.names, Inbox: subjects.EventInbox(id, ""), Logger: f.log})
	if err != nil {
		return nil, fmt.Errorf("new frontend: %w", err)
	}
	f.events = pollers
	cfg.Metrics.Add(f.scrape)
	if cfg.Console || cfg.HTTP != nil && !cfg.NoConsole {
		f.console = console.New(consoleFabric{f}, f.names, f.log)
	}
	if cfg.HTTP != nil {
		f.door = newHTTPDoor(f, cfg, f.log)
	}
	return f, nil
}

// ID is the name of this frontend for this start.
func (f *Frontend) ID() string { return f.id }

// Start waits until the fabric is set up and its functions, ring and a round of statuses are here, then serves (DESIGN
// 6). It returns when this frontend takes calls, or with what it waited for when ctx ends. A frontend starts once.
func (f *Frontend) Start(ctx context.Context) error {
	return f.life.Start(ctx, func(ctx context.Context) error {
		run, cancel := context.WithCancel(context.Background())
		f.cancel = cancel
		if err := f.start(ctx, run); err != nil {
			f.halt()
			return fmt.Errorf("start frontend %s: %w", f.id, err)
		}
		f.serving.Store(true)
		f.log.Info("frontend serves", "functions", f.view.seen.Load(), "managers", len(f.view.ring.Load().Members))
		return nil
	})
}

func (f *Frontend) start(ctx, run context.Context) error {
	js, err := jetstream.New(f.nc)
	if err != nil {
		return fmt.Errorf("use JetStream: %w", err)
	}
	// Listen first, so that nothing that is told meanwhile is missed.
	f.clock.up.Store(f.nc.IsConnected())
	status := f.nc.StatusChanged(nats.CONNECTED, nats.RECONNECTING, nats.DISCONNECTED, nats.CLOSED)
	f.loops.Go(func() {
		defer f.nc.RemoveStatusListener(status)
		f.clock.run(run, f.nc, status, f.sweep, f.away, f.back)
	})
	if err := f.subscribe(f.inbox+">", f.received); err != nil {
		return err
	}
	if err := f.statuses.subscribe(f.nc, f.inbox+string(kindEndsNow)); err != nil {
		return err
	}
	if err := f.statuses.subscribe(f.nc, f.names.StatusAll()); err != nil {
		return err
	}
	f.subs = append(f.subs, f.statuses.subs...)
	if err := f.subscribe(f.names.TraceAll(), f.tellStory); err != nil {
		return err
	}
	f.loops.Go(func() { f.statuses.run(run, f.heard) })
	listening := time.Now()
	if err := f.awaitSetUp(ctx, js); err != nil {
		return err
	}
	if err := f.awaitAlone(ctx, listening); err != nil {
		return err
	}
	f.loops.Go(func() { f.startBys.run(run, func() { f.deletes = 0 }, f.expire) })
	f.loops.Go(func() { f.tell(run) })
	f.loops.Go(func() { f.handOver(run) })
	for range missReaders {
		f.loops.Go(func() { f.readMisses(run) })
	}
	f.awaitRound(ctx)
	if err := f.openEndpoint(); err != nil {
		return err
	}
	if f.console != nil {
		f.loops.Go(func() { f.console.Run(run) })
	}
	if f.door != nil {
		f.loops.Go(f.door.serve)
	}
	return f.events.Start(ctx)
}

func (f *Frontend) subscribe(subject string, handle nats.MsgHandler) error {
	sub, err := f.nc.Subscribe(subject, handle)
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	f.subs = append(f.subs, sub)
	if err := sub.SetPendingLimits(pendingAnswers, pendingAnswersBytes); err != nil {
		return fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	return nil
}
