package events

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/lifecycle"
	"github.com/hearth-run/hearth/subjects"
)

const (
	tendEvery  = 100 * time.Millisecond
	touchAfter = 2 * time.Second        // DESIGN 4: events that run are touched so often
	touchEvery = 500 * time.Millisecond // what a touch may come late

	maxBytes = 256 << 20 // of events in hands at once at this frontend; beyond, nothing is pulled
)

// Config is what pollers are set up with.
type Config struct {
	Names  subjects.Names   // of the fabric; needed
	Inbox  string           // prefix of the inboxes of pulls, with its last dot; needed
	Logger *slog.Logger     // nil discards
	Now    func() time.Time // the clock by which ages and delays are judged; nil: the NATS server's, as its answers tell it
}

// Pollers run the events of all functions: see the package. Safe for concurrent use.
type Pollers struct {
	nc     *nats.Conn
	js     jetstream.JetStream
	runner Runner
	names  subjects.Names
	prefix string
	log    *slog.Logger
	idle   time.Duration

	retries, dead string // streams
	streams       map[string]*stream
	ahead         atomic.Int64 // of the server's clock before ours, ns
	clock         func() time.Time
	inboxes       atomic.Uint64
	bytes         atomic.Int64 // of the events in hands
	trouble       rarely
	count         counters

	mu      sync.Mutex
	pollers map[string]*poller // by function; of account default
	strange map[string]bool    // subjects that are being drained
	passed  map[string]uint64  // subjects with wildcards: up to where the stream was searched for them

	looks    chan struct{} // holds one: look at the streams now
	stopping atomic.Bool
	empty    chan struct{} // holds one: a claim ended while stopping
	guard    lifecycle.Guard
	life     context.Context // ends with Stop
	end      context.CancelFunc
	loops    conc.WaitGroup
	slow     tasks
}

// New makes pollers on a connection that stays the caller's. It starts nothing.
func New(nc *nats.Conn, r Runner, cfg Config) (*Pollers, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("use JetStream: %w", err)
	}
	p := &Pollers{
		nc: nc, js: js, runner: r, names: cfg.Names, prefix: cfg.Inbox, log: cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler)),
		idle: idleFor, retries: cfg.Names.Stream(topology.Retries), dead: cfg.Names.Stream(topology.DeadLetters),
		pollers: make(map[string]*poller), strange: make(map[string]bool), passed: make(map[string]uint64), looks: make(chan struct{}, 1),
		empty: make(chan struct{}, 1), clock: cfg.Now,
	}
	events := cfg.Names.Events(subjects.DefaultAccount)
	p.streams = map[string]*stream{
		events:    {name: events, filter: cfg.Names.EventsOf(subjects.DefaultAccount)},
		p.retries: {name: p.retries, filter: cfg.Names.RetriesDue()},
	}
	p.life, p.end = context.WithCancel(context.Background())
	return p, nil
}

// Start begins to look for events and to run them. It does not wait for the streams: they are looked for until they are there.
func (p *Pollers) Start(ctx context.Context) error {
	return p.guard.Start(ctx, func(context.Context) error {
		p.loops.Go(p.lookLoop)
		p.loops.Go(p.tendLoop)
		return nil
	})
}

// Stop claims no more events, lets those that run end, and gives back what still runs when ctx ends: whoever gets it joins it.
// Safe twice, and unstarted.
func (p *Pollers) Stop(ctx context.Context) error {
	err := p.guard.Stop(ctx, p.stop)
	p.end()
	return err
}

// Close is Stop without waiting for events that run: for a start that failed, and the end of one that did not stop in order.
func (p *Pollers) Close() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = p.Stop(ctx) // what it says was asked for
}

func (p *Pollers) stop(ctx context.Context) error {
	p.stopping.Store(true)
	for _, f := range p.all() {
		f.close()
	}
	running := func() (n int) {
		for _, f := range p.all() {
			n += f.running()
		}
		return n
	}
	for running() > 0 && ctx.Err() == nil && !p.nc.IsClosed() {
		select {
		case <-p.empty:
		case <-time.After(tendEvery):
		case <-ctx.Done():
		}
	}
	left := 0
	for _, f := range p.all() {
		left += f.giveBack()
	}
	p.end()
	p.loops.Wait()
	p.slow.wait()
	if left > 0 {
		return fmt.Errorf("stop pollers: %d events still ran and were given back: %w", left, context.Cause(ctx))
	}
	return nil
}

