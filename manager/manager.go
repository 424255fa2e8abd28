package manager

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/lifecycle"
	"github.com/hearth-run/hearth/internal/story"
	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/internal/watch"
	"github.com/hearth-run/hearth/manager/pool"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// Config is how a manager is set up.
type Config struct {
	// ID is the manager's stable name on the ring; needed. A second holder of a live id is refused.
	ID string
	// Names spells the fabric's names; needed.
	Names subjects.Names
	// Capacity is in places of 128 MB, at the start; needed, at least 1 unless Elastic is set.
	Capacity int
	// Elastic lets a manager begin with no place, for workers that come later: [Manager.SetCapacity].
	Elastic bool
	// Fabric is what the first manager of a fabric writes; zero means [schema.DefaultFabric].
	Fabric schema.Fabric
	// FabricSet are values that were asked for by name: they go into Fabric, and a fabric that has others refuses this
	// manager.
	FabricSet map[string]string
	// Seal is the public key to which variables are sealed, published for frontends; nil publishes none.
	Seal *schema.SealKeyRecord
	// Open opens variables that were sealed to it; nil fails functions that have some.
	Open func(schema.SecretRecord) (schema.Variables, error)
	// HandOver seals the private half of Seal to a public key, for a manager that joins; nil gives it to nobody.
	HandOver func(public []byte) ([]byte, error)
	// Tokens makes the tokens of sub-tenants; nil: none, and calls of functions that have an audience fail.
	Tokens TokenProvider
	// Written gives a channel that is closed once the connection is written to after the call: acknowledgements are written out before
	// their calls start. nil, where the connection does not tell: its buffer is looked at again and again.
	Written func() <-chan struct{}
	// Build is told to the other nodes.
	Build string
	// Logger is where the manager logs; nil discards.
	Logger *slog.Logger
	// Telemetry records spans; nil records none.
	Telemetry *telemetry.Telemetry
	// Metrics tell what the manager counts; nil: nobody looks.
	Metrics *telemetry.Metrics
}

// Validate names every field that is out of its range.
func (c *Config) Validate() []schema.FieldError {
	var bad []schema.FieldError
	if c.ID == "" || len(c.ID) > 128 {
		bad = append(bad, schema.FieldError{Field: "ID", Got: c.ID, Allowed: "1 to 128 bytes"})
	}
	if c.Names.Prefix() == "" {
		bad = append(bad, schema.FieldError{Field: "Names", Allowed: "those of subjects.NewNames"})
	}
	if c.Capacity < 1 && !(c.Elastic && c.Capacity == 0) {
		bad = append(bad, schema.FieldError{Field: "Capacity", Got: fmt.Sprint(c.Capacity), Allowed: "at least 1 place"})
	}
	return append(bad, c.Fabric.Validate()...)
}

// Manager is a node on the ring: it owns environments on its worker and claims calls for them. See the package's
// documentation. Its methods are safe for concurrent use.
type Manager struct {
	cfg         Config
	nc          *nats.Conn
	js          jetstream.JetStream
	worker      Worker
	log         *slog.Logger
	names       subjects.Names
	group       string // the one priority group of every arc's consumer
	incarnation string
	born        time.Time // of the monotonic clock
	arcNames    []string

	rings        *watch.Cache[schema.RingRecord]
	fabrics      *watch.Cache[schema.Fabric]
	lengths      *watch.Cache[schema.ArcRecord]
	reservations *watch.Cache[schema.ReservationRecord]
	stored       jetstream.KeyValue // of lengths
	versions     *versions

	lease      lease
	renewed    moment // when its last renewal was sent
	control    *controller
	renewNow   chan struct{}
	statusKick chan struct{}
	beatNow    chan struct{}
	setUpKick  chan struct{}
	reconnect  chan nats.Status
	connection atomic.Pointer[connection]
	bell       bell
	draining   atomic.Bool // drained or stopping
	hears      []*nats.Subscription

	capacity atomic.Int64 // that of the pool

	view    atomic.Pointer[view]
	viewing sync.Mutex // orders new views
	clocks  clocks
	fetches fetches
	pulse   pulse
	flow    flow
	ends    *ends
	count   counters
	stories *story.Book
	metrics metrics
	peers   peers
	returns returns
	catcher catcher
	crowd   crowd
	permits *permits
	shares  shares
	telling telling
	grants  *grants

	refusing atomic.Int64 // caught claims that are being refused
	ways     atomic.Int64 // that are made for environments of other managers
	moving   atomic.Int64 // caught claims that are being moved off a reserved arc

	mu        sync.Mutex               // guards what follows; nothing blocks under it
	locks     map[*claim]time.Duration // of which the answer is not here, and since when
	pool      *pool.Pool[*claim]
	offers    *offers
	openings  openings // of reservations
	fetching  claims   // their payloads are on their way
	waiting   claims   // held until an environment parks
	running   claims   // started and not ended, oldest first
	acks      acks
	late      late
	nameAll   time.Duration // until then beats name every call
	ready     bool          // on the ring
	fenced    bool          // another holds this id
	drained   bool          // off the ring until it is let back
	stopping  bool
	handing   bool     // drained or stopping, but its members serve on until there are others (drain.go)
	offering  bool     // ready, and neither fenced, nor drained or stopping and done with handing
	withdrawn []*inbox // when it left: calls may still come by them until they are closed

	life    context.Context // of everything that was started; ends with Stop
	endLife context.CancelFunc
	loops   conc.WaitGroup
	tasksMu sync.Mutex
	tasks   conc.WaitGroup
	closed  bool // no more tasks; guarded by tasksMu

	guard lifecycle.Guard
}

