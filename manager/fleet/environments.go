package fleet

import (
	"fmt"

	"github.com/hearth-run/hearth/internal/answer"
	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
)

// environment is one that runs on a worker of another process. Fleet.mu guards what changes.
type environment struct {
	id      string
	notify  func(schema.EnvironmentEvent)
	session *session
	places  int
	code    string // SHA-256 of its package
	token   schema.TokenSource

	signing bool // a token for it is being made

	parked bool // its init is done
	ended  bool // it was told to end: its places are free
	run    *schema.Run
	number uint64 // of run
}

// Make makes an environment on the worker with most places free. See [manager.Worker].
func (f *Fleet) Make(id string, b *schema.Binding, notify func(schema.EnvironmentEvent)) {
	places := schema.Places(b.MemoryMB)
	f.mu.Lock()
	s, local, why := f.choose(places, b.PerTenant)
	switch {
	case local:
		f.local[id] = places
		f.localUsed += places
	case s != nil:
		e := &environment{id: id, notify: notify, session: s, places: places, code: b.CodeSHA256, token: b.Token}
		f.environments[id], s.environments[id] = e, e
		s.used += places
		f.hosts(s.worker, functionName{b.Account, b.Function})
		f.logs(s.worker, logName{b.Account, b.Function, b.Version, ""})
	}
	f.mu.Unlock()
	switch {
	case local:
		f.cfg.Local.Make(id, b, func(ev schema.EnvironmentEvent) {
			if ev.Kind != schema.EnvironmentParked {
				f.freeLocal(id)
			}
			notify(ev)
		})
	case s != nil:
		s.order(&schema.WorkerOrder{Make: schema.NewWorkerMake(id, b)})
	default:
		f.spawn(func() { // notify is not called by who asks
			notify(schema.EnvironmentEvent{Environment: id, Kind: schema.EnvironmentFailed, Error: &schema.FunctionError{
				Type: string(schema.CodeUnavailable), Message: "The environment was not made: " + why,
			}})
		})
	}
}

// choose finds the worker for an environment, or says why there is none. The mutex is held.
func (f *Fleet) choose(places int, tenant bool) (best *session, local bool, why string) {
	most, free := 0, 0
	consider := func(capacity, used int, tenants bool) bool {
		if capacity == 0 || tenant && !tenants {
			return false
		}
		most = max(most, capacity)
		return capacity >= places && (best == nil && !local || capacity-used > free)
	}
	if f.cfg.Local != nil && consider(f.cfg.LocalPlaces, f.localUsed, f.cfg.LocalTenants) {
		local, free = true, f.cfg.LocalPlaces-f.localUsed
	}
	for _, s := range f.sessions {
		if s.up && !s.draining && consider(s.capacity, s.used, s.tenants) {
			best, local, free = s, false, s.capacity-s.used
		}
	}
	switch {
	case best != nil || local:
	case most > 0:
		why = fmt.Sprintf("it takes %d places of %d MB and no worker of manager %s has more than %d", places, schema.PlaceMB, f.cfg.Manager, most)
	case tenant:
		why = "no worker of manager " + f.cfg.Manager + " keeps sub-tenants apart"
	default:
		why = "manager " + f.cfg.Manager + " has no worker"
	}
	return best, local, why
}

func (f *Fleet) freeLocal(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.localUsed -= f.local[id]
	delete(f.local, id)
}

// Start sends the call to the worker of its environment. See [manager.Worker].
func (f *Fleet) Start(run *schema.Run) {
	if !f.apart.Load() && f.cfg.Local != nil {
		f.cfg.Local.Start(run)
		return
	}
	f.mu.Lock()
	e := f.environments[run.Environment]
	if e == nil || e.run != nil || !e.parked {
		f.mu.Unlock()
		if e == nil && f.cfg.Local != nil {
			f.cfg.Local.Start(run)
			return
		}
		f.lose(run, "The environment ended before the call could begin; it was not run")
		return
	}
	s := e.session
	s.last++
	e.run, e.number = run, s.last
	s.runs[e.number] = e
	c := run.Call
	f.logs(s.worker, logName{c.Account, c.Function, c.Version, c.Tenant})
	f.mu.Unlock()
	s.order(&schema.WorkerOrder{Start: startOrder(e.number, run)})
}

