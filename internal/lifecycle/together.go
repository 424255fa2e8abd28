package lifecycle

import (
	"context"
	"errors"
	"fmt"

	"github.com/sourcegraph/conc"
)

// Together is a component made of others that do not need each other: all start at once and all stop at once. The zero
// value is an empty one. Add before Start.
type Together struct {
	guard Guard
	parts []part
}

var _ Component = (*Together)(nil)

// Add puts a component in. The name says in errors whose they are.
func (t *Together) Add(name string, c Component) { t.parts = append(t.parts, part{name, c}) }

// Start starts all. When one fails the others' contexts end, those that started are stopped, and the error has all that
// failed by itself.
func (t *Together) Start(ctx context.Context) error {
	return t.guard.Start(ctx, func(ctx context.Context) error {
		all, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		failed := errors.New("another one did not start")
		errs := each(t.parts, func(p part) error {
			err := p.Start(all)
			switch {
			case err == nil:
				return nil
			case errors.Is(context.Cause(all), failed):
				return failed // it was told to end: no news
			}
			cancel(failed)
			return fmt.Errorf("start %s: %w", p.name, err)
		})
		started := make([]part, 0, len(t.parts))
		news := make([]error, 0, len(t.parts))
		for i, err := range errs {
			switch {
			case err == nil:
				started = append(started, t.parts[i])
			case !errors.Is(err, failed):
				news = append(news, err)
			}
		}
		if len(started) == len(t.parts) {
			return nil
		}
		return errors.Join(errors.Join(news...), stopAll(context.WithoutCancel(ctx), started))
	})
}

// Stop stops all and gives all their errors.
func (t *Together) Stop(ctx context.Context) error {
	return t.guard.Stop(ctx, func(ctx context.Context) error { return stopAll(ctx, t.parts) })
}

func stopAll(ctx context.Context, parts []part) error {
	return errors.Join(each(parts, func(p part) error {
		if err := p.Stop(ctx); err != nil {
			return fmt.Errorf("stop %s: %w", p.name, err)
		}
		return nil
	})...)
}

// each does something to all parts at once and gives the error of each.
func each(parts []part, do func(part) error) []error {
	errs := make([]error, len(parts))
	var all conc.WaitGroup
	for i, p := range parts {
		all.Go(func() { errs[i] = do(p) })
	}
	all.Wait()
	return errs
}
