package lifecycle

import (
	"context"
	"errors"
	"sync"
)

// Component is what has a life: see the package.
type Component interface {
	// Start returns when the component is ready, or an error after it has cleaned up. ctx bounds the start alone.
	Start(ctx context.Context) error
	// Stop drains and waits until nothing is left; when ctx ends first, it ends what is left at once and says so.
	Stop(ctx context.Context) error
}

// ErrStarted and ErrStopped are what a Start is refused with.
var (
	ErrStarted = errors.New("started already")
	ErrStopped = errors.New("stopped already")
)

// Guard keeps the promise of [Component] for one component: put it into the struct by value and send Start and Stop
// through it. The zero value is ready. It must not be copied.
type Guard struct {
	starting sync.Mutex // held while start or stop runs: the one waits for the other

	mu       sync.Mutex // guards what follows
	started  bool       // start was begun
	running  bool       // start succeeded
	stopping bool       // a stop was begun: no start any more
	abort    context.CancelCauseFunc

	stopped sync.Once
	result  error
}

// Start runs start unless the component was started or stopped before. A Stop that comes meanwhile ends its context.
func (g *Guard) Start(ctx context.Context, start func(context.Context) error) error {
	g.starting.Lock()
	defer g.starting.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	g.mu.Lock()
	switch {
	case g.stopping:
		g.mu.Unlock()
		return ErrStopped
	case g.started:
		g.mu.Unlock()
		return ErrStarted
	}
	g.started, g.abort = true, cancel
	g.mu.Unlock()
	err := start(ctx)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running, g.abort = err == nil, nil
	return err
}

// Stop runs stop once, if the component was started with success; every further call waits for that and gives its result.
func (g *Guard) Stop(ctx context.Context, stop func(context.Context) error) error {
	g.mu.Lock()
	g.stopping = true
	if g.abort != nil {
		g.abort(ErrStopped)
	}
	g.mu.Unlock()
	g.stopped.Do(func() {
		g.starting.Lock()
		defer g.starting.Unlock()
		g.mu.Lock()
		running := g.running
		g.running = false
		g.mu.Unlock()
		if running {
			g.result = stop(ctx)
		}
	})
	return g.result
}

// Running reports whether the component is started and nobody has begun to stop it.
func (g *Guard) Running() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.running && !g.stopping
}
