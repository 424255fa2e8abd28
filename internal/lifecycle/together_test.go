package lifecycle_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/hearth-run/hearth/internal/lifecycle"
	"github.com/hearth-run/hearth/internal/lifecycle/lifecycletest"
)

func TestTogetherStartsAndStopsAllAtOnce(t *testing.T) {
	t.Parallel()
	var g lifecycle.Together
	up, down := make(chan struct{}), make(chan struct{})
	var starting, stopping atomic.Int32
	meet := func(n *atomic.Int32, all chan struct{}) func(context.Context) error {
		return func(ctx context.Context) error {
			if n.Add(1) == 3 {
				close(all)
			}
			select {
			case <-all: // only when the others are here too
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	for _, name := range []string{"a", "b", "c"} {
		g.Add(name, lifecycle.Func{OnStart: meet(&starting, up), OnStop: meet(&stopping, down)})
	}
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := g.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestTogetherWhosePartDoesNotStart(t *testing.T) {
	t.Parallel()
	fails, bad := errors.New("no port"), errors.New("would not end")
	var stopped atomic.Int32
	started := make(chan struct{})
	var g lifecycle.Together
	g.Add("ready", lifecycle.Func{
		OnStart: func(context.Context) error { close(started); return nil },
		OnStop:  func(context.Context) error { stopped.Add(1); return bad },
	})
	g.Add("fails", lifecycle.Func{OnStart: func(context.Context) error { <-started; return fails }})
	g.Add("waits", lifecycle.Func{
		OnStart: func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) },
		OnStop:  func(context.Context) error { stopped.Add(1); return nil },
	})
	err := g.Start(t.Context())
	if !errors.Is(err, fails) || !errors.Is(err, bad) || stopped.Load() != 1 {
		t.Errorf("%v; %d stopped, want what started alone", err, stopped.Load())
	}
	if err.Error() != "start fails: no port\nstop ready: would not end" {
		t.Errorf("says %q", err)
	}
}

func TestGroupWhoseContextIsOver(t *testing.T) {
	t.Parallel()
	cause := errors.New("told to stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	var log []string
	var g lifecycle.Group
	g.Add("a", &part{name: "a", log: &log})
	if err := g.Start(ctx); !errors.Is(err, cause) || len(log) != 0 {
		t.Errorf("%v, %q", err, log)
	}
}

func TestTogetherUnderStress(t *testing.T) {
	t.Parallel()
	lifecycletest.Exercise(t, func(*testing.T) lifecycle.Component {
		var g lifecycle.Together
		for _, name := range []string{"a", "b"} {
			g.Add(name, lifecycle.Func{})
		}
		return &g
	})
}
