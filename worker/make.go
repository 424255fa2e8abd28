package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker/driver"
	"github.com/hearth-run/hearth/worker/runtimeapi"
)

// defaultInit is Lambda's limit for an init (A6).
const defaultInit = 10 * time.Second

// Bounds of waiting for what is certain to come: the end of a killed environment, and the last bytes that its processes
// wrote before they ended.
const (
	endWait   = 10 * time.Second
	drainWait = 250 * time.Millisecond
)

// slotTime is how long the init of a started command counts among those that are made at once: while it is busy, most
// likely. Capacity bounds how many may be there.
const slotTime = time.Second

var errEnded = errors.New("the environment was ended")

// Make begins an environment and returns at once; what becomes of it is told to notify (see [Worker]). An id that is in
// use fails.
func (w *Worker) Make(id string, b *schema.Binding, notify func(schema.EnvironmentEvent)) {
	w.count.made.Add(1)
	e := &environment{worker: w, id: id, binding: b, events: events{notify: notify}, ready: make(chan struct{}),
		broken: make(chan struct{})}
	e.life, e.cancel = context.WithCancelCause(w.life)
	e.logs = newLogs(w, e)
	if b.PerTenant {
		e.secret = newSecret()
		e.logs.hide(e.secret)
	}
	e.told.L = &e.mu
	e.timer = time.AfterFunc(time.Hour, e.expired)
	e.timer.Stop()

	e.counts()
	refusal := ""
	w.mu.Lock()
	switch {
	case w.stopped:
		refusal = errStopped.Error()
	case b.Tenant != "":
		refusal = "no environment is made for one sub-tenant: the first call binds it"
	case b.PerTenant && !w.cfg.Tenants:
		refusal = "driver " + w.cfg.Driver.Name() + " does not keep sub-tenants apart"
	case w.environments[id] != nil:
		refusal = "an environment with this id exists"
	case w.queued >= w.cfg.InitQueue+w.cfg.Inits:
		refusal = "too many environments are being made"
	default:
		w.queued++
		w.environments[id] = e
		w.wg.Go(e.live)
	}
	w.mu.Unlock()
	if refusal != "" {
		e.countsNoMore()
		w.count.initFailures.Add(1)
		e.cancel(errEnded)
		e.events.tell(schema.EnvironmentEvent{Environment: id, Kind: schema.EnvironmentFailed,
			Error: &schema.FunctionError{Type: string(schema.CodeUnavailable), Message: "The environment was not made: " + refusal}})
	}
}

// live is an environment's goroutine.
func (e *environment) live() {
	w := e.worker
	failure := e.make()
	w.mu.Lock()
	w.queued--
	w.mu.Unlock()
	last := schema.EnvironmentEvent{Environment: e.id, Kind: schema.EnvironmentGone}
	if failure != nil {
		w.count.initFailures.Add(1)
		w.log.Debug("init failed", "environment", e.id, "function", e.binding.Function, "type", failure.Type,
			"message", failure.Message)
		last = schema.EnvironmentEvent{Environment: e.id, Kind: schema.EnvironmentFailed, Error: failure}
		e.kill()
	}
	took := e.sinceBegan()
	e.wait(failure != nil)
	if failure != nil {
		e.logs.failed(failure, took)
	}
	w.mu.Lock()
	delete(w.environments, e.id)
	w.mu.Unlock()
	e.countsNoMore()
	e.events.tell(last)
}

// make makes the environment as far as its first next. A failure is what a caller is told; it names no path of the host.
func (e *environment) make() *schema.FunctionError {
	w := e.worker
	select {
	case w.slots <- struct{}{}:
	case <-e.life.Done():
		return e.unmade(context.Cause(e.life), "")
	}
	free := sync.OnceFunc(func() { <-w.slots })
	defer free()
	ctx, cancel := context.WithTimeoutCause(e.life, w.cfg.PrepareTimeout,
		fmt.Errorf("preparing the environment took longer than %s", w.cfg.PrepareTimeout))
	defer cancel()
	inside, err := w.cfg.Driver.New(ctx, driver.Spec{ID: e.id, MemoryMB: e.binding.MemoryMB, TemporaryMB: e.binding.EphemeralMB})
	if err != nil {
		return e.unmade(err, "")
	}
	if !e.holds(inside) {
		inside.Kill()
		return e.unmade(context.Cause(e.life), "")
	}
	if e.inline != nil {
		e.parkedFirst()
		return nil
	}
	dir, err := w.prep.code(ctx, e.binding)
	if err != nil {
		return e.unmade(err, "")
	}
	e.pinned = true
	command, err := w.prep.command(e.binding, dir, inside.APIAddress(), e.secret)
	if err != nil {
		return e.unmade(err, dir)
	}
	command.Network = e.network()
	e.api.Serve(inside.Listener())
	e.mu.Lock()
	e.began = time.Now()
	e.mu.Unlock()
	e.logs.open()
	if err := inside.Start(ctx, command, e.logs); err != nil {
		if e.wasReady() { // its first next came before Start was over, and then its end
			e.kill()
			return nil
		}
		return e.unmade(err, dir)
	}
	// A function whose init waits, or hangs, must not keep the others from theirs.
	late := time.AfterFunc(slotTime, free)
	defer late.Stop()
	return e.initialise(dir)
}