// Nudge has the streams looked at now: an event has just been accepted by this process.
func (p *Pollers) Nudge() { p.look() }

func (p *Pollers) look() {
	select {
	case p.looks <- struct{}{}:
	default:
	}
}

// settled has a stop look again at what still runs.
func (p *Pollers) settled() {
	select {
	case p.empty <- struct{}{}:
	default:
	}
}

// tendLoop looks after the pollers until the life ends.
func (p *Pollers) tendLoop() {
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	reconnects := p.nc.Stats().Reconnects
	for {
		select {
		case <-p.life.Done():
			return
		case <-tick.C:
		}
		pollers := p.all()
		if n := p.nc.Stats().Reconnects; n != reconnects {
			reconnects = n
			for _, f := range pollers {
				f.forget()
			}
			p.look()
		}
		p.tend(pollers, time.Now())
	}
}

func (p *Pollers) tend(pollers []*poller, now time.Time) {
	backlogged := 0
	for _, f := range pollers {
		if f.backlogged() {
			backlogged++
		}
	}
	places, frontends := p.runner.Places(), p.runner.Frontends()
	for _, f := range pollers {
		if !f.tend(now, p.shareOf(f.account, f.function, places, backlogged, frontends)) {
			continue
		}
		p.mu.Lock()
		delete(p.pollers, f.function)
		p.mu.Unlock()
		f.close()
		p.forgetSeen() // what came meanwhile is found again
	}
}

func (p *Pollers) shareOf(account, function string, places, backlogged, frontends int) int {
	memory := 0
	if fn, _, ok := p.runner.Function(account, function); ok {
		memory = fn.Latest.MemoryMB
	}
	return share(places, memory, backlogged, frontends)
}

// all are the pollers there are.
func (p *Pollers) all() []*poller {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]*poller, 0, len(p.pollers))
	for _, f := range p.pollers {
		all = append(all, f)
	}
	return all
}

// poller is the one of a function, made if there is none; nil when no more are made.
func (p *Pollers) poller(account, function string) *poller {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.pollers[function]
	if f != nil || p.stopping.Load() {
		return f
	}
	f = &poller{all: p, account: account, function: function, wake: make(chan struct{}, 1), active: time.Now()}
	f.life, f.end = context.WithCancel(p.life)
	f.fresh, f.due = sources(p.names, account, function, p.retries)
	f.share = p.shareOf(account, function, p.runner.Places(), len(p.pollers), p.runner.Frontends())
	p.pollers[function] = f
	p.loops.Go(f.turns)
	return f
}

// full reports whether what is in hands is as much as this frontend holds.
func (p *Pollers) full() bool { return p.bytes.Load() >= maxBytes }

// inbox is one for the pulls of one source.
func (p *Pollers) inbox() string { return p.prefix + strconv.FormatUint(p.inboxes.Add(1), 36) + ".p" }

// now is the clock by which ages and delays are judged.
func (p *Pollers) now() time.Time {
	if p.clock != nil {
		return p.clock()
	}
	return time.Now().Add(time.Duration(p.ahead.Load()))
}

// Bodies of acknowledgements.
var (
	ackBody      = []byte("+ACK")
	nakBody      = []byte("-NAK")
	progressBody = []byte("+WPI")
)

// publish sends an acknowledgement. None is confirmed: one that is lost has the event run again, as at-least-once has it.
func (p *Pollers) publish(subject string, body []byte) {
	if err := p.nc.Publish(subject, body); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		p.log.Debug("acknowledgement not sent", "error", err)
	}
}

// tasks are goroutines that Stop waits for: those of events that do not simply succeed, which the windows of the pollers bound,
// and those that drain what belongs to no function. After the wait none is begun.
type tasks struct {
	mu     sync.Mutex
	wg     conc.WaitGroup
	closed bool
}

// Go runs do, unless the pollers have stopped.
func (t *tasks) Go(do func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.wg.Go(do)
	}
}

func (t *tasks) wait() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.wg.Wait()
}
