package remote

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/link"
	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// A payload over [schema.MaxCarried] is asked for from the manager, which has it, and never lies in a frame.
const (
	maxFetches = 5 // at once: 30 MiB at most on their way to this connection
	fetchWait  = 2 * time.Second
	fetchTries = 2
)

// session is what this life of the worker and one life of its manager have to do with each other.
type session struct {
	remote *Remote
	link   *link.Link
	over   chan struct{} // closed at its end

	mu           sync.Mutex // guards what follows
	ended        bool
	environments map[string]struct{} // not gone
	runs         map[uint64]*run     // not answered
}

// open takes a manager's word that there is a session.
func (r *Remote) open(m *nats.Msg) {
	var o schema.WorkerOpen
	if err := schema.Unmarshal(m.Data, &o); err != nil {
		r.refuse("an open that is none")
		return
	}
	if o.Manager != r.cfg.Manager || o.Incarnation != r.incarnation || o.Session == "" || len(o.Session) > 64 {
		r.refuse("an open for another")
		return
	}
	if s := r.current(); s != nil && s.link.Session() == o.Session {
		return
	}
	to := subjects.ManagerLink(r.cfg.Manager, r.cfg.ID, o.Session)
	s := &session{remote: r, over: make(chan struct{}), environments: make(map[string]struct{}), runs: make(map[uint64]*run)}
	s.link = link.New(o.Session, func(frame []byte) error {
		if !r.nc.IsConnected() {
			return nats.ErrDisconnected // it would lie in the connection's buffer, and is asked for
		}
		return r.nc.PublishRequest(to, r.absentInbox("l"), frame)
	})
	r.mu.Lock()
	was, draining := r.session, r.draining
	if !draining {
		r.session, r.absent = s, false
	}
	r.mu.Unlock()
	if draining {
		return // it stops
	}
	r.sessions.Add(1)
	if was != nil {
		n := was.end(r.worker)
		r.log.Warn("the manager has another life or has given this worker up: what was here is ended", "environments", n)
	}
	r.log.Info("serving")
	if err := s.link.Beat(); err != nil {
		r.log.Error("beat", "error", err)
	}
}

// order takes a frame of the manager, on the goroutine of its subscription. Nothing here waits.
func (r *Remote) order(m *nats.Msg) {
	s := r.current()
	if s == nil {
		return // of a session that ended: its manager will see
	}
	body, err := s.link.Receive(m.Data)
	if err != nil {
		r.refuse("a frame of another session")
		return
	}
	if body == nil {
		return
	}
	var o schema.WorkerOrder
	if err := schema.Unmarshal(body, &o); err != nil {
		r.refuse("an order that is none")
		return
	}
	switch {
	case o.Make != nil:
		s.make(o.Make)
	case o.Start != nil:
		s.start(o.Start)
	case o.End != "":
		r.worker.End(o.End)
	case o.Done != nil:
		s.finish(o.Done)
	case o.Level != nil:
		if _, err := telemetry.Obey(r.log, "worker", r.cfg.ID, o.Level); err != nil {
			r.log.Warn("change the level of the log", "error", err)
		}
	case o.Bye:
		r.log.Info("the manager has stopped")
		r.drop(s)
	}
}

func (r *Remote) refuse(what string) {
	r.refused.Add(1)
	r.log.Debug("not what this worker's manager says", "what", what)
}

// make has the worker make an environment. Its binding carries variables: it goes nowhere else.
func (s *session) make(m *schema.WorkerMake) {
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return
	}
	s.environments[m.Environment] = struct{}{}
	s.mu.Unlock()
	b := m.Binding()
	if m.Tokens {
		b.Token = s.tokens(m.Environment)
	}
	s.remote.worker.Make(m.Environment, b, func(ev schema.EnvironmentEvent) {
		if ev.Kind != schema.EnvironmentParked {
			s.mu.Lock()
			delete(s.environments, ev.Environment)
			s.mu.Unlock()
		}
		s.report(&schema.WorkerReport{Event: event(ev)})
	})
}

func event(ev schema.EnvironmentEvent) *schema.WorkerEvent {
	e := &schema.WorkerEvent{Environment: ev.Environment, Kind: ev.Kind, Init: ev.InitDuration}
	if ev.Error != nil {
		e.Type, e.Message = ev.Error.Type, ev.Error.Message[:min(len(ev.Error.Message), schema.MaxWorkerError)]
		e.Posted = ev.Error.Posted
		if len(ev.Error.Body) <= schema.MaxWorkerError {
			e.Body = ev.Error.Body
		}
	}
	return e
}

// report tells the manager. What cannot be told any more ends the session.
func (s *session) report(rep *schema.WorkerReport) {
	rep.V = schema.Version
	b, err := schema.Marshal(rep)
	if err == nil {
		err = s.link.Send(b)
	}
	if err != nil {
		s.remote.log.Error("tell the manager", "error", err)
		s.remote.spawn(func() { s.remote.drop(s) })
	}
}

