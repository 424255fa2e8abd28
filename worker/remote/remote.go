package remote

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/internal/lifecycle"
	"github.com/hearth-run/hearth/internal/link"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
	"github.com/hearth-run/hearth/worker"
)

const (
	tick       = link.Every / 2
	helloEvery = 500 * time.Millisecond
	silent     = 10 * time.Second       // a manager that says nothing for so long has lost what is here
	doneWait   = 250 * time.Millisecond // for the manager to have written offer and status
	byeWait    = time.Second            // for the manager to hear of the end
)

// Worker is what carries the orders out: a [worker.Worker].
type Worker interface {
	Make(id string, b *schema.Binding, notify func(schema.EnvironmentEvent))
	Start(run *schema.Run)
	End(id string)
}

var _ Worker = (*worker.Worker)(nil)

// Config says who serves whom. Fields without a default are needed.
type Config struct {
	ID      string // of this worker; a second holder of a live id is refused
	Manager string // whom it serves
	Names   subjects.Names

	Capacity        int // places of 128 MB
	Driver          string
	Tenants, Limits bool // what the driver enforces here
	Build           string
	Logger          *slog.Logger // nil discards
	// Absent is told once when there is no such manager, and again each time after one was there; nil tells nobody.
	Absent func()
}

// Validate names every field that cannot be used.
func (c *Config) Validate() []schema.FieldError {
	var bad []schema.FieldError
	for field, id := range map[string]string{"ID": c.ID, "Manager": c.Manager} {
		if id == "" || len(id) > 128 {
			bad = append(bad, schema.FieldError{Field: field, Got: id, Allowed: "1 to 128 bytes"})
		}
	}
	if c.Names.Prefix() == "" {
		bad = append(bad, schema.FieldError{Field: "Names", Allowed: "those of subjects.NewNames"})
	}
	if c.Capacity < 1 || c.Capacity > schema.MaxWorkerPlaces {
		bad = append(bad, schema.FieldError{Field: "Capacity", Got: fmt.Sprint(c.Capacity), Allowed: fmt.Sprintf("1 to %d places", schema.MaxWorkerPlaces)})
	}
	return bad
}

// Counters are what a [Remote] has seen.
type Counters struct {
	Sessions int64 // that its manager opened
	Undone   int64 // answers that went out without that the manager said Done
	Fetched  int64 // payloads
	Refused  int64 // what no manager of this session says
}

// Remote serves one manager with a worker. Safe for concurrent use.
type Remote struct {
	cfg         Config
	nc          *nats.Conn
	worker      Worker
	log         *slog.Logger
	incarnation string
	lease       *lease
	guard       lifecycle.Guard
	life        context.Context
	end         context.CancelFunc
	loops       conc.WaitGroup
	subs        []*nats.Subscription
	fetches     chan struct{} // a place for each payload that is on its way

	sessions, undone, fetched, refused atomic.Int64
	unheard                            atomic.Bool // nobody listened to the session a moment ago

	mu       sync.Mutex // guards what follows; nothing blocks under it
	session  *session   // nil: none
	draining bool
	closed   bool // no more tasks
	absent   bool // Absent was told
}

// New makes it over a connection that stays the caller's and whose own inboxes are the worker's ([subjects.WorkerInbox]): nobody
// else is answered with payloads. It starts nothing; the worker is the caller's too.
func New(nc *nats.Conn, w Worker, cfg Config) (*Remote, error) {
	if bad := cfg.Validate(); len(bad) > 0 {
		return nil, schema.Invalid(bad...)
	}
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	r := &Remote{
		cfg: cfg, nc: nc, worker: w, log: cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler)).With("worker", cfg.ID, "manager", cfg.Manager),
		incarnation: hex.EncodeToString(b[:]), fetches: make(chan struct{}, maxFetches),
	}
	r.lease = &lease{id: cfg.ID, streams: NewStreams(nc, cfg.Names, cfg.Manager, cfg.ID)}
	return r, nil
}

// Incarnation is random for each that New makes.
func (r *Remote) Incarnation() string { return r.incarnation }

