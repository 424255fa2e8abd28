// Package lifecycletest is the suite that every component passes: started and stopped in every order, by many at once.
package lifecycletest

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/internal/lifecycle"
)

// patience bounds one step; it is no promise about speed.
const patience = 60 * time.Second

// Exercise runs the suite. make gives a fresh component, able to start, each time; what it needs of t it cleans up there.
func Exercise(t *testing.T, make func(t *testing.T) lifecycle.Component) {
	t.Helper()
	t.Run("stop before start", func(t *testing.T) {
		c, ctx := make(t), within(t)
		stop(ctx, t, c)
		if err := c.Start(ctx); err == nil {
			t.Error("started after Stop")
		}
		stop(ctx, t, c)
	})
	t.Run("start, stop, stop", func(t *testing.T) {
		c, ctx := make(t), within(t)
		if err := c.Start(ctx); err != nil {
			t.Fatalf("Start: %v", err)
		}
		if err := c.Start(ctx); err == nil {
			t.Error("started twice")
		}
		stop(ctx, t, c)
		stop(ctx, t, c)
		if err := c.Start(ctx); err == nil {
			t.Error("started after Stop")
		}
	})
	t.Run("start told to end before it began", func(t *testing.T) {
		c := make(t)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = c.Start(ctx) // may be ready without a wait; then Stop has the work
		stop(within(t), t, c)
	})
	t.Run("ten at once", func(t *testing.T) {
		c, ctx := make(t), within(t)
		var started atomic.Int32
		var all conc.WaitGroup
		for i := range 10 {
			all.Go(func() {
				if i%2 == 0 {
					if c.Start(ctx) == nil {
						started.Add(1)
					}
					return
				}
				_ = c.Stop(ctx)
			})
		}
		all.Wait()
		stop(ctx, t, c)
		if n := started.Load(); n > 1 {
			t.Errorf("started %d times", n)
		}
	})
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func stop(ctx context.Context, t *testing.T, c lifecycle.Component) {
	t.Helper()
	if err := c.Stop(ctx); err != nil {
		t.Errorf("Stop: %v", err)
	}
	if ctx.Err() != nil {
		t.Fatalf("Stop took longer than %v", patience)
	}
}
