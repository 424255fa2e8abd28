package main

import (
	"context"
	"errors"
	"io"
	"time"
)

// redrawEvery is how often what is watched is shown again.
const redrawEvery = time.Second

// redraw shows something once, or with again until the context ends: on a terminal in the place of what was shown before,
// elsewhere below it. Ctrl-C is how it is meant to end.
func (a *app) redraw(ctx context.Context, again bool, show func() error) error {
	if !again {
		return show()
	}
	tick := time.NewTicker(redrawEvery)
	defer tick.Stop()
	for {
		if isTerminal(a.stdout) {
			if _, err := io.WriteString(a.stdout, "\x1b[H\x1b[2J"); err != nil {
				return err
			}
		}
		err := show()
		if errors.Is(context.Cause(ctx), errInterrupted) {
			return &toldError{exitInterrupted}
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), errInterrupted) {
				return &toldError{exitInterrupted}
			}
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}
