package events_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/manager"
	"github.com/hearth-run/hearth/schema"
)

// scripted is a worker whose environments do what a test says: the manager before it is a real one.
type scripted struct {
	nc *nats.Conn

	mu           sync.Mutex
	functions    map[string]func(*schema.Call) *schema.FunctionError // by name; none: all is well
	calls        []*schema.Call                                      // that were started, in order
	environments map[string]*scriptedEnvironment
	tasks        conc.WaitGroup
}

type scriptedEnvironment struct {
	notify func(schema.EnvironmentEvent)
	ended  bool
}

var _ manager.Worker = (*scripted)(nil)

func newScripted(nc *nats.Conn) *scripted {
	return &scripted{
		nc: nc, functions: make(map[string]func(*schema.Call) *schema.FunctionError),
		environments: make(map[string]*scriptedEnvironment),
	}
}

// on says what a function does.
func (w *scripted) on(function string, do func(*schema.Call) *schema.FunctionError) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.functions[function] = do
}

// started are the calls of a function that were started so far.
func (w *scripted) started(function string) (calls []*schema.Call) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.calls {
		if c.Function == function {
			calls = append(calls, c)
		}
	}
	return calls
}

func (w *scripted) Make(id string, _ *schema.Binding, notify func(schema.EnvironmentEvent)) {
	w.mu.Lock()
	w.environments[id] = &scriptedEnvironment{notify: notify}
	w.mu.Unlock()
	w.tasks.Go(func() { w.parked(id) })
}

func (w *scripted) parked(id string) {
	w.mu.Lock()
	e := w.environments[id]
	kind := schema.EnvironmentParked
	if e.ended {
		kind = schema.EnvironmentGone
	}
	w.mu.Unlock()
	e.notify(schema.EnvironmentEvent{Environment: id, Kind: kind})
}

func (w *scripted) Start(run *schema.Run) {
	w.mu.Lock()
	w.calls = append(w.calls, run.Call)
	do := w.functions[run.Call.Function]
	w.mu.Unlock()
	if do == nil {
		w.end(run, nil)
		return
	}
	w.tasks.Go(func() { w.end(run, do(run.Call)) })
}

func (w *scripted) end(run *schema.Run, failure *schema.FunctionError) {
	o := &schema.Outcome{Payload: run.Call.Payload, Reusable: true}
	if failure != nil {
		o.Error, o.Payload = failure, fmt.Appendf(nil, `{"errorType":%q,"errorMessage":%q}`, failure.Type, failure.Message)
		o.Reusable = failure.Type != string(schema.CodeExitError) // a crash ends its environment
	}
	run.Ended(run, o)
	m := nats.NewMsg(run.Call.Reply)
	m.Data = o.Payload
	m.Header.Set(schema.HeaderRequestID, run.Call.RequestID)
	m.Header.Set(schema.HeaderExecutedVersion, run.Call.Version)
	if failure != nil {
		m.Header.Set(schema.HeaderFunctionError, schema.FunctionErrorUnhandled)
	}
	_ = w.nc.PublishMsg(m) // fails where a test has ended the server
	if !o.Reusable {
		w.mu.Lock()
		w.environments[run.Environment].ended = true
		w.mu.Unlock()
	}
	w.parked(run.Environment)
}

func (w *scripted) Refuse(run *schema.Run, failure *schema.FunctionError) { w.end(run, failure) }

func (w *scripted) End(id string) {
	w.mu.Lock()
	e := w.environments[id]
	was := e.ended
	e.ended = true
	w.mu.Unlock()
	if !was {
		w.tasks.Go(func() { w.parked(id) })
	}
}

// gate holds the calls of a function until it is opened.
type gate struct {
	open chan struct{}
	once sync.Once
}

func (w *scripted) hold(t testing.TB, function string) *gate {
	g := newGate(t)
	w.on(function, func(*schema.Call) *schema.FunctionError {
		g.wait()
		return nil
	})
	return g
}

func newGate(t testing.TB) *gate {
	g := &gate{open: make(chan struct{})}
	t.Cleanup(g.release)
	return g
}

// wait waits for the gate; it opens by itself in the end, so that a test that fails ends.
func (g *gate) wait() {
	select {
	case <-g.open:
	case <-time.After(patience):
	}
}

func (g *gate) release() { g.once.Do(func() { close(g.open) }) }
