package fleet

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/link"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// Bounds of what a worker has said and its manager has not looked at yet: more than an honest one can have under way.
const (
	maxQueue      = 1 << 16
	maxQueueBytes = 64 << 20
)

// maxInit is the longest init that a worker may tell.
const maxInit = time.Hour

// session is what one life of a worker and this manager have to do with each other. Fleet.mu guards what changes, but for what
// has its own.
type session struct {
	fleet       *Fleet
	worker      string
	incarnation string
	link        *link.Link
	made        time.Time
	done        chan struct{} // closed with it
	subs        []*nats.Subscription
	nobody      absence

	capacity     int
	tenants      bool
	up           bool
	draining     bool
	closed       bool
	used         int // places
	environments map[string]*environment
	runs         map[uint64]*environment
	answering    map[uint64]*schema.Run // ended, and their callers may not have the answer yet
	last         uint64                 // number of the last run
	opened       time.Time

	queue queue
}

// absence is the server's word that nobody listens where the worker should.
type absence struct{ since, last atomic.Int64 } // Unix ns on this process's clock; 0: somebody does

func (a *absence) note(now time.Time) {
	a.since.CompareAndSwap(0, now.UnixNano())
	a.last.Store(now.UnixNano())
}

// queue is what the worker said, on the way from its subscription to the goroutine that looks at it.
type queue struct {
	mu    sync.Mutex
	items [][]byte
	bytes int
	wake  chan struct{}
}

// put takes a report in, or says that there are too many.
func (q *queue) put(b []byte) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) >= maxQueue || q.bytes+len(b) > maxQueueBytes {
		return false
	}
	q.items = append(q.items, b)
	q.bytes += len(b)
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return true
}

func (q *queue) take() [][]byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	items := q.items
	q.items, q.bytes = nil, 0
	return items
}

// open makes a session with a worker and listens where it will speak. It is not up until it has.
func (f *Fleet) open(rec *schema.WorkerRecord) (*session, error) {
	s := &session{
		fleet: f, worker: rec.ID, incarnation: rec.Incarnation, capacity: rec.Capacity, tenants: rec.Tenants,
		draining: rec.State == schema.MemberDraining, made: time.Now(), done: make(chan struct{}),
		environments: make(map[string]*environment), runs: make(map[uint64]*environment), answering: make(map[uint64]*schema.Run),
		queue: queue{wake: make(chan struct{}, 1)},
	}
	name := random()
	to, absent := f.cfg.Names.WorkerLink(s.worker), subjects.ManagerInbox(f.cfg.Manager, "gone."+name)
	s.link = link.New(name, func(frame []byte) error {
		if !f.nc.IsConnected() {
			return nats.ErrDisconnected // it would lie in the connection's buffer, and is asked for
		}
		return f.nc.PublishRequest(to, absent, frame)
	})
	for subject, handle := range map[string]nats.MsgHandler{
		subjects.ManagerLink(f.cfg.Manager, s.worker, name):    s.receive,
		subjects.ManagerPayload(f.cfg.Manager, s.worker, name): s.payload,
		subjects.ManagerToken(f.cfg.Manager, s.worker, name):   s.token,
		absent: func(m *nats.Msg) {
			if len(m.Data) == 0 && m.Header.Get(schema.HeaderStatus) != "" {
				s.nobody.note(time.Now())
			}
		},
	} {
		sub, err := f.nc.Subscribe(subject, handle)
		if err != nil {
			s.unsubscribe()
			return nil, err
		}
		s.subs = append(s.subs, sub)
	}
	return s, nil
}

func (s *session) unsubscribe() {
	for _, sub := range s.subs {
		if err := sub.Unsubscribe(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
			s.fleet.log.Debug("stop to listen to a worker", "subject", sub.Subject, "error", err)
		}
	}
}

// order sends the worker an order. What cannot be sent any more ends the session.
func (s *session) order(o *schema.WorkerOrder) {
	o.V = schema.Version
	b, err := schema.Marshal(o)
	if err == nil {
		err = s.link.Send(b)
	}
	if err != nil {
		s.fleet.log.Error("tell a worker", "worker", s.worker, "error", err)
		s.fleet.spawn(func() { s.fleet.close(s, err.Error()) })
	}
}

// spawn runs a task that Close waits for, unless the fleet is closed.
func (f *Fleet) spawn(task func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.stopped {
		f.tasks.Go(task)
	}
}

// receive takes what comes under the session, on its subscription's goroutine.
func (s *session) receive(m *nats.Msg) {
	body, err := s.link.Receive(m.Data)
	if err != nil {
		s.fleet.refuse(s.worker, "a frame that is none")
		return
	}
	s.nobody.since.Store(0)
	s.fleet.mu.Lock()
	first := !s.up && !s.closed
	s.up = true
	s.fleet.mu.Unlock()
	if first {
		s.fleet.log.Info("worker is here", "worker", s.worker, "places", s.capacity)
		s.queue.put(nil)
	}
	if body != nil && !s.queue.put(body) {
		s.fleet.refuse(s.worker, "more than can be looked at")
		s.fleet.spawn(func() { s.fleet.close(s, "it said more than can be looked at") })
	}
}

