package frontend

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// tickTime is the grain of the connected clock, and how often statuses and beats come (DESIGN 3, 9).
const tickTime = 500 * time.Millisecond

// Spans of the connected clock: one more than the time they stand for, because the first tick after an event may come
// at once.
const (
	oneSecond    = uint64(time.Second/tickTime) + 1
	twoSeconds   = uint64(2*time.Second/tickTime) + 1
	threeSeconds = uint64(3*time.Second/tickTime) + 1
)

// clock counts the time in which this frontend was connected, in ticks from 1. Silence of others is judged by it
// alone: while the frontend itself is cut off, or stopped as a process, nobody grows old (DESIGN 3).
type clock struct {
	tick        atomic.Uint64
	up          atomic.Bool
	reconnected atomic.Uint64 // tick of the last reconnect, 0 if there was none
}

func (c *clock) now() uint64     { return c.tick.Load() }
func (c *clock) connected() bool { return c.up.Load() }

// run follows the connection until ctx ends: ticked is called after each tick that was spent connected, away after any
// other, back after a reconnect, all on this goroutine.
func (c *clock) run(ctx context.Context, nc *nats.Conn, status <-chan nats.Status, ticked, away, back func()) {
	ticker := time.NewTicker(tickTime)
	defer ticker.Stop()
	whole := true // the time since the last tick was spent connected
	reconnects := nc.Stats().Reconnects
	// look takes in how the connection stands. Events may be dropped and come late, so they only say that there is something
	// to look at; a break may be over by then, and shows in the count alone.
	look := func() {
		up, count := nc.IsConnected(), nc.Stats().Reconnects
		again := up && (!c.up.Load() || count != reconnects)
		whole = whole && up && !again
		if again {
			reconnects = count
			c.reconnected.Store(c.tick.Load())
		}
		c.up.Store(up)
		if again {
			back()
		}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-status:
			look()
		case <-ticker.C:
			look()
			if !whole {
				whole = c.up.Load()
				away()
				continue
			}
			c.tick.Add(1)
			ticked()
		}
	}
}
