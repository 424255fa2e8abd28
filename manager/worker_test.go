package manager_test

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/manager"
	"github.com/hearth-run/hearth/schema"
)

// echoWorker stands for the worker, which is a part of its own: its environments really take calls, one at a time, and
// answer with what they were given, after a gate that a test may hold.
type echoWorker struct {
	nc *nats.Conn
	// init runs before an environment parks; an error fails its init. nil means at once.
	init func(b *schema.Binding) *schema.FunctionError
	// run runs in the call, before its answer. nil means nothing.
	run func(run *schema.Run)
	// park runs between the answer and the environment's asking for the next call, which comes with the answer where it is nil,
	// as a lean runtime asks: then the caller's next call meets an environment that is idle, however slow the machine is.
	park func(environment string)
	// inline answers on the goroutine that starts the call, as the null driver does.
	inline bool
	// doomed says that an environment ends with this call.
	doomed func(run *schema.Run) bool

	mu           sync.Mutex
	environments map[string]*echoEnvironment
	order        []string // as they were made
	refused      []string // request ids
	failures     []*schema.FunctionError
	tasks        conc.WaitGroup
	double       atomic.Int64 // calls that met an environment that was not idle
	starts       sync.Map     // request id -> *atomic.Int64
}

// asksLate has environments ask for their next call once they have answered, as most runtimes do.
func asksLate(_ *manager.Config, w *echoWorker) { w.park = func(string) {} }

type echoEnvironment struct {
	binding *schema.Binding
	tenant  string // of its first call
	notify  func(schema.EnvironmentEvent)
	busy    bool
	ended   bool
}

var _ manager.Worker = (*echoWorker)(nil)

func newEchoWorker(nc *nats.Conn) *echoWorker {
	return &echoWorker{nc: nc, environments: make(map[string]*echoEnvironment)}
}

func (w *echoWorker) Make(id string, b *schema.Binding, notify func(schema.EnvironmentEvent)) {
	e := &echoEnvironment{binding: b, notify: notify, busy: true}
	w.mu.Lock()
	w.environments[id] = e
	w.order = append(w.order, id)
	w.mu.Unlock()
	w.tasks.Go(func() {
		began := time.Now()
		if w.init != nil {
			if failure := w.init(b); failure != nil {
				w.mu.Lock()
				delete(w.environments, id)
				w.mu.Unlock()
				notify(schema.EnvironmentEvent{Environment: id, Kind: schema.EnvironmentFailed, Error: failure})
				return
			}
		}
		w.parked(id, e, time.Since(began))
	})
}

func (w *echoWorker) parked(id string, e *echoEnvironment, init time.Duration) {
	w.mu.Lock()
	if e.ended {
		w.mu.Unlock()
		e.notify(schema.EnvironmentEvent{Environment: id, Kind: schema.EnvironmentGone})
		return
	}
	e.busy = false
	w.mu.Unlock()
	e.notify(schema.EnvironmentEvent{Environment: id, Kind: schema.EnvironmentParked, InitDuration: init})
}

func (w *echoWorker) Start(run *schema.Run) {
	n, _ := w.starts.LoadOrStore(run.Call.RequestID, new(atomic.Int64))
	n.(*atomic.Int64).Add(1)
	w.mu.Lock()
	e := w.environments[run.Environment]
	key := run.Call.Key
	key.Tenant = "" // a binding names none
	if e == nil || e.busy || e.binding.Key != key || e.binding.PerTenant != (run.Call.Tenant != "") ||
		e.tenant != "" && e.tenant != run.Call.Tenant {
		w.double.Add(1)
		w.mu.Unlock()
		return
	}
	e.busy, e.tenant = true, run.Call.Tenant
	hold := w.run
	w.mu.Unlock()
	if w.inline {
		run.Ended(run, &schema.Outcome{Payload: run.Call.Payload, Reusable: true})
		w.answer(run, nil)
		w.parked(run.Environment, e, 0)
		return
	}
	w.tasks.Go(func() {
		if hold != nil {
			hold(run)
		}
		doomed := w.doomed != nil && w.doomed(run)
		out := &schema.Outcome{Payload: run.Call.Payload, Reusable: !doomed}
		run.Ended(run, out)
		if doomed {
			w.answer(run, nil)
			w.mu.Lock()
			delete(w.environments, run.Environment)
			w.mu.Unlock()
			e.notify(schema.EnvironmentEvent{Environment: run.Environment, Kind: schema.EnvironmentGone})
			return
		}
		if w.park == nil {
			w.parked(run.Environment, e, 0)
			w.answer(run, nil)
			return
		}
		w.answer(run, nil)
		w.park(run.Environment)
		w.parked(run.Environment, e, 0)
	})
}

func (w *echoWorker) answer(run *schema.Run, failure *schema.FunctionError) {
	msg := nats.NewMsg(run.Call.Reply)
	msg.Data = run.Call.Payload
	msg.Header.Set(schema.HeaderRequestID, run.Call.RequestID)
	msg.Header.Set(schema.HeaderStart, string(run.Start))
	msg.Header.Set(schema.HeaderManager, run.Manager)
	msg.Header.Set(schema.HeaderEnvironment, run.Environment)
	msg.Header.Set(schema.HeaderArc, run.Arc)
	msg.Header.Set(schema.HeaderRank, strconv.Itoa(run.Rank))
	msg.Header.Set(schema.HeaderReason, string(run.Call.Reason))
	if failure != nil {
		msg.Header.Set(schema.HeaderFunctionError, schema.FunctionErrorUnhandled)
		msg.Data = []byte(failure.Type)
	}
	_ = w.nc.PublishMsg(msg) // a closed connection is part of some tests
}

func (w *echoWorker) Refuse(run *schema.Run, failure *schema.FunctionError) {
	w.mu.Lock()
	w.refused = append(w.refused, run.Call.RequestID)
	w.failures = append(w.failures, failure)
	w.mu.Unlock()
	run.Ended(run, &schema.Outcome{Error: failure})
	w.answer(run, failure)
}

func (w *echoWorker) End(id string) {
	w.mu.Lock()
	e := w.environments[id]
	if e == nil || e.ended {
		w.mu.Unlock()
		return
	}
	e.ended = true
	idle := !e.busy
	delete(w.environments, id)
	w.mu.Unlock()
	if idle {
		w.tasks.Go(func() { e.notify(schema.EnvironmentEvent{Environment: id, Kind: schema.EnvironmentGone}) })
	}
}

// hold has calls wait in a gate from now on.
func (w *echoWorker) hold(g *gate) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.run = g.pass
}

// live is how many environments there are.
func (w *echoWorker) live() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.environments)
}

func (w *echoWorker) wait(context.Context) { w.tasks.Wait() }

// bound is an environment and what it was made for.
type bound struct {
	id      string
	binding *schema.Binding
}

// bindings are those of the environments that there are.
func (w *echoWorker) bindings() (all []bound) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, e := range w.environments {
		all = append(all, bound{id, e.binding})
	}
	return all
}
