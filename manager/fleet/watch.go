package fleet

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/answer"
	"github.com/hearth-run/hearth/internal/link"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

const (
	tick       = link.Every / 2
	silent     = topology.LeaseTTL      // a worker that says nothing for so long is gone
	goneAfter  = 500 * time.Millisecond // so long nobody listens where it should: longer than a client takes to come back
	settling   = 3 * time.Second        // after this manager came back itself, and for a session to come up
	stuckAfter = 5 * time.Second        // a report that is missing for so long does not come any more
	settled    = time.Second            // a session of this age has been heard of by a worker that is up in it
	openEvery  = 100 * time.Millisecond // the same session is told again no sooner
	leaseRead  = time.Second
	byeWait    = 500 * time.Millisecond
	maxLooking = 64   // leases that are read at once
	maxWorkers = 1024 // of one manager
)

// lostText is what the callers of a worker's runs hear when it has gone.
const lostText = "The worker that ran the call went away; it may have run in part or whole"

// random is a name that nobody guesses.
func random() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// hello takes a worker's question for a session. The subject says whose it is.
func (f *Fleet) hello(m *nats.Msg) {
	var h schema.WorkerHello
	from, _, ok := subjects.ParseWorkerAsk(m.Subject, f.cfg.Manager, subjects.AskHello)
	if err := schema.Unmarshal(m.Data, &h); err != nil || !ok || h.Worker != from || len(h.Worker) > 128 || h.Incarnation == "" || len(h.Incarnation) > 128 {
		f.refuse("", "a hello that is none")
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.sessions[h.Worker]
	if s != nil && s.incarnation == h.Incarnation {
		now := time.Now()
		if lost := h.Session == "" && s.up && now.Sub(s.made) > settled; !lost {
			if h.Session != s.link.Session() && now.Sub(s.opened) >= openEvery {
				s.opened = now
				f.tell(s)
			}
			return
		}
		// It has given the session up: what was said in it since is lost. Another one takes its place below.
	}
	if f.stopped || f.looking[h.Worker] || len(f.looking) >= maxLooking || s == nil && len(f.sessions) >= maxWorkers {
		return
	}
	f.looking[h.Worker] = true
	f.tasks.Go(func() {
		err := f.welcome(f.life, &h)
		f.mu.Lock()
		delete(f.looking, h.Worker)
		f.mu.Unlock()
		if err != nil && f.life.Err() == nil {
			f.log.Warn("a worker asks for a session and gets none", "worker", h.Worker, "error", err)
		}
	})
}

// welcome opens a session with a worker whose lease says what its hello does.
func (f *Fleet) welcome(ctx context.Context, h *schema.WorkerHello) error {
	ctx, cancel := context.WithTimeoutCause(ctx, leaseRead, errors.New("reading the lease of a worker"))
	defer cancel()
	entry, err := f.leases.Get(ctx, WorkerKey(h.Worker))
	if err != nil {
		return fmt.Errorf("read its lease: %w", err)
	}
	var rec schema.WorkerRecord
	if err := schema.Unmarshal(entry.Value(), &rec); err != nil {
		f.refused.Add(1)
		return fmt.Errorf("read its lease: %w", err)
	}
	switch {
	case rec.ID != h.Worker || rec.Incarnation != h.Incarnation:
		f.refused.Add(1)
		return errors.New("another one holds its lease")
	case rec.Manager != f.cfg.Manager:
		f.refused.Add(1)
		return fmt.Errorf("it serves manager %q", clip(rec.Manager))
	case rec.Capacity < 1 || rec.Capacity > schema.MaxWorkerPlaces:
		f.refused.Add(1)
		return fmt.Errorf("its capacity is %d; 1 to %d", rec.Capacity, schema.MaxWorkerPlaces)
	}
	s, err := f.open(&rec)
	if err != nil {
		return err
	}
	f.mu.Lock()
	was := f.sessions[h.Worker]
	if f.stopped {
		f.mu.Unlock()
		s.unsubscribe()
		return nil
	}
	f.sessions[h.Worker] = s
	s.opened = time.Now()
	f.apart.Store(true)
	f.tasks.Go(func() { s.serve(f.life) })
	f.mu.Unlock()
	f.opened.Add(1)
	if was != nil {
		f.close(was, "it began anew")
	}
	f.tell(s)
	return nil
}

// WorkerKey is the key of a worker's lease in bucket members.
func WorkerKey(id string) string { return schema.WorkerPrefix + subjects.Escape(id) }

// tell tells a worker its session.
func (f *Fleet) tell(s *session) {
	b, err := schema.Marshal(schema.WorkerOpen{
		V: schema.Version, Manager: f.cfg.Manager, Incarnation: s.incarnation, Session: s.link.Session(),
	})
	if err == nil {
		err = f.nc.Publish(f.cfg.Names.WorkerOpen(s.worker), b)
	}
	if err != nil {
		f.log.Warn("open a session with a worker", "worker", s.worker, "error", err)
	}
}

// watch beats, and finds the workers that have gone, until ctx ends.
func (f *Fleet) watch(ctx context.Context) {
	every := time.NewTicker(tick)
	defer every.Stop()
	last := time.Now()
	since := last // when this manager was last known to have been away
	reconnects := f.nc.Stats().Reconnects
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		now := time.Now()
		if r := f.nc.Stats().Reconnects; now.Sub(last) > silent/2 || !f.nc.IsConnected() || r != reconnects {
			since, reconnects = now, r
		}
		last = now
		f.mu.Lock()
		all := f.all()
		f.mu.Unlock()
		for _, s := range all {
			if n%2 == 0 {
				if err := s.link.Beat(); err != nil {
					f.log.Error("beat", "worker", s.worker, "error", err)
				}
			}
			if why := s.gone(now, since); why != "" {
				f.close(s, why)
			} else if f.drains(s) {
				f.retire(s)
				f.tellCapacity()
			}
		}
	}
}

