package frontend

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// A frontend that is started before any manager waits for what managers set up. Whoever started it hears of that: the first
// line after waitFirst, so that an ordinary start says nothing, then one each waitAgain.
const (
	waitFirst = time.Second
	waitAgain = 10 * time.Second
)

// waiting is what a start waits for at the moment.
type waiting struct{ what atomic.Value } // string

// on notes it.
func (w *waiting) on(what string) { w.what.Store(what) }

// tell logs it until ctx ends.
func (w *waiting) tell(ctx context.Context, log *slog.Logger) {
	begin := time.Now()
	for next := waitFirst; pause(ctx, next) == nil; next = waitAgain {
		what, _ := w.what.Load().(string)
		log.Warn("not serving yet: managers set the fabric up, and it is not there; start one on the same NATS server "+
			"(`hearth manager --server URL`, with the same --prefix), or look why it does not come up", "waits_for", what,
			"for", time.Since(begin).Round(time.Second))
	}
}
