package console

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hearth-run/hearth/schema"
)

// Outcome says in one word how a call ended, in the words of the command (CLI, `invoke --json`).
type Outcome string

// The outcomes. Ended is one of which its manager does not tell how.
const (
	OutcomeOK          Outcome = "ok"
	OutcomeError       Outcome = "function-error"
	OutcomeTimeout     Outcome = "timeout"
	OutcomeLost        Outcome = "lost"
	OutcomeRefused     Outcome = "refused"
	OutcomeThrottled   Outcome = "throttled"
	OutcomeUnavailable Outcome = "unavailable"
	OutcomeEnded       Outcome = "ended"
)

// OutcomeOf is how a call ended of which the platform says this code, "" for none. What a function calls its own failure is no
// such code: that is [OutcomeError], whatever it reads like.
func OutcomeOf(code schema.Code) Outcome {
	switch code {
	case "":
		return OutcomeOK
	case schema.CodeTimedOut:
		return OutcomeTimeout
	case schema.CodeExecutionLost:
		return OutcomeLost
	}
	switch row := code.Row(); {
	case row.Code != code, row.Status == 200:
		return OutcomeError
	case row.Status == 429:
		return OutcomeThrottled
	case row.Status >= 500:
		return OutcomeUnavailable
	}
	return OutcomeRefused
}

// Call is one call as its frontend saw it end, or refused it. Function, Version and Tenant of a refused one are what its
// caller wrote.
type Call struct {
	RequestID string // "" of one that was refused before it had one
	Function  string
	Version   string
	Tenant    string
	Ended     time.Time
	Took      time.Duration // from the publication of its last attempt to the moment at which this frontend heard of its end; 0: it was never published
	Outcome   Outcome
	Code      string // of an outcome other than ok, where it is known
	Start     schema.Start
	Reason    schema.Reason
	Arc       string
	Manager   string
}

// notable reports whether a call is worth a row before others.
func (c *Call) notable() bool {
	return c.Outcome != OutcomeOK && c.Outcome != OutcomeEnded || c.Start == schema.StartCold
}

// Feed hands the calls that end on to whoever watches. While nobody does, it costs who tells it one atomic load. All
// methods are safe for concurrent use and none of them blocks; a nil Feed is one that nobody watches.
type Feed struct {
	mu       sync.Mutex // of who changes watchers
	watchers atomic.Pointer[[]*watcher]
}

// Watched reports whether a call needs to be told.
func (f *Feed) Watched() bool { return f != nil && f.watchers.Load() != nil }

// Tell hands a call to all who watch. It copies c.
func (f *Feed) Tell(c *Call) {
	all := f.watchers.Load()
	if all == nil {
		return // the last one left meanwhile
	}
	for _, w := range *all {
		w.take(c)
	}
}

// watch begins to collect the calls of one function, "" for all; leave ends it.
func (f *Feed) watch(function string) *watcher {
	w := &watcher{function: function, rows: make([]Call, 0, rowsPerTick)}
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []*watcher
	if old := f.watchers.Load(); old != nil {
		all = slices.Clone(*old)
	}
	all = append(all, w)
	f.watchers.Store(&all)
	return w
}

func (f *Feed) leave(w *watcher) {
	f.mu.Lock()
	defer f.mu.Unlock()
	old := f.watchers.Load()
	if old == nil {
		return
	}
	all := slices.DeleteFunc(slices.Clone(*old), func(x *watcher) bool { return x == w })
	if len(all) == 0 {
		f.watchers.Store(nil)
		return
	}
	f.watchers.Store(&all)
}

// rowsPerTick is how many calls a window is shown at most each half second, whatever there are: more is not read.
const rowsPerTick = 10

// notableRows is how many of them are for calls that are worth it before others, where there are too many.
const notableRows = rowsPerTick / 2

// tally counts what a watcher saw.
type tally struct {
	Calls, Failed, Cold, Specialised, Warm int
}

func (t *tally) count(c *Call) {
	t.Calls++
	if c.Outcome != OutcomeOK && c.Outcome != OutcomeEnded {
		t.Failed++
	}
	switch c.Start {
	case schema.StartCold:
		t.Cold++
	case schema.StartSpecialised:
		t.Specialised++
	case schema.StartWarm:
		t.Warm++
	}
}

// watcher is one window: it counts every call and keeps a few of them until they are taken away.
type watcher struct {
	function string

	mu      sync.Mutex
	tally   tally
	notable int // of the calls in tally
	rows    []Call
}

func (w *watcher) take(c *Call) {
	if w.function != "" && w.function != c.Function {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tally.count(c)
	notable := c.notable()
	if notable {
		w.notable++
	}
	if len(w.rows) < rowsPerTick {
		w.rows = append(w.rows, *c)
		return
	}
	// Full. Half of the rows are for calls that are worth one, so that a few of them are seen among thousands, and no more, so
	// that they do not look like all. Within its half each call of this half second has the same chance.
	kept := 0
	for i := range w.rows {
		if w.rows[i].notable() {
			kept++
		}
	}
	switch {
	case notable && kept < notableRows:
		w.replace(false, rand.IntN(rowsPerTick-kept), c)
	case notable:
		w.replace(true, rand.IntN(w.notable), c)
	case kept > notableRows:
		w.replace(true, rand.IntN(kept), c)
	default:
		w.replace(false, rand.IntN(w.tally.Calls-w.notable), c)
	}
}

// replace puts a call in the place of the at-th row that is notable, or is not; of none where there are fewer.
func (w *watcher) replace(notable bool, at int, c *Call) {
	for i := range w.rows {
		if w.rows[i].notable() != notable {
			continue
		}
		if at == 0 {
			w.rows[i] = *c
			return
		}
		at--
	}
}

// drain takes away what was collected: the rows into dst, in the order in which the calls ended.
func (w *watcher) drain(dst []Call) (tally, []Call) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t, rows := w.tally, append(dst[:0], w.rows...)
	w.tally, w.notable, w.rows = tally{}, 0, w.rows[:0]
	slices.SortStableFunc(rows, func(a, b Call) int { return a.Ended.Compare(b.Ended) })
	return t, rows
}
