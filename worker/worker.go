package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
	"github.com/hearth-run/hearth/worker/driver"
	"github.com/hearth-run/hearth/worker/runtimeapi"
)

// CodeStore is where packages come from: the object store, in a fabric.
type CodeStore interface {
	// Open reads the zip with this SHA-256 (lower-case hex). Its bytes are verified by who reads them.
	Open(ctx context.Context, sha256 string) (zip io.ReadCloser, size int64, err error)
}

// Config is what a worker is made with. Fields without a default are needed.
type Config struct {
	ID       string
	Publish  func(*nats.Msg) error // sends an answer; it must not keep the message
	Code     CodeStore             // not needed where the driver runs no code
	Driver   driver.Driver
	Tenants  bool           // it keeps sub-tenants apart ([driver.Abilities]); else no environment is made for one
	CacheDir string         // of unpacked packages and runtime loops; not needed where the driver runs no code
	Path     string         // where interpreters are looked for, as in PATH; "" means the system's usual folders
	Region   string         // that functions see; "" means [schema.Region]
	Names    subjects.Names // of the fabric

	Inits          int           // environments made at once, those with a long init aside; 0 means 2 a core and 8 more
	InitQueue      int           // environments that wait for that; more fail at once; 0 means 4,096
	PrepareTimeout time.Duration // to fetch and unpack a package; 0 means 2 min
	FreezeAfter    time.Duration // an environment idle for so long is frozen, where the driver can; 0 means 10 s, -1 never
	BodyBytes      int64         // bodies and log lines of all environments at once; 0 means 256 MiB
	LogBytes       int64         // of these, what is set aside for who takes Lines; 0 means nothing
	LogRate        int           // bytes of output a second and environment, more is dropped; 0 means 1 MiB

	// Lines opens what takes an environment's lines, those of its output and the platform's own: [Shipper.Open]. Those of a
	// driver that runs no code have none. nil means that output goes to Logger, at debug.
	Lines  func(Source) Sink
	Logger *slog.Logger // nil means nobody

	Telemetry *telemetry.Telemetry // nil means no spans
	Metrics   *telemetry.Metrics   // nil: nobody looks
	Ledger    *Ledger              // nil: what is used is not written down

	now func() time.Time // of the freezer; tests move it
}

func (c *Config) setDefaults() error {
	c.Inits = cmp.Or(c.Inits, 2*runtime.GOMAXPROCS(0)+8)
	c.InitQueue = cmp.Or(c.InitQueue, 4096)
	c.PrepareTimeout = cmp.Or(c.PrepareTimeout, 2*time.Minute)
	c.FreezeAfter = cmp.Or(c.FreezeAfter, defaultFreeze)
	if c.now == nil {
		c.now = time.Now
	}
	c.BodyBytes = cmp.Or(c.BodyBytes, 256<<20)
	c.LogRate = cmp.Or(c.LogRate, 1<<20)
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	var errs []error
	if c.Publish == nil {
		errs = append(errs, errors.New("config: Publish is missing"))
	}
	if c.Driver == nil {
		errs = append(errs, errors.New("config: Driver is missing"))
	}
	if c.Names == (subjects.Names{}) {
		errs = append(errs, errors.New("config: Names is missing"))
	}
	if c.LogBytes < 0 || c.BodyBytes-c.LogBytes < 2*schema.MaxAnswer {
		errs = append(errs, fmt.Errorf("config: BodyBytes is %d and LogBytes %d; without the latter at least %d, two answers",
			c.BodyBytes, c.LogBytes, 2*schema.MaxAnswer))
	}
	return errors.Join(errs...)
}

// Worker is the environments of one host. It is a manager's Worker; safe for concurrent use.
type Worker struct {
	cfg     Config
	log     *slog.Logger
	budget  *runtimeapi.Budget
	count   counters
	prep    *preparer
	freezer *freezer
	slots   chan struct{} // one for each environment that is being made
	life    context.Context
	end     context.CancelCauseFunc
	wg      conc.WaitGroup

	mu           sync.RWMutex
	stopped      bool
	queued       int // made or waiting for it
	environments map[string]*environment

	networks networks
	metrics  metrics
	usage    *usage
}

// errStopped is the cause of what ends because the worker does.
var errStopped = errors.New("the worker stops")

// New makes a worker. It runs nothing until it is told to; [Worker.Stop] ends what it then runs.
func New(cfg Config) (*Worker, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	w := &Worker{cfg: cfg, log: cfg.Logger.With("worker", cfg.ID), budget: runtimeapi.NewBudget(cfg.BodyBytes - cfg.LogBytes),
		freezer: newFreezer(cfg.FreezeAfter, cfg.now), slots: make(chan struct{}, cfg.Inits), environments: map[string]*environment{},
		metrics: newMetrics(), usage: newUsage()}
	if cfg.Ledger != nil {
		w.usage = cfg.Ledger.usage
	}
	var err error
	if w.prep, err = newPreparer(cfg, w.log); err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	w.life, w.end = context.WithCancelCause(context.Background())
	cfg.Metrics.Add(w.scrape)
	return w, nil
}

// Stop ends every environment, as [Worker.End] does, and waits until each has told its last event; calls that run are answered. It
// returns the cause of ctx if that is over first. Safe twice. Closing the driver is its owner's.
func (w *Worker) Stop(ctx context.Context) error {
	w.mu.Lock()
	w.stopped = true
	w.mu.Unlock()
	w.end(errStopped)
	for _, e := range w.all() {
		e.end()
	}
	ended := make(chan struct{})
	// Not one of the worker's own goroutines: it waits for those.
	go func() {
		defer close(ended)
		w.wg.Wait()
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("worker: wait for environments to end: %w", context.Cause(ctx))
	}
}

func (w *Worker) all() []*environment {
	w.mu.RLock()
	defer w.mu.RUnlock()
	all := make([]*environment, 0, len(w.environments))
	for _, e := range w.environments {
		all = append(all, e)
	}
	return all
}

func (w *Worker) environment(id string) *environment {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.environments[id]
}