var _ lifecycle.Component = (*Manager)(nil)

// New makes a manager on a connection, which stays the caller's, with a worker. It starts nothing.
func New(nc *nats.Conn, w Worker, cfg Config) (*Manager, error) {
	if cfg.Fabric.V == 0 {
		cfg.Fabric = schema.DefaultFabric()
	}
	for key, value := range cfg.FabricSet {
		if err := cfg.Fabric.Set(key, value); err != nil {
			return nil, err
		}
	}
	if bad := cfg.Validate(); len(bad) > 0 {
		return nil, schema.Invalid(bad...)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("make a JetStream context: %w", err)
	}
	m := &Manager{
		cfg: cfg, nc: nc, js: js, worker: w, log: cfg.Logger, names: cfg.Names, group: topology.PriorityGroup,
		incarnation: random(), born: time.Now(), arcNames: arcNames(),
		renewNow: make(chan struct{}, 1), statusKick: make(chan struct{}, 1), beatNow: make(chan struct{}, 1), setUpKick: make(chan struct{}, 1),
		locks: make(map[*claim]time.Duration), ends: newEnds(), fetches: newFetches(), metrics: newMetrics(), stories: story.NewBook(schema.StoryManager, cfg.ID),
	}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	m.catcher.wake = make(chan struct{}, 1)
	m.pool = pool.New[*claim](m.incarnation[:8]+"-", cfg.Capacity)
	m.capacity.Store(int64(cfg.Capacity))
	m.openings = newOpenings()
	m.offers = newOffers(subjects.ManagerInbox(cfg.ID, random()+"."), m.group)
	m.control = &controller{m: m}
	m.permits = newPermits(m)
	m.grants = newGrants(m)
	m.shares, m.crowd = newShares(), newCrowd()
	m.view.Store(&view{fabric: cfg.Fabric, served: cfg.Fabric.Arcs})
	cfg.Metrics.Add(m.scrape)
	return m, nil
}

// ID is the manager's name on the ring.
func (m *Manager) ID() string { return m.cfg.ID }

// Incarnation is random for each manager that New makes.
func (m *Manager) Incarnation() string { return m.incarnation }

// Start brings the manager onto the ring: it returns when the ring holds it and its offers are out, or with an error,
// and then has undone what it did. Cancelling ctx ends the waiting, not the manager. DESIGN 6.
func (m *Manager) Start(ctx context.Context) error {
	return m.guard.Start(ctx, func(ctx context.Context) error {
		// What is started outlives the start: it ends with Stop, not with ctx.
		m.life, m.endLife = context.WithCancel(context.WithoutCancel(ctx))
		if err := m.start(ctx); err != nil {
			m.giveUp()
			return fmt.Errorf("start manager %s: %w", m.cfg.ID, err)
		}
		m.log.Info("manager ready", "manager", m.cfg.ID, "incarnation", m.incarnation, "capacity", m.cfg.Capacity)
		return nil
	})
}

