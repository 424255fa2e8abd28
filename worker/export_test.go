package worker

import "time"

// Making is how many environments count among those that are made at once.
func (w *Worker) Making() int { return len(w.slots) }

// SetClock gives the freezer another clock than the system's.
func (c *Config) SetClock(now func() time.Time) { c.now = now }

// Freeze freezes who is due now and tells in how long somebody will be, 0 if nobody.
func (w *Worker) Freeze() time.Duration { return w.freezer.pass() }
