// Package null is the driver without environments: a call comes back at once, on the goroutine that started it. With it a
// benchmark measures what the fabric alone costs, and tests of routing need no processes. It enforces nothing and runs no
// code. DESIGN 8.
package null

import (
	"context"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hearth-run/hearth/worker/driver"
)

// Driver makes environments that echo. The zero value is ready.
type Driver struct {
	mu     sync.Mutex
	closed bool
	live   map[*Environment]struct{}
}

var _ driver.Driver = (*Driver)(nil)

// New makes the driver.
func New() *Driver { return &Driver{} }

// Name is "null".
func (d *Driver) Name() string { return "null" }

// Probe reports that nothing is enforced, and nothing is needed.
func (d *Driver) Probe(context.Context) (driver.Abilities, error) {
	return driver.Abilities{Notes: []string{"no code runs: every call is answered with its own payload"}}, nil
}

// New makes an environment; after Close it refuses with [net.ErrClosed].
func (d *Driver) New(ctx context.Context, _ driver.Spec) (driver.Environment, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	e := &Environment{driver: d, made: time.Now(), done: make(chan struct{})}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, net.ErrClosed
	}
	if d.live == nil {
		d.live = map[*Environment]struct{}{}
	}
	d.live[e] = struct{}{}
	return e, nil
}

// Close ends what is left. Safe twice.
func (d *Driver) Close() error {
	d.mu.Lock()
	d.closed = true
	left := d.live
	d.live = nil
	d.mu.Unlock()
	for e := range left {
		e.Kill()
	}
	return nil
}

// Environment is nothing at all.
type Environment struct {
	driver *Driver
	made   time.Time
	done   chan struct{}
	once   sync.Once
	exit   driver.Exit
}

var (
	_ driver.Environment = (*Environment)(nil)
	_ driver.Inline      = (*Environment)(nil)
)

// Invoke answers with the payload itself.
func (e *Environment) Invoke(payload []byte) []byte { return payload }

// Listener is nil: there is no Runtime API.
func (e *Environment) Listener() net.Listener { return nil }

// APIAddress is empty.
func (e *Environment) APIAddress() string { return "" }

// Start runs nothing.
func (e *Environment) Start(ctx context.Context, _ driver.Command, _ io.Writer) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	return nil
}

// Kill ends the environment. Safe twice.
func (e *Environment) Kill() {
	e.once.Do(func() {
		e.exit = driver.Exit{Killed: true, Lived: time.Since(e.made)}
		e.driver.mu.Lock()
		delete(e.driver.live, e)
		e.driver.mu.Unlock()
		close(e.done)
	})
}

// Done is closed by Kill.
func (e *Environment) Done() <-chan struct{} { return e.done }

// Exit is valid after Done.
func (e *Environment) Exit() driver.Exit { return e.exit }
