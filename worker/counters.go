package worker

import (
	"sync/atomic"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker/driver"
)

// Counters is what a worker has done since it was made.
type Counters struct {
	Environments int64 // there now
	Made         int64 // told to be made
	InitFailures int64
	Frozen       int64 // of those there: idle and stopped
	Freezes      int64 // times one was frozen

	Started           int64 // calls handed to an environment
	Answered          int64 // by the function, function errors too
	FunctionErrors    int64 // posted by functions
	TimedOut          int64
	Exited            int64 // calls whose process ended
	Refused           int64 // calls that no environment ran
	Tokenless         int64 // of these, for want of a token of their sub-tenant
	NotReturned       int64 // environments killed because they did not ask for the next call in time
	Bound             int64 // generic environments that were bound to a sub-tenant
	BindingMismatches int64 // must be 0
	Unanswered        int64 // answers that could not be published, or had nowhere allowed to go
	LogBytesDropped   int64
	BodyBytes         int64 // taken of the budget now

	Stock driver.Stock // of a driver that keeps one
}

type counters struct {
	made, initFailures, started, answered, functionErrors, timedOut, exited, refused, notReturned, bound, mismatches, unanswered,
	tokenless,
	dropped, frozen, freezes atomic.Int64
}

// Stock is what its driver keeps ready, as it is told; nil where it keeps nothing.
func (w *Worker) Stock() *schema.Stock {
	d, ok := w.cfg.Driver.(driver.Stocker)
	if !ok {
		return nil
	}
	s := d.Stock()
	return &schema.Stock{Ready: s.Ready, Made: s.Built, Taken: s.Taken, Missed: s.Missed, Discarded: s.Discarded, Frozen: int(w.count.frozen.Load())}
}

// Counters takes a look; the numbers are read one after the other.
func (w *Worker) Counters() Counters {
	w.mu.RLock()
	n := len(w.environments)
	w.mu.RUnlock()
	c := &w.count
	stock := driver.Stock{}
	if s, ok := w.cfg.Driver.(driver.Stocker); ok {
		stock = s.Stock()
	}
	return Counters{
		Environments: int64(n), Made: c.made.Load(), InitFailures: c.initFailures.Load(),
		Frozen: c.frozen.Load(), Freezes: c.freezes.Load(),
		Started: c.started.Load(), Answered: c.answered.Load(), FunctionErrors: c.functionErrors.Load(),
		TimedOut: c.timedOut.Load(), Exited: c.exited.Load(), Refused: c.refused.Load(), Tokenless: c.tokenless.Load(), NotReturned: c.notReturned.Load(),
		Bound: c.bound.Load(), BindingMismatches: c.mismatches.Load(), Unanswered: c.unanswered.Load(), LogBytesDropped: c.dropped.Load(),
		BodyBytes: w.budget.Used(), Stock: stock,
	}
}