// payload answers the worker's question for the payload of one of its runs.
func (s *session) payload(m *nats.Msg) {
	f := s.fleet
	number, err := strconv.ParseUint(string(m.Data), 16, 64)
	if !subjects.OfWorker(m.Reply, s.worker) || err != nil {
		f.refuse(s.worker, "a question for a payload that is none")
		return
	}
	answer := &nats.Msg{Subject: m.Reply}
	f.mu.Lock()
	if e := s.runs[number]; e != nil {
		answer.Data = e.run.Call.Payload
	}
	f.mu.Unlock()
	if answer.Data == nil {
		answer.Header = nats.Header{schema.HeaderStatus: {schema.StatusUnknown}}
	}
	if err := f.nc.PublishMsg(answer); err != nil {
		f.log.Warn("send a payload to a worker", "worker", s.worker, "bytes", len(answer.Data), "error", err)
	}
}

// serve looks at what the worker says, in its order, until the session ends.
func (s *session) serve(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.done:
			return
		case <-s.queue.wake:
		}
		for _, b := range s.queue.take() {
			select {
			case <-s.done:
				return
			default:
			}
			if b == nil {
				s.fleet.tellCapacity()
				continue
			}
			s.report(b)
		}
	}
}

func (s *session) report(b []byte) {
	f := s.fleet
	var r schema.WorkerReport
	if err := schema.Unmarshal(b, &r); err != nil {
		f.refuse(s.worker, "a report that is none")
		return
	}
	switch {
	case r.Event != nil:
		s.event(r.Event)
	case r.Ended != nil:
		s.ended(r.Ended)
	case r.Answered != 0:
		f.mu.Lock()
		_, ok := s.answering[r.Answered]
		delete(s.answering, r.Answered)
		f.mu.Unlock()
		if !ok {
			f.refuse(s.worker, "the answer of a run that it does not have")
		}
	case r.Drain:
		f.mu.Lock()
		s.draining = true
		f.mu.Unlock()
		f.log.Info("worker drains", "worker", s.worker)
		f.tellCapacity()
		f.retire(s)
	case r.Bye:
		f.close(s, "it has stopped")
	}
}

// event takes what happened to an environment of this worker.
func (s *session) event(ev *schema.WorkerEvent) {
	f := s.fleet
	told := schema.EnvironmentEvent{Environment: ev.Environment, Kind: ev.Kind}
	var cut *schema.Run
	f.mu.Lock()
	e := s.environments[ev.Environment]
	ok := e != nil
	switch {
	case !ok:
	case ev.Kind == schema.EnvironmentParked:
		if ok = e.run == nil && 0 <= ev.Init && ev.Init <= maxInit; ok {
			if !e.parked {
				told.InitDuration = ev.Init
			}
			e.parked = true
		}
	case ev.Kind == schema.EnvironmentFailed && !e.parked, ev.Kind == schema.EnvironmentGone:
		if ev.Kind == schema.EnvironmentFailed {
			told.Error = failure(ev)
		}
		cut = f.forget(e)
	default:
		ok = false
	}
	f.mu.Unlock()
	if !ok {
		f.refuse(s.worker, "an event of "+strconv.Quote(clip(ev.Environment)))
		return
	}
	if cut != nil { // an honest worker ends the run first
		f.refuse(s.worker, "the end of an environment before that of its run")
		f.lose(cut, lostText)
	}
	e.notify(told)
}

// forget takes an environment that has gone out, and gives the run that it had. The mutex is held.
func (f *Fleet) forget(e *environment) (cut *schema.Run) {
	e.free()
	delete(f.environments, e.id)
	delete(e.session.environments, e.id)
	if cut = e.run; cut != nil {
		delete(e.session.runs, e.number)
		e.run = nil
	}
	return cut
}

// failure is why an init failed, as far as a worker's word is taken.
func failure(ev *schema.WorkerEvent) *schema.FunctionError {
	e := &schema.FunctionError{Type: clip(ev.Type), Message: ev.Message[:min(len(ev.Message), schema.MaxWorkerError)], Posted: ev.Posted}
	if len(ev.Body) > 0 && len(ev.Body) <= schema.MaxWorkerError {
		e.Body, e.Posted = ev.Body, true // a worker tells of its own findings no body
	}
	return e
}

// clip bounds a name that a worker chose.
func clip(s string) string { return s[:min(len(s), 128)] }

// ended takes the end of a run: the manager offers and tells its status, then the worker may answer the caller.
func (s *session) ended(r *schema.WorkerEnded) {
	f := s.fleet
	f.mu.Lock()
	e := s.runs[r.Run]
	if e == nil {
		f.mu.Unlock()
		f.refuse(s.worker, "the end of a run that it does not have")
		return
	}
	run := e.run
	delete(s.runs, r.Run)
	s.answering[r.Run] = run
	e.run = nil
	draining := s.draining && !e.ended
	hoards := len(s.answering) > maxQueue // each stays until it is answered, which is a moment
	f.mu.Unlock()
	if hoards {
		f.refuse(s.worker, "ends without answers")
		f.spawn(func() { f.close(s, "it answers nothing") })
	}
	o := &schema.Outcome{Duration: max(0, r.Duration), Reusable: r.Reusable && !draining}
	if r.Error != "" {
		o.Error = &schema.FunctionError{Type: clip(r.Error), Posted: r.ByFunction}
	}
	run.Ended(run, o)
	// The reply is read only now: until the end of an event's call it may become another's (schema.Ask).
	s.order(&schema.WorkerOrder{Done: &schema.WorkerDone{Run: r.Run, Reply: run.Call.Reply}})
	if draining {
		f.End(e.id)
	}
}