// Serving reports whether it has a session with its manager.
func (r *Remote) Serving() bool { return r.current() != nil }

// Counters takes a look; the numbers are read one after the other.
func (r *Remote) Counters() Counters {
	return Counters{r.sessions.Load(), r.undone.Load(), r.fetched.Load(), r.refused.Load()}
}

// Start takes the worker's lease and serves its manager from then on. Where that is not there, it does so when it is. An id that
// another process holds is a [schema.CodeConflict]; one that shows only later is logged, and served when the other has gone.
func (r *Remote) Start(ctx context.Context) error {
	return r.guard.Start(ctx, func(ctx context.Context) error {
		err := r.lease.join(ctx, r.record)
		if errors.Is(err, nats.ErrNoResponders) {
			r.alone()
		} else if err != nil {
			return err
		}
		r.life, r.end = context.WithCancel(context.WithoutCancel(ctx))
		for subject, handle := range map[string]nats.MsgHandler{
			r.cfg.Names.WorkerOpen(r.cfg.ID): r.open,
			r.cfg.Names.WorkerLink(r.cfg.ID): r.order,
			r.absentInbox("h"):               r.noManager,
			r.absentInbox("l"):               r.noSession,
		} {
			sub, err := r.nc.Subscribe(subject, handle)
			if err != nil {
				r.giveUp(ctx)
				return fmt.Errorf("listen on %s: %w", subject, err)
			}
			r.subs = append(r.subs, sub)
		}
		r.loops.Go(func() { r.watch(r.life) })
		r.loops.Go(func() { r.lease.keep(r.life, r.record, r.alone, r.log) })
		return nil
	})
}

// Stop tells the manager to do without this worker, waits until nothing is left here or ctx ends, and gives the lease up. What
// is left then is the worker's to end, which its owner stops after this; callers of it are answered by that. Safe twice.
func (r *Remote) Stop(ctx context.Context) error {
	return r.guard.Stop(ctx, func(ctx context.Context) error {
		r.mu.Lock()
		r.draining = true
		s := r.session
		r.mu.Unlock()
		if s != nil {
			s.report(&schema.WorkerReport{Drain: true})
			r.awaitEmpty(ctx, s)
			s.report(&schema.WorkerReport{Bye: true})
		}
		left := 0
		if s = r.replace(nil); s != nil {
			left = s.end(r.worker)
		}
		farewell, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), byeWait, errors.New("giving the lease up"))
		defer cancel()
		r.giveUp(farewell)
		if left > 0 {
			return fmt.Errorf("worker %s: %d environments were cut off: %w", r.cfg.ID, left, cmp.Or(context.Cause(ctx), errManagerGone))
		}
		return nil
	})
}

var errManagerGone = errors.New("its manager did not end them")

// giveUp ends the loops, the subscriptions and the lease.
func (r *Remote) giveUp(ctx context.Context) {
	r.end()
	for _, sub := range r.subs {
		if err := sub.Unsubscribe(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
			r.log.Debug("stop to listen", "subject", sub.Subject, "error", err)
		}
	}
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.loops.Wait()
	if !r.nc.IsConnected() {
		return
	}
	if err := r.lease.drop(ctx); err != nil {
		r.log.Warn("give up the lease", "error", err)
	}
	if err := r.nc.FlushWithContext(ctx); err != nil {
		r.log.Debug("last flush", "error", err)
	}
}

// awaitEmpty waits until the session has no environment any more, or has ended, or the manager is silent and nothing runs.
func (r *Remote) awaitEmpty(ctx context.Context, s *session) {
	every := time.NewTicker(tick / 10)
	defer every.Stop()
	for {
		environments, runs := s.counts()
		if environments+runs == 0 || runs == 0 && (s.link.Heard() > 2*time.Second || r.nc.IsClosed()) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-s.over:
			return
		case <-every.C:
		}
	}
}