// startOrder is what the worker is told of a run. What asks for another reply while it runs holds for events alone
// ([schema.Ask]), and its envelope goes without frontend, token and reply: they may change at any time.
func startOrder(number uint64, run *schema.Run) *schema.WorkerStart {
	c := run.Call
	call := schema.Call{
		Key: c.Key, RequestID: c.RequestID, Account: c.Account, Function: c.Function, Qualifier: c.Qualifier, Reason: c.Reason,
		Attempt: c.Attempt, StartBy: c.StartBy, Timeout: c.Timeout, LogTail: c.LogTail, ClientContext: c.ClientContext,
		Traceparent: c.Traceparent, Tracestate: c.Tracestate, Payload: c.Payload, Event: c.Event,
	}
	if c.Event == "" {
		call.Reply = c.Reply
	}
	if len(call.Payload) > schema.MaxCarried {
		call.Held, call.Payload = len(call.Payload), nil
	}
	return &schema.WorkerStart{
		Run: number, Environment: run.Environment, Subject: run.Subject, Arc: run.Arc, Rank: run.Rank, Start: string(run.Start),
		Init: run.InitDuration, Call: schema.EncodeCall(make([]byte, 0, schema.CallSize(&call)), &call),
	}
}

// End ends an environment, wherever it is. See [manager.Worker].
func (f *Fleet) End(id string) {
	f.mu.Lock()
	e := f.environments[id]
	if e == nil {
		f.mu.Unlock()
		if f.cfg.Local != nil {
			f.freeLocal(id)
			f.cfg.Local.End(id)
		}
		return
	}
	e.free()
	f.mu.Unlock()
	e.session.order(&schema.WorkerOrder{End: id})
}

// free gives its places back, once. The mutex is held.
func (e *environment) free() {
	if !e.ended {
		e.ended = true
		e.session.used -= e.places
	}
}

// Refuse answers a call that no environment ran. See [manager.Worker].
func (f *Fleet) Refuse(run *schema.Run, failure *schema.FunctionError) {
	if f.cfg.Local != nil {
		f.cfg.Local.Refuse(run, failure)
		return
	}
	f.conclude(run, failure)
}

// conclude ends a run that nothing runs, and answers its caller.
func (f *Fleet) conclude(run *schema.Run, failure *schema.FunctionError) {
	if failure == nil {
		failure = &schema.FunctionError{Type: string(schema.CodeInitError), Message: "No environment could be made"}
	}
	own := *failure
	if own.Body == nil {
		own.Body = answer.ErrorBody(run.Call.RequestID, &own)
	}
	code := own.PlatformCode()
	if code == "" {
		code = schema.CodeInitError // whoever worded it, an init that failed is why nothing ran
	}
	f.unrun.Count(run.Call.Account, run.Call.Function, code)
	o := &schema.Outcome{Error: &own}
	run.Ended(run, o)
	f.answer(run, o)
}

// lose answers a call whose environment is not there.
func (f *Fleet) lose(run *schema.Run, why string) {
	f.lost.Add(1)
	f.traceLost(run, why)
	f.conclude(run, &schema.FunctionError{Type: string(schema.CodeExecutionLost), Message: why})
}

func (f *Fleet) answer(run *schema.Run, o *schema.Outcome) {
	if err := answer.Publish(f.nc.PublishMsg, run, o, false); err != nil {
		f.log.Warn("answer a call", telemetry.LogCall(run.Call.RequestID, run.Call.Traceparent), "error", err)
	}
}