// holds takes what the driver made; it reports false if the environment was ended meanwhile.
func (e *environment) holds(inside driver.Environment) bool {
	b := e.binding
	inline, _ := inside.(driver.Inline)
	drain, _ := inside.(driver.Drainer)
	meter, _ := inside.(driver.Meter)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.phase != making {
		return false
	}
	e.inside, e.inline, e.drain, e.meter, e.freezes, e.began = inside, inline, drain, meter, e.worker.freezes(inside), time.Now()
	if inline == nil {
		e.api = runtimeapi.New(runtimeapi.Config{
			ARN: schema.ARN(b.Account, b.Function, ""), Function: b.Function, Version: b.Version, Handler: b.Handler,
			Account: schema.DefaultAccountID, Budget: e.worker.budget, Events: e, Host: inside.APIAddress(),
			TokenAuth: e.secret, Token: e.Token,
		})
	}
	return true
}

// initialise waits for the first next.
func (e *environment) initialise(dir string) *schema.FunctionError {
	limit := cmp.Or(e.binding.InitTimeout, defaultInit)
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-e.ready:
		return nil
	case <-e.broken:
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.failure
	case <-e.inside.Done():
		e.api.Drain(drainWait)
	case <-timer.C:
	case <-e.life.Done():
	}
	if e.wasReady() {
		return nil
	}
	e.mu.Lock()
	failure := e.failure
	e.mu.Unlock()
	switch {
	case failure != nil:
		return failure
	case e.life.Err() != nil:
		return e.unmade(context.Cause(e.life), dir)
	case gone(e.inside):
		return exitFailure(e.inside.Exit())
	}
	return &schema.FunctionError{Type: string(schema.CodeInitError),
		Message: fmt.Sprintf("Init timed out after %.2f seconds", limit.Seconds())}
}

// wasReady reports whether the first next of one that ends came before its end: it may have run a call then, and did not fail. One that
// was not ready is not any more.
func (e *environment) wasReady() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.phase == making {
		e.phase = failing
	}
	select {
	case <-e.ready:
		return true
	default:
		return false
	}
}

// sinceBegan is how long ago its command was started, 0 if it was not.
func (e *environment) sinceBegan() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.began.IsZero() {
		return 0
	}
	return time.Since(e.began)
}

func gone(inside driver.Environment) bool {
	select {
	case <-inside.Done():
		return true
	default:
		return false
	}
}

// wait waits for the end of the environment, answers the call that it may have run, and frees what it had.
func (e *environment) wait(failed bool) {
	e.mu.Lock()
	inside := e.inside
	e.mu.Unlock()
	if inside == nil {
		return
	}
	if failed {
		// Killed already. What cannot be killed must not hide the failure from those who wait for it.
		select {
		case <-inside.Done():
		case <-time.After(endWait):
			e.worker.log.Error("an environment does not end", "environment", e.id)
		}
	} else {
		<-inside.Done()
	}
	e.mu.Lock()
	e.phase = over
	e.timer.Stop()
	if e.grace != nil {
		e.grace.Stop()
	}
	e.wakes()
	watched := e.watched
	e.mu.Unlock()
	e.worker.freezer.remove(watched)
	if e.api != nil {
		e.api.Drain(drainWait)
		e.api.Close()
	}
	e.cancel(errEnded)
	e.tasks.Wait()
	if !failed {
		e.exited(inside.Exit())
	}
	// Whoever ends a call that timed out at this moment tells the manager of it before the last event comes.
	e.mu.Lock()
	for e.ending {
		e.told.Wait()
	}
	e.mu.Unlock()
	e.logs.end()
	if e.pinned {
		e.worker.prep.release(e.binding)
	}
}