// record is this worker's lease.
func (r *Remote) record() ([]byte, error) {
	r.mu.Lock()
	state := schema.MemberActive
	if r.draining {
		state = schema.MemberDraining
	}
	r.mu.Unlock()
	return schema.Marshal(schema.WorkerRecord{
		V: schema.Version, ID: r.cfg.ID, Manager: r.cfg.Manager, Incarnation: r.incarnation, State: state, Capacity: r.cfg.Capacity,
		Driver: r.cfg.Driver, Tenants: r.cfg.Tenants, Limits: r.cfg.Limits, Build: r.cfg.Build, Reads: schema.Version,
	})
}

func (r *Remote) current() *session {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.session
}

// replace puts a session in the place of the one that there is, and gives that.
func (r *Remote) replace(s *session) *session {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.session
	r.session = s
	return was
}

// absentInbox is where the server says that nobody listens.
func (r *Remote) absentInbox(kind string) string {
	return subjects.WorkerInbox(r.cfg.ID, "n."+kind+"."+r.incarnation)
}

func saysAbsent(m *nats.Msg) bool { return len(m.Data) == 0 && m.Header.Get(schema.HeaderStatus) != "" }

// noManager is told that nobody hears a hello.
func (r *Remote) noManager(m *nats.Msg) {
	if saysAbsent(m) {
		r.alone()
	}
}

// alone says that there is no manager, once.
func (r *Remote) alone() {
	r.mu.Lock()
	first := !r.absent && r.session == nil
	r.absent = r.absent || first
	r.mu.Unlock()
	if first {
		r.log.Warn("there is no such manager: waiting for it")
		if r.cfg.Absent != nil {
			r.cfg.Absent()
		}
	}
}

// noSession is told that nobody listens to the session: its manager is gone, is coming back, or has given it up. A hello finds
// out.
func (r *Remote) noSession(m *nats.Msg) {
	if saysAbsent(m) {
		r.unheard.Store(true)
	}
}

// watch beats, asks for a session while there is none, and ends one whose manager is silent, until ctx ends.
func (r *Remote) watch(ctx context.Context) {
	every := time.NewTicker(tick)
	defer every.Stop()
	last, asked := time.Now(), time.Time{}
	since := last // when this process was last known to have been away
	reconnects := r.nc.Stats().Reconnects
	for n := 0; ; n++ {
		now := time.Now()
		if c := r.nc.Stats().Reconnects; now.Sub(last) > silent/4 || !r.nc.IsConnected() || c != reconnects {
			since, reconnects = now, c
		}
		last = now
		s := r.current()
		if (s == nil || r.unheard.Load()) && now.Sub(asked) >= helloEvery && r.lease.held() {
			asked = now
			r.unheard.Store(false)
			r.hello(s)
		}
		switch {
		case s == nil:
		case min(s.link.Heard(), now.Sub(since)) > silent || s.link.Stuck() > silent/2 && now.Sub(since) > silent/2:
			r.log.Warn("the manager is silent: what it had here is ended")
			r.drop(s)
		case n%2 == 0:
			if err := s.link.Beat(); err != nil {
				r.log.Error("beat", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
	}
}

// hello asks the manager for a session, or whether it knows this one. The server answers where there is no such manager.
func (r *Remote) hello(s *session) {
	r.mu.Lock()
	draining := r.draining
	r.mu.Unlock()
	if draining {
		return
	}
	h := schema.WorkerHello{V: schema.Version, Worker: r.cfg.ID, Incarnation: r.incarnation}
	if s != nil {
		h.Session = s.link.Session()
	}
	b, err := schema.Marshal(h)
	if err == nil && r.nc.IsConnected() {
		err = r.nc.PublishRequest(subjects.ManagerHello(r.cfg.Manager, r.cfg.ID), r.absentInbox("h"), b)
	}
	if err != nil {
		r.log.Warn("ask the manager for a session", "error", err)
	}
}

// drop ends a session, if it is still the one that there is.
func (r *Remote) drop(s *session) {
	r.mu.Lock()
	if r.session == s {
		r.session = nil
	}
	r.mu.Unlock()
	s.end(r.worker)
}
