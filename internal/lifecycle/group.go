package lifecycle

import (
	"context"
	"errors"
	"fmt"
)

// Group is a component made of others: they start in the order in which they were added, each when the one before is
// ready, and stop in reverse. The zero value is an empty group. Add before Start.
type Group struct {
	guard Guard
	parts []part
}

type part struct {
	name string
	Component
}

var _ Component = (*Group)(nil)

// Add puts a component at the end. The name says in errors whose they are.
func (g *Group) Add(name string, c Component) { g.parts = append(g.parts, part{name, c}) }

// Start starts all in order. When one fails, those before it are stopped, in reverse, and the error has what that gave too;
// they get a context that ctx's end does not end, so that they end in order.
func (g *Group) Start(ctx context.Context) error {
	return g.guard.Start(ctx, func(ctx context.Context) error {
		for i, p := range g.parts {
			err := context.Cause(ctx)
			if err == nil {
				err = p.Start(ctx)
			}
			if err != nil {
				return errors.Join(fmt.Errorf("start %s: %w", p.name, err), stop(context.WithoutCancel(ctx), g.parts[:i]))
			}
		}
		return nil
	})
}

// Stop stops all in reverse order, whatever any of them answers, and gives all their errors.
func (g *Group) Stop(ctx context.Context) error {
	return g.guard.Stop(ctx, func(ctx context.Context) error { return stop(ctx, g.parts) })
}

func stop(ctx context.Context, parts []part) error {
	var all []error
	for i := len(parts) - 1; i >= 0; i-- {
		if err := parts[i].Stop(ctx); err != nil {
			all = append(all, fmt.Errorf("stop %s: %w", parts[i].name, err))
		}
	}
	return errors.Join(all...)
}

// Func is a component of two functions; either may be nil. It keeps no promise by itself: only a [Group], which calls each
// once and in order, should hold one.
type Func struct {
	OnStart func(context.Context) error
	OnStop  func(context.Context) error
}

// Start calls OnStart.
func (f Func) Start(ctx context.Context) error {
	if f.OnStart == nil {
		return nil
	}
	return f.OnStart(ctx)
}

// Stop calls OnStop.
func (f Func) Stop(ctx context.Context) error {
	if f.OnStop == nil {
		return nil
	}
	return f.OnStop(ctx)
}
