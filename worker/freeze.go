package worker

import (
	"container/heap"
	"sync"
	"time"

	"github.com/hearth-run/hearth/worker/driver"
)

// defaultFreeze is how long an environment is idle before it is frozen.
const defaultFreeze = 10 * time.Second

// freezer freezes environments that nobody uses for a while: what runs in them between calls, timers and threads, uses no
// processor from then on, as at Lambda. One goroutine has all of a worker's; it sleeps until the next one is due, and for
// ever when all are frozen or busy.
//
//	idle --(nobody used it for so long)--> frozen --(a call, its end)--> thawed
//
// Who wins, a call or the freezer, is decided under the environment's mutex, where the call takes the environment anyway:
// what is not frozen pays a comparison for it. The kernel is told under the environment's chill, which the freezer takes
// first: a call that finds the environment frozen thaws it behind that, so never before it was frozen.
//
// An environment is watched from its first rest until it is frozen or ends. A call does not touch the freezer: when the
// time that is written here has come and there were calls meanwhile, it is written anew.
type freezer struct {
	after time.Duration
	now   func() time.Time
	wake  chan struct{} // somebody is due earlier than anybody before

	mu      sync.Mutex
	watched watch
	running bool
}

func newFreezer(after time.Duration, now func() time.Time) *freezer {
	return &freezer{after: after, now: now, wake: make(chan struct{}, 1)}
}

// rest is an environment that the freezer watches.
type rest struct {
	e       *environment
	due     time.Time
	at      int // its place in the heap, -1 for none
	removed bool
}

// add watches an environment that is idle since a time; run is the freezer's goroutine, which is started with the first.
func (f *freezer) add(e *environment, since time.Time, start func()) *rest {
	r := &rest{e: e, due: since.Add(f.after)}
	f.mu.Lock()
	heap.Push(&f.watched, r)
	first := f.watched[0] == r
	if !f.running {
		f.running = true
		start()
	}
	f.mu.Unlock()
	if first {
		nudge(f.wake)
	}
	return r
}

// remove stops watching one that ended; nil and one that is not watched any more are nothing.
func (f *freezer) remove(r *rest) {
	if r == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	r.removed = true
	if r.at >= 0 {
		heap.Remove(&f.watched, r.at)
	}
}

// run freezes who is due, until done is closed.
func (f *freezer) run(done <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-done:
			return
		case <-f.wake:
		case <-timer.C:
		}
		if next := f.pass(); next > 0 {
			timer.Reset(next)
		} else {
			timer.Stop()
		}
	}
}

// pass freezes who is due and tells in how long somebody will be, 0 if nobody.
func (f *freezer) pass() time.Duration {
	for {
		now := f.now()
		f.mu.Lock()
		if len(f.watched) == 0 {
			f.mu.Unlock()
			return 0
		}
		r := f.watched[0]
		if wait := r.due.Sub(now); wait > 0 {
			f.mu.Unlock()
			return wait
		}
		heap.Pop(&f.watched)
		f.mu.Unlock()
		if due, again := r.e.freeze(now); again {
			f.mu.Lock()
			if r.due = due; !r.removed {
				heap.Push(&f.watched, r)
			}
			f.mu.Unlock()
		}
	}
}

// freeze freezes an idle environment that was not used since, or tells when to look again. A busy one is not watched: its
// next rest begins a new watch.
func (e *environment) freeze(now time.Time) (due time.Time, again bool) {
	w := e.worker
	e.chill.Lock()
	defer e.chill.Unlock()
	e.mu.Lock()
	idle := e.phase == ready && e.idle && e.current.run == nil && !e.ending
	if due = e.since.Add(w.freezer.after); idle && now.Before(due) {
		e.mu.Unlock()
		return due, true
	}
	if e.watched = nil; !idle {
		e.mu.Unlock()
		return due, false
	}
	e.frozen = true
	w.count.frozen.Add(1)
	e.mu.Unlock()
	if err := e.freezes.Freeze(true); err != nil && !gone(e.inside) {
		w.log.Warn("an idle environment cannot be frozen", "environment", e.id, "function", e.binding.Function, "error", err)
	}
	w.count.freezes.Add(1)
	return due, false
}

// rests notes that the environment is idle, since the time in it; the mutex is held. Where the driver can freeze, the freezer
// hears of it, unless it watches already.
func (e *environment) rests() {
	e.idle = true
	if e.freezes == nil || e.watched != nil {
		return
	}
	w := e.worker
	e.watched = w.freezer.add(e, e.since, func() { w.wg.Go(func() { w.freezer.run(w.life.Done()) }) })
}

// wakes notes that the environment is not idle any more and tells whether it has to be thawed; the mutex is held.
func (e *environment) wakes() (frozen bool) {
	e.idle = false
	if !e.frozen {
		return false
	}
	e.frozen = false
	e.worker.count.frozen.Add(-1)
	return true
}

// thaw lets an environment go on that [environment.wakes] found frozen.
func (e *environment) thaw() error {
	e.chill.Lock()
	defer e.chill.Unlock()
	return e.freezes.Freeze(false)
}

// freezes is the ability of an environment to be frozen, where the worker wants that.
func (w *Worker) freezes(inside driver.Environment) driver.Freezer {
	if w.cfg.FreezeAfter < 0 {
		return nil
	}
	f, _ := inside.(driver.Freezer)
	return f
}

// watch is a heap of rests, the one that is due first on top.
type watch []*rest

func (w watch) Len() int           { return len(w) }
func (w watch) Less(i, j int) bool { return w[i].due.Before(w[j].due) }
func (w watch) Swap(i, j int) {
	w[i], w[j] = w[j], w[i]
	w[i].at, w[j].at = i, j
}

// Push puts one at the end.
func (w *watch) Push(x any) {
	r := x.(*rest)
	r.at = len(*w)
	*w = append(*w, r)
}

// Pop takes the last one.
func (w *watch) Pop() any {
	last := len(*w) - 1
	r := (*w)[last]
	(*w)[last], *w = nil, (*w)[:last]
	r.at = -1
	return r
}