// run is a call that the manager has started here and not said Done of.
type run struct {
	done  chan struct{} // closed by Done
	told  bool          // it is
	reply string        // of Done
}

// start starts a call on a goroutine of its own: its payload may have to be asked for, and a driver that answers at once
// would keep the manager's Done from being heard.
func (s *session) start(st *schema.WorkerStart) {
	r := s.remote
	var call schema.Call
	if err := schema.DecodeCall(st.Call, &call); err != nil {
		r.refuse("a call that is none")
		return
	}
	one := &run{done: make(chan struct{})}
	s.mu.Lock()
	if s.ended || s.runs[st.Run] != nil {
		s.mu.Unlock()
		return
	}
	s.runs[st.Run] = one
	s.mu.Unlock()
	call.Frontend = r.cfg.Manager // whoever it is, is told by the manager
	what := &schema.Run{
		Call: &call, Subject: st.Subject, Environment: st.Environment, Arc: st.Arc, Rank: st.Rank, Manager: r.cfg.Manager,
		Start: schema.Start(st.Start), InitDuration: st.Init,
		Ended:    func(run *schema.Run, o *schema.Outcome) { s.conclude(st.Run, one, run, o) },
		Answered: func(*schema.Run) { s.answered(st.Run) },
	}
	r.spawn(func() {
		if call.Held > 0 {
			if err := s.fetch(st.Run, &call); err != nil {
				r.log.Warn("ask for the payload of a call", telemetry.LogCall(call.RequestID, call.Traceparent), "error", err)
				what.Environment = "" // it is in no environment's hands: the worker answers that it is lost
				defer r.worker.End(st.Environment)
			}
		}
		r.worker.Start(what)
	})
}

// conclude reports the end of a run and waits until the manager has written offer and status, a moment at most.
func (s *session) conclude(number uint64, one *run, run *schema.Run, o *schema.Outcome) {
	ended := &schema.WorkerEnded{Run: number, Reusable: o.Reusable, Duration: o.Duration}
	if o.Error != nil {
		ended.Error, ended.ByFunction = o.Error.Type[:min(len(o.Error.Type), 128)], o.Error.Posted
	}
	s.report(&schema.WorkerReport{Ended: ended})
	late := time.NewTimer(doneWait)
	defer late.Stop()
	select {
	case <-one.done:
		if one.reply != "" {
			run.Call.Reply = one.reply
		}
	case <-late.C:
		s.remote.undone.Add(1)
	case <-s.over:
		s.remote.undone.Add(1)
	}
}

// answered tells the manager that the caller of a run has its answer. Both leave by one connection, one after the other, so the
// manager never answers beside the worker unless this was cut off between them.
func (s *session) answered(number uint64) {
	s.report(&schema.WorkerReport{Answered: number})
	s.mu.Lock()
	delete(s.runs, number)
	s.mu.Unlock()
}

// finish takes the manager's Done.
func (s *session) finish(d *schema.WorkerDone) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if one := s.runs[d.Run]; one != nil && !one.told {
		one.told, one.reply = true, d.Reply
		close(one.done)
	}
}

// fetch asks the manager for the payload of a run.
func (s *session) fetch(number uint64, call *schema.Call) error {
	r := s.remote
	ctx, cancel := context.WithTimeoutCause(r.life, 2*fetchTries*fetchWait, errors.New("waiting for a payload"))
	defer cancel()
	select {
	case r.fetches <- struct{}{}:
		defer func() { <-r.fetches }()
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-s.over:
		return errOver
	}
	question := []byte(strconv.FormatUint(number, 16))
	for try := 1; ; try++ {
		within, cancel := context.WithTimeoutCause(ctx, fetchWait, errors.New("the manager sends no payload"))
		m, err := r.nc.RequestWithContext(within, subjects.ManagerPayload(r.cfg.Manager, r.cfg.ID, s.link.Session()), question)
		cancel()
		switch {
		case err == nil && len(m.Data) == call.Held && m.Header.Get(schema.HeaderStatus) == "":
			call.Payload, call.Held = m.Data, 0
			r.fetched.Add(1)
			return nil
		case err == nil:
			return fmt.Errorf("the manager has %d bytes of it, not %d", len(m.Data), call.Held)
		case try == fetchTries:
			return err
		}
	}
}

var errOver = errors.New("the session has ended")

// counts are the environments and runs that there are.
func (s *session) counts() (environments, runs int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.environments), len(s.runs)
}

// end ends the session and every environment of it, and says how many those were. Safe twice.
func (s *session) end(w Worker) (environments int) {
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return 0
	}
	s.ended = true
	ids := make([]string, 0, len(s.environments))
	for id := range s.environments {
		ids = append(ids, id)
	}
	s.mu.Unlock()
	close(s.over)
	for _, id := range ids {
		w.End(id)
	}
	return len(ids)
}

// spawn runs a task that Stop waits for; after Stop it runs none.
func (r *Remote) spawn(task func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.loops.Go(task)
	}
}
