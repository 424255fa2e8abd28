package frontend

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/internal/natstest"
)

// A reconnect of which no event came is noticed all the same: what lay in the server's memory may be gone with it.
func TestClockNoticesEveryReconnect(t *testing.T) {
	t.Parallel()
	nc := natstest.Start(t, natstest.Bare()).ConnectTCP(t)
	var c clock
	c.tick.Store(1)
	c.up.Store(true)
	var ticks, backs atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	var loop conc.WaitGroup
	loop.Go(func() { c.run(ctx, nc, nil, func() { ticks.Add(1) }, func() {}, func() { backs.Add(1) }) })
	t.Cleanup(loop.Wait)
	t.Cleanup(cancel)
	const patience = 20 * time.Second
	natstest.Eventually(t, patience, func() bool { return ticks.Load() > 0 }, "the clock ticks")
	if err := nc.ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, patience, func() bool { return backs.Load() == 1 && c.connected() }, "the reconnect is seen")
	told, was := c.reconnected.Load(), ticks.Load()
	natstest.Eventually(t, patience, func() bool { return ticks.Load() > was }, "the clock goes on")
	if backs.Load() != 1 || c.reconnected.Load() != told || told == 0 {
		t.Errorf("%d reconnects were told, the last at tick %d", backs.Load(), c.reconnected.Load())
	}
}
