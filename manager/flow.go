package manager

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

const (
	flowEvery = 250 * time.Millisecond
	flowLimit = 3 * flowEvery // without a word from the server until every claim is in doubt
	flowWait  = 2 * time.Second
)

// flow is whether what this manager writes reaches the server. An acknowledgement is not confirmed (DESIGN 3): where the
// network holds it back for longer than ackWait while the connection looks whole, the server gives the call to another
// manager although it runs here (seen: a proxy that held a connection's bytes for 3.5 s, two calls that ran twice). So the
// server is pinged, and where it has not answered for flowLimit claims start only by the lock, which waits for it. What is
// left of the window is flowLimit.
type flow struct {
	heard atomic.Int64 // when the last ping was sent that the server answered, on the manager's clock
}

func (f *flow) stalled(now time.Duration) bool { return now-time.Duration(f.heard.Load()) > flowLimit }

// flowLoop pings the server until its context ends. It is the only one that stores what was heard.
func (m *Manager) flowLoop(ctx context.Context) {
	tick := time.NewTicker(flowEvery)
	defer tick.Stop()
	for {
		m.ping(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (m *Manager) ping(ctx context.Context) {
	ctx, cancel := context.WithTimeoutCause(ctx, flowWait, errors.New("waiting for the server's answer to a ping"))
	defer cancel()
	sent := m.now()
	if m.nc.FlushWithContext(ctx) == nil {
		m.flow.heard.Store(int64(sent))
	}
}

// doubtful reports whether nobody can be sure now that a claim is this manager's alone: this process stood still, or the
// server does not hear it.
func (m *Manager) doubtful(now time.Duration) bool {
	return m.pulse.doubtful(now) || m.flow.stalled(now)
}
