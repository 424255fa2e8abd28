package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/sourcegraph/conc"
	"github.com/sourcegraph/conc/iter"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/lifecycle"
	"github.com/hearth-run/hearth/subjects"
)

// Bounds of what is sent at once. A message is below what every NATS server takes unless told otherwise (1 MB), and below
// what [schema.Scan] lets readers take.
const (
	shipFull     = 64 << 10  // of one environment: sent before its time
	shipMessage  = 512 << 10 // the longest message, about
	shipLines    = 4096      // of one message
	shipAtOnce   = 8         // messages whose PubAck is awaited
	shipPatience = 5 * time.Second
	shipBackOff  = 2 * time.Second // at most, while nothing can be sent
	shipAway     = 3 * time.Second // that Stop waits for a server that is away
	// shipLastTries is how often Stop has lines offered that nobody takes: 1.1 s in all. A worker whose manager has stopped before
	// it would else wait for as long as it may.
	shipLastTries = 4
)

// shipLine is what a line counts for in memory beside its text: itself, and the strings of its call that it holds on to.
const shipLine = 256

// Errors of [ShipperConfig.Store].
var (
	// ErrLinesRefused is that of lines that are not stored, however often they are offered.
	ErrLinesRefused = errors.New("the log lines are refused")
	// ErrLinesLater is that of lines that may be stored later: they are offered again.
	ErrLinesLater = errors.New("the log lines are not taken yet")
)

// ShipperConfig says how a [Shipper] works. Fields without a default are needed.
type ShipperConfig struct {
	Manager string // its id, for whoever reads the lines
	Names   subjects.Names
	Every   time.Duration // how long a line waits for others at most; 0 means 100 ms
	Bytes   int64         // lines that are not yet stored, in memory; 0 means 8 MiB. One environment may have an eighth
	// Store stores a batch under a subject of [subjects.Names.Log] and returns when it stands in the stream; it keeps no part of the
	// batch. nil publishes to the stream over the connection. An error that is [nats.ErrNoResponders] or
	// [ErrLinesLater] says that nobody can at the moment, one that is [ErrLinesRefused] that nobody will. Several are called at once.
	Store  func(ctx context.Context, subject string, batch []byte) error
	Logger *slog.Logger // nil means nobody
}

// Shipper puts the lines of environments into stream LOGS: those of one environment in their order, in batches, at least
// once (a batch whose PubAck was lost is sent again). It has one goroutine and a bounded memory. While nothing can be sent
// it keeps what the bound allows; what is beyond is dropped and counted, and a line of the platform's says how much.
//
//	Sink.Line -> shelf, one an environment -> flush, every 100 ms or at 64 KB -> msgpack -> PubAck -> forgotten
//	              | full: counted                                                | none: kept, and tried again
//
// What a call waits for is its shelf's mutex, which guards an append, and with the first line of a batch the shipper's,
// which guards another. Nothing is encoded or sent under either. DESIGN 9.
type Shipper struct {
	nc  *nats.Conn
	cfg ShipperConfig
	log *slog.Logger

	used                    atomic.Int64
	lines, dropped, batches atomic.Int64
	nobody                  atomic.Bool // nobody took what was sent last

	mu    sync.Mutex
	dirty []*shelf      // have lines
	full  []*shelf      // have as many as go out before their time
	wake  chan struct{} // there are dirty ones
	now   chan struct{} // there are full ones

	guard lifecycle.Guard
	life  context.Context // of what is under way; ends with Stop's context
	cut   context.CancelCauseFunc
	stop  chan struct{}
	ended chan struct{}
	wg    conc.WaitGroup
}

var _ lifecycle.Component = (*Shipper)(nil)

// Shipped is what a [Shipper] has done since it was made.
type Shipped struct {
	Lines   int64 // stored
	Batches int64 // messages
	Dropped int64 // lines
	Waiting int64 // bytes of memory that are not stored yet
}

// NewShipper makes a shipper over a connection that stays the caller's. It starts nothing.
func NewShipper(nc *nats.Conn, cfg ShipperConfig) (*Shipper, error) {
	if nc == nil || cfg.Names == (subjects.Names{}) || cfg.Manager == "" {
		return nil, errors.New("shipper: needs a connection, names and the manager's id")
	}
	cfg.Every = cmp.Or(cfg.Every, 100*time.Millisecond)
	cfg.Bytes = cmp.Or(cfg.Bytes, 8<<20)
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	if cfg.Store == nil {
		js, err := jetstream.New(nc)
		if err != nil {
			return nil, fmt.Errorf("shipper: %w", err)
		}
		stream := jetstream.WithExpectStream(cfg.Names.Stream(topology.Logs))
		cfg.Store = func(ctx context.Context, subject string, batch []byte) error {
			_, err := js.PublishMsg(ctx, &nats.Msg{Subject: subject, Data: batch}, stream)
			return err
		}
	}
	s := &Shipper{nc: nc, cfg: cfg, log: cfg.Logger, wake: make(chan struct{}, 1), now: make(chan struct{}, 1),
		stop: make(chan struct{}), ended: make(chan struct{})}
	s.life, s.cut = context.WithCancelCause(context.Background())
	return s, nil
}