// gone says why a worker is no more, "" while it may be. since is when this manager came back.
func (s *session) gone(now, since time.Time) string {
	here := now.Sub(since)
	if here == 0 {
		return ""
	}
	s.fleet.mu.Lock()
	up := s.up
	s.fleet.mu.Unlock()
	absent := time.Duration(0)
	if first := s.nobody.since.Load(); first != 0 && now.UnixNano()-s.nobody.last.Load() < int64(2*link.Every) {
		absent = time.Duration(now.UnixNano() - first)
	}
	switch {
	case !up && now.Sub(s.made) > settling && here > settling:
		return "it did not answer"
	case up && min(s.link.Heard(), here) > silent:
		return "it is silent"
	case absent > goneAfter && here > settling, absent > settling:
		return "its connection is gone"
	case s.link.Stuck() > stuckAfter && here > stuckAfter:
		return "what it said is lost"
	}
	return ""
}

func (f *Fleet) drains(s *session) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return s.draining && !s.closed
}

// retire has the manager do without the environments of a worker that drains.
func (f *Fleet) retire(s *session) {
	f.mu.Lock()
	ids := make([]string, 0, len(s.environments))
	for id, e := range s.environments {
		if !e.ended && e.run == nil {
			ids = append(ids, id)
		}
	}
	f.mu.Unlock()
	if len(ids) > 0 {
		f.host.Retire(ids)
	}
}

// close ends a session and gives up what it had: see the package. It is safe twice.
func (f *Fleet) close(s *session, why string) {
	f.mu.Lock()
	if s.closed {
		f.mu.Unlock()
		return
	}
	s.closed = true
	was := s.up
	s.up = false
	if f.sessions[s.worker] == s {
		delete(f.sessions, s.worker)
	}
	left := make([]*environment, 0, len(s.environments))
	var runs []*schema.Run
	for _, e := range s.environments {
		left = append(left, e)
		if run := f.forget(e); run != nil {
			runs = append(runs, run)
		}
	}
	unanswered := s.answering
	s.answering = make(map[uint64]*schema.Run)
	stopped := f.stopped
	f.mu.Unlock()
	close(s.done)
	s.unsubscribe()
	log := f.log.Info
	if len(left) > 0 {
		log = f.log.Warn
	}
	if was || len(left) > 0 {
		log("worker has gone", "worker", s.worker, "why", why, "environments", len(left), "calls", len(runs))
	}
	if !stopped {
		f.tellCapacity()
	}
	lost := func(run *schema.Run) *schema.Outcome {
		e := &schema.FunctionError{Type: string(schema.CodeExecutionLost), Message: lostText}
		e.Body = answer.ErrorBody(run.Call.RequestID, e)
		return &schema.Outcome{Error: e}
	}
	for _, run := range runs {
		run.Ended(run, lost(run))
	}
	for _, e := range left {
		e.notify(schema.EnvironmentEvent{Environment: e.id, Kind: schema.EnvironmentGone})
	}
	for _, run := range unanswered {
		runs = append(runs, run) // its end is told, and its answer went with the worker
	}
	for _, run := range runs {
		f.lost.Add(1)
		f.answer(run, lost(run))
	}
}
