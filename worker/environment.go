package worker

import (
	"context"
	"sync"
	"time"

	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker/driver"
	"github.com/hearth-run/hearth/worker/runtimeapi"
)

// environment is one environment from Make to its last event.
type environment struct {
	worker  *Worker
	id      string
	binding *schema.Binding
	events  events
	logs    *logs
	life    context.Context // ends with the environment's making; End cancels it
	cancel  context.CancelCauseFunc

	// Written while it is made, before ready is closed and the first event told; read after.
	inside  driver.Environment
	inline  driver.Inline      // the same, if it answers by itself
	drain   driver.Drainer     // the same, if it hands over output at once
	meter   driver.Meter       // the same, if it tells its memory
	freezes driver.Freezer     // the same, if it can be frozen; nil: never
	api     *runtimeapi.Server // nil if it does
	pinned  bool               // the cache keeps its package until release
	ready   chan struct{}      // closed by the first next
	broken  chan struct{}      // closed by init/error

	secret string         // by which it asks for its token; "" where the function has no sub-tenants
	tasks  conc.WaitGroup // that keep its token, or wait for it: begun with mu held, before the phase is over

	chill sync.Mutex // held while the driver freezes or thaws it; taken before mu

	mu       sync.Mutex
	phase    phase
	tenant   string                // to which it is bound; "": generic, or without sub-tenants (bind.go)
	tokens   *tokens               // nil: generic, without sub-tenants, or without an audience
	egress   *refusals             // nil: nobody counts its network
	idle     bool                  // it waits for a call
	since    time.Time             // when its last call was answered, or its init ended
	frozen   bool                  // only while idle
	watched  *rest                 // by the freezer; nil: not
	began    time.Time             // when its command was started
	init     time.Duration         // from there to the first next
	failure  *schema.FunctionError // reported by init/error
	counted  counted               // where its calls are counted
	current  execution             // the call that it runs
	ending   bool                  // a call was taken from current, and its manager does not know yet
	told     sync.Cond             // ending became false
	asked    bool                  // it asked for a call, which was not told yet
	deadline time.Time             // of the call, or for its way back to the next one
	timer    *time.Timer
	grace    *time.Timer // of an orderly end
}

// phase is where an environment stands; doc.go draws it. What a call makes of a ready one is told by run and deadline.
type phase uint8

const (
	making  phase = iota
	ready         // its first next has come
	failing       // its init failed
	over          // killed, or ended
)

// orderlyEnd is how long an environment with an extension has between SIGTERM and SIGKILL (A6).
const orderlyEnd = 500 * time.Millisecond

// Parked is told by the Runtime API that the runtime asks for a call.
func (e *environment) Parked(first bool) {
	if first {
		e.parkedFirst()
		return
	}
	e.mu.Lock()
	e.asked = true
	e.mu.Unlock()
	e.returned()
}

// returned tells that the environment waits for a call, once it does and its last one has been ended: a runtime with
// several connections may ask for the next call while the answer to the last is being handed on.
func (e *environment) returned() {
	e.mu.Lock()
	waits := e.asked && !e.ending && e.current.run == nil && e.phase == ready
	if waits {
		e.asked = false
		e.deadline = time.Time{}
		e.timer.Stop()
		e.rests()
	}
	e.mu.Unlock()
	if waits {
		e.events.tell(schema.EnvironmentEvent{Environment: e.id, Kind: schema.EnvironmentParked})
	}
}

// parkedFirst ends the init.
func (e *environment) parkedFirst() {
	e.mu.Lock()
	good := e.phase == making
	if good {
		e.phase = ready
		e.since = time.Now()
		e.init = e.since.Sub(e.began)
		close(e.ready)
		e.rests()
	}
	init := e.init
	e.mu.Unlock()
	if good {
		e.marksInit()
		e.logs.initialised(init)
		e.countInit(init)
		e.events.tell(schema.EnvironmentEvent{Environment: e.id, Kind: schema.EnvironmentParked, InitDuration: init})
	}
}

// InitFailed is told by the Runtime API that the runtime gave up its init.
func (e *environment) InitFailed(failure *schema.FunctionError) {
	e.mu.Lock()
	if e.phase == making {
		e.phase = failing
		e.failure = e.logs.hushed(failure)
		close(e.broken)
	}
	e.mu.Unlock()
}

// kill ends the environment at once; what it runs is answered when its processes are gone.
func (e *environment) kill() {
	e.cancel(errEnded)
	e.mu.Lock()
	if e.phase != failing {
		e.phase = over
	}
	inside := e.inside
	e.mu.Unlock()
	if inside != nil {
		inside.Kill()
	}
}

// End ends an environment: at once if it is idle, killing a call that runs; one that is idle and has an extension is asked first,
// by SIGTERM, and killed after 500 ms (A6). Its last event still comes. An unknown one has ended already.
func (w *Worker) End(id string) {
	if e := w.environment(id); e != nil {
		e.end()
	}
}

// end is [Worker.End].
func (e *environment) end() {
	e.mu.Lock()
	polite, ok := e.inside.(driver.Terminator)
	ok = ok && e.phase == ready && e.current.run == nil && e.api != nil && e.api.Extensions() > 0
	frozen := false
	if ok {
		e.phase = over
		frozen = e.wakes()
		// The timer's goroutine has no owner, and needs none: it kills, and a kill is safe at any time.
		e.grace = time.AfterFunc(orderlyEnd, e.kill)
	}
	grace := e.grace != nil
	e.mu.Unlock()
	switch {
	case !ok && !grace:
		e.kill()
	case ok:
		if frozen {
			_ = e.thaw() // else it is killed as it is
		}
		polite.Terminate()
	}
}

// events tells the events of one environment, one at a time and in order, whichever goroutines they come from. A tell
// inside a tell (a manager that starts a call when it hears of Parked, in an environment that answers at once) is told
// when that one is over.
type events struct {
	notify func(schema.EnvironmentEvent)

	mu      sync.Mutex
	queue   []schema.EnvironmentEvent
	telling bool
	last    bool // Failed or Gone is told, or in the queue
}

func (q *events) tell(ev schema.EnvironmentEvent) {
	q.mu.Lock()
	if q.last {
		q.mu.Unlock()
		return
	}
	q.last = ev.Kind != schema.EnvironmentParked
	if q.telling {
		q.queue = append(q.queue, ev)
		q.mu.Unlock()
		return
	}
	q.telling = true
	for {
		q.mu.Unlock()
		q.notify(ev)
		q.mu.Lock()
		if len(q.queue) == 0 {
			q.telling = false
			q.mu.Unlock()
			return
		}
		ev = q.queue[0]
		q.queue = append(q.queue[:0], q.queue[1:]...)
	}
}