// Bytes is the bound of its memory, which [Config.LogBytes] sets aside.
func (s *Shipper) Bytes() int64 { return s.cfg.Bytes }

// Shipped takes a look; the numbers are read one after the other.
func (s *Shipper) Shipped() Shipped {
	return Shipped{Lines: s.lines.Load(), Batches: s.batches.Load(), Dropped: s.dropped.Load(), Waiting: s.used.Load()}
}

// Start begins to send. A shipper starts once.
func (s *Shipper) Start(ctx context.Context) error {
	return s.guard.Start(ctx, func(context.Context) error {
		s.wg.Go(func() {
			defer close(s.ended)
			s.loop()
		})
		return nil
	})
}

// Stop sends what there is and ends, or gives it up when ctx ends first, or nobody takes it, and says how much that was. Lines that come later
// go nowhere, so environments end first. Safe twice, and unstarted.
func (s *Shipper) Stop(ctx context.Context) error {
	return s.guard.Stop(ctx, func(ctx context.Context) error {
		close(s.stop)
		select {
		case <-s.ended:
		case <-ctx.Done():
			s.cut(context.Cause(ctx))
			<-s.ended
		}
		s.wg.Wait()
		why := context.Cause(s.life)
		s.cut(nil)
		if left := s.used.Load(); left > 0 {
			return fmt.Errorf("shipper: log lines of %d bytes were not stored: %w", left, cmp.Or(why, errNobody))
		}
		return nil
	})
}

var errNobody = errors.New("nobody takes them")

// loop sends what is on the shelves, and after Stop until there is nothing any more.
func (s *Shipper) loop() {
	back := time.Duration(0)
	last := 0 // of the tries after Stop that found nobody
	var stopped time.Time
	for stopping := false; ; {
		if !stopping {
			stopping = !s.await(back)
			stopped = time.Now()
		}
		s.mu.Lock()
		dirty := s.dirty
		s.dirty, s.full = nil, nil
		s.mu.Unlock()
		if len(dirty) == 0 && stopping {
			return
		}
		if s.flush(dirty) {
			back = 0
			continue
		}
		back = min(shipBackOff, 2*back+s.cfg.Every)
		if stopping && !s.nc.IsConnected() && time.Since(stopped) > shipAway {
			return
		}
		if stopping && s.nobody.Load() {
			if last++; last == shipLastTries {
				return
			}
		}
		if stopping && !s.pause(back) {
			return
		}
	}
}

// await waits until it is time to send: a while after the first line of an empty shelf, at once when one is full. It
// reports false when the shipper is told to stop.
func (s *Shipper) await(back time.Duration) bool {
	select {
	case <-s.stop:
		return false
	case <-s.wake:
	}
	timer := time.NewTimer(s.cfg.Every + rand.N(back+1))
	defer timer.Stop()
	for {
		select {
		case <-s.stop:
			return false
		case <-timer.C:
			return true
		case <-s.now:
			if back > 0 {
				continue // nothing can be sent: full ones wait like all others
			}
			s.mu.Lock()
			full := s.full
			s.full = nil
			s.mu.Unlock()
			if !s.flush(full) {
				back = s.cfg.Every
			}
		}
	}
}

func (s *Shipper) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.life.Done():
		return false
	}
}

// flush sends what is on these shelves, several at once. It reports false if something could not be sent; that stays.
func (s *Shipper) flush(shelves []*shelf) bool {
	if len(shelves) == 0 {
		return true
	}
	if !s.nc.IsConnected() {
		// Published now, it would lie in the connection's buffer, and be sent again later all the same.
		s.again(shelves)
		return false
	}
	var failed atomic.Bool
	s.nobody.Store(false)
	sender := iter.Iterator[*shelf]{MaxGoroutines: shipAtOnce}
	sender.ForEach(shelves, func(one **shelf) {
		if err := (*one).send(); err != nil {
			s.nobody.Store(errors.Is(err, nats.ErrNoResponders) || errors.Is(err, ErrLinesLater))
			if !failed.Swap(true) {
				s.log.Warn("log lines wait", "bytes", s.used.Load(), "error", err)
			}
			s.again([]*shelf{*one})
		}
	})
	return !failed.Load()
}

// again puts shelves back that have something left.
func (s *Shipper) again(shelves []*shelf) {
	s.mu.Lock()
	s.dirty = append(s.dirty, shelves...)
	s.mu.Unlock()
	nudge(s.wake)
}

func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// store publishes a batch and waits for its PubAck.
func (s *Shipper) store(subject string, batch []byte) error {
	ctx, cancel := context.WithTimeoutCause(s.life, shipPatience, errors.New("no PubAck of log lines came"))
	defer cancel()
	err := s.cfg.Store(ctx, subject, batch)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
