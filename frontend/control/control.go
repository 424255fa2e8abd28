package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// View is what the frontend around this service knows of the fabric from its watches and from statuses. All methods are
// safe for concurrent use; what they return is shared and only read.
type View interface {
	// Ring is the ring as the controller wrote it.
	Ring() schema.RingRecord
	// Fabric is the numbers that all nodes share.
	Fabric() schema.Fabric
	// Managers are the latest statuses of the managers that tell theirs.
	Managers() []schema.ManagerStatus
	// Frontends are the ids of the frontends that tell their status, this one among them.
	Frontends() []string
	// ArcLength is the stored length of unreserved arc nn, 0 if none.
	ArcLength(nn int) int
	// Function is the record of a function and its revision in bucket functions, if this frontend has seen one.
	Function(account, name string) (*schema.FunctionRecord, uint64, bool)
	// Reserves reports whether this frontend sends calls to the arc of a reservation's present opening.
	Reserves(r *schema.ReservationRecord) bool
	// TokenKeys are what tokens of sub-tenants are checked by.
	TokenKeys() schema.TokenKeysOutput
	// WaitFunctions returns when every live frontend has told that it has seen this revision of bucket functions, or with
	// the error of ctx.
	WaitFunctions(ctx context.Context, revision uint64) error
}

// Config says how a [Service] works. The zero value is usable.
type Config struct {
	Names    subjects.Names // zero means those of [subjects.DefaultPrefix]
	Workers  int            // operations that run at once; 0 means 8
	Queue    int            // requests that wait for a worker, beyond it they are throttled; 0 means 128
	Waiting  int            // requests that wait for log lines, beyond it they are answered at once; 0 means 256
	Deadline time.Duration  // of one operation; 0 means 10 s, and a minute where code is read
	Keep     time.Duration  // how long replaced variables stay for calls accepted before; 0 means 30 s
	Settle   time.Duration  // how long a change waits until every frontend has seen it; 0 means 1 s (DESIGN 9)
	Build    string         // semantic version told by PING and INFO; "" means 0.0.0
	Logger   *slog.Logger   // nil means none
}

// Service is the operations of `hearth.api` on one frontend. It is safe for concurrent use.
type Service struct {
	nc   *nats.Conn
	view View
	cfg  Config
	log  *slog.Logger

	store   stores        // set by Start
	reading chan struct{} // one token for each package that is held in memory at once
	ready   atomic.Bool   // between Start and Stop

	queue   chan micro.Request
	seats   chan struct{} // one for each request that waits for log lines
	retired retired
	stats   counters

	mu      sync.Mutex // guards what follows; held while starting and stopping
	started bool
	micro   micro.Service
	others  *nats.Subscription // what no endpoint of micro hears
	stop    chan struct{}      // closed by Stop: workers empty the queue and end
	life    context.Context    // of who waits for log lines; Stop ends it
	end     context.CancelFunc
	workers conc.WaitGroup
	waiter  conc.WaitGroup // waits for the workers and closes done
	done    chan struct{}
}

// New makes a service that answers over nc with what view knows. It starts nothing.
func New(nc *nats.Conn, view View, cfg Config) (*Service, error) {
	if nc == nil || view == nil {
		return nil, errors.New("control: needs a connection and a view")
	}
	if cfg.Workers < 0 || cfg.Queue < 0 || cfg.Waiting < 0 || cfg.Deadline < 0 || cfg.Settle < 0 || cfg.Keep < 0 {
		return nil, errors.New("control: Workers, Queue, Waiting, Deadline, Keep and Settle are 0 (default) or more")
	}
	if cfg.Names == (subjects.Names{}) {
		names, err := subjects.NewNames("")
		if err != nil {
			return nil, fmt.Errorf("control: %w", err)
		}
		cfg.Names = names
	}
	cfg.Workers = cmp.Or(cfg.Workers, 8)
	cfg.Queue = cmp.Or(cfg.Queue, 128)
	cfg.Waiting = cmp.Or(cfg.Waiting, 256)
	cfg.Settle = cmp.Or(cfg.Settle, time.Second)
	cfg.Keep = cmp.Or(cfg.Keep, keepVariables)
	cfg.Build = cmp.Or(cfg.Build, "0.0.0")
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Service{
		nc: nc, view: view, cfg: cfg, log: cfg.Logger, reading: make(chan struct{}, maxReading),
		queue: make(chan micro.Request, cfg.Queue), seats: make(chan struct{}, cfg.Waiting), retired: retired{kick: make(chan struct{}, 1)},
	}, nil
}

// Start opens the buckets, which managers make, and answers from then on. An error leaves nothing running. A service is
// started once in its life; a second Start is an error unless the first failed.
func (s *Service) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started {
		return errors.New("control: was started before")
	}
	js, err := jetstream.New(s.nc)
	if err != nil {
		return fmt.Errorf("start control: %w", err)
	}
	if s.store, err = openStores(ctx, js, s.cfg.Names); err != nil {
		return fmt.Errorf("start control: %w", err)
	}
	s.stop, s.done = make(chan struct{}), make(chan struct{})
	s.life, s.end = context.WithCancel(context.Background())
	for range s.cfg.Workers {
		s.workers.Go(s.work)
	}
	s.workers.Go(s.retire)
	s.ready.Store(true)
	if err := s.serve(); err != nil {
		s.ready.Store(false)
		close(s.stop)
		s.end()
		s.workers.Wait()
		return fmt.Errorf("start control: %w", err)
	}
	s.waiter.Go(func() {
		defer close(s.done)
		s.workers.Wait()
	})
	s.started = true
	return nil
}

// Stop takes no new request, answers those that it has, and waits for them. It may be called again, and on a service
// that never started. When ctx ends first its error is returned; operations that still run end by their own deadlines,
// and the next Stop waits for them.
func (s *Service) Stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.started {
		return nil
	}
	var err error
	if s.ready.Load() {
		err = s.deafen()
		if s.nc.IsConnected() { // a server that is away hands us nothing
			// After this round trip the server hands us nothing more.
			flush, cancel := context.WithTimeout(ctx, usualDeadline)
			err = errors.Join(err, s.nc.FlushWithContext(flush))
			cancel()
		}
		s.ready.Store(false)
		close(s.stop)
		s.end()
	}
	select {
	case <-s.done:
		s.waiter.Wait()
		return err
	case <-ctx.Done():
		return errors.Join(err, fmt.Errorf("stop control: %w", context.Cause(ctx)))
	}
}