func (m *Manager) start(ctx context.Context) error {
	if err := checkServer(m.nc.ConnectedServerVersion()); err != nil {
		return err
	}
	if err := m.setUp(ctx); err != nil {
		return err
	}
	m.lease.key, m.lease.mine = memberKey(m.cfg.ID), m.ownRecord
	m.control.lease.key, m.control.lease.mine = schema.ControllerKey, m.control.ownRecord
	if err := m.join(ctx); err != nil {
		return err
	}
	if err := m.publishSeal(ctx); err != nil {
		return err
	}
	if err := m.startTokens(ctx); err != nil {
		return err
	}
	for _, c := range []interface{ Start(context.Context) error }{m.fabrics, m.rings, m.lengths, m.versions.cache, m.reservations} {
		if err := c.Start(ctx); err != nil {
			return fmt.Errorf("load what the fabric has: %w", err)
		}
	}
	m.reread()
	m.pulse.last.Store(int64(m.now()))
	m.flow.heard.Store(int64(m.now()))
	m.reconnect = m.nc.StatusChanged(nats.CONNECTED)
	m.connected()
	m.clocks.reset(m.nc.ConnectedClusterName() != "")
	if err := m.hear(); err != nil {
		return err
	}
	for _, loop := range []func(context.Context){
		m.pulseLoop, m.flowLoop, m.offersLoop, m.endsLoop, m.beatLoop, m.statusLoop, m.memberLoop, m.connectionLoop,
		m.catchLoop, m.sharesLoop, m.crowdLoop,
	} {
		m.loops.Go(func() { loop(m.life) })
	}
	signal(m.renewNow)
	if err := m.await(ctx, func() bool { return m.view.Load().member }); err != nil {
		return fmt.Errorf("wait for a place on the ring: %w", err)
	}
	m.mu.Lock()
	m.ready = true
	m.offering = m.mayOffer()
	m.mu.Unlock()
	m.offerAgain(false)
	m.tellSoon()
	// A flush needs a deadline, which ctx need not have.
	ctx, cancel := context.WithTimeoutCause(ctx, setUpWait, errors.New("sending the first offers"))
	defer cancel()
	if err := m.nc.FlushWithContext(ctx); err != nil {
		return fmt.Errorf("send the first offers: %w", err)
	}
	return nil
}

// mayOffer reports whether anything may be offered. Manager.mu is held.
func (m *Manager) mayOffer() bool {
	return m.ready && !m.fenced && (m.handing || !m.drained && !m.stopping)
}

// State is where the manager stands between joining and leaving.
func (m *Manager) State() schema.MemberState {
	switch {
	case m.draining.Load():
		return schema.MemberDraining
	case m.view.Load().member:
		return schema.MemberActive
	default:
		return schema.MemberJoining
	}
}

// pulseLoop notices that the process stood still, and looks at what only time changes.
func (m *Manager) pulseLoop(ctx context.Context) {
	tick := time.NewTicker(pool.Patience)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		m.pulse.beat(m.now())
		m.mu.Lock()
		fabric := &m.view.Load().fabric
		plan := m.pool.Tick(time.Now(), fabric.KeepAlive, fabric.Reclaim)
		m.mu.Unlock()
		m.carryOut(plan, nil)
		m.lapse()
		m.tend(m.now())
		m.permits.tend(time.Now())
	}
}

// now is this manager's monotonic clock.
func (m *Manager) now() time.Duration { return time.Since(m.born) }

func (m *Manager) reconnects() uint64 { return m.nc.Stats().Reconnects }

func (m *Manager) jitter(most time.Duration) time.Duration { return mathrand.N(most) }

// spawn runs a task that Stop waits for. Tasks are few: one for each environment that is made, and for each claim in
// doubt, which open pulls bound. After Stop none is begun.
func (m *Manager) spawn(task func()) { m.spawned(task) }

// spawned is spawn that reports whether the task was begun.
func (m *Manager) spawned(task func()) bool {
	m.tasksMu.Lock()
	defer m.tasksMu.Unlock()
	if !m.closed {
		m.tasks.Go(task)
	}
	return !m.closed
}

// random is 16 lower-case hex digits that nobody can guess.
func random() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// bell wakes whoever waits for a condition of the manager.
type bell struct {
	mu sync.Mutex
	ch chan struct{}
}

func (b *bell) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *bell) strike() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}

// settled has whoever awaits something look again.
func (m *Manager) settled() { m.bell.strike() }

// await waits until a condition holds, which is looked at whenever something settled.
func (m *Manager) await(ctx context.Context, holds func() bool) error {
	for {
		next := m.bell.next()
		if holds() {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-next:
		}
	}
}
