package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/schema"
)

// drainAsk is how often a manager is asked how far it is.
const drainAsk = 200 * time.Millisecond

func (a *app) drain() *cobra.Command {
	var back bool
	cmd := &cobra.Command{
		Use:   "drain MANAGER",
		Short: "Take a manager off the ring in order, or let it back",
		Long: `Take a manager off the ring and wait until it is empty: it claims no more calls, gives back those that have not started, and
lets the others end. It stays there, drained, until it is let back with --cancel or stopped; one that starts again comes back
active, so leave it stopped to keep it out. Ctrl-C ends the waiting, not the drain.`,
		Example: "  hearth drain m2\n  hearth drain m2 --cancel\n  hearth drain m2 --json",
		GroupID: groupFabric,
		Args:    exactly("MANAGER"),

		ValidArgsFunction: a.completeManager,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !back {
				if err := a.confirm(cmd, "Take manager "+args[0]+" off the ring?"); err != nil {
					return err
				}
			}
			c, err := a.connect(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			out, err := a.awaitDrain(cmd.Context(), c.Client, args[0], back)
			switch {
			case err != nil:
				return err
			case asJSON(cmd):
				return a.printJSON(out)
			case back:
				a.println(out.Manager + " is back on the ring")
			default:
				a.println(out.Manager + " is drained")
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&back, "cancel", false, "let it back onto the ring")
	yesFlag(cmd)
	jsonFlag(cmd)
	return cmd
}

// namedManager says of a manager that is not known where those that are stand, and which one is nearest.
func namedManager(ctx context.Context, c *client.Client, manager string, err error) error {
	var refused *schema.Error
	if !errors.As(err, &refused) || refused.Code != schema.CodeNotFound {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	hint := "`hearth ring` lists the managers"
	if ring, err := c.Ring(ctx, ""); err == nil {
		var known []string
		for _, m := range ring.Managers {
			known = append(known, m.ID)
		}
		if best := nearest(manager, known); best != "" {
			hint = "did you mean " + best + "? " + hint
		}
	}
	return &schema.Error{Code: refused.Code, Message: refused.Message + "; " + hint, Cause: err}
}

// awaitDrain orders a drain, or its end, and waits until it is done.
func (a *app) awaitDrain(ctx context.Context, c *client.Client, manager string, back bool) (*schema.DrainOutput, error) {
	out, err := c.Drain(ctx, schema.DrainInput{Manager: manager, Cancel: back})
	if err != nil {
		return nil, namedManager(ctx, c, manager, err)
	}
	word := "draining " + manager
	if back {
		word = "letting " + manager + " back"
	}
	defer a.progress(word)()
	tick := time.NewTicker(drainAsk)
	defer tick.Stop()
	for {
		switch leaving := out.State == schema.MemberDraining; {
		case leaving == back:
			return nil, schema.Errorf(schema.CodeConflict, "manager %s was told otherwise meanwhile; ask again", manager)
		case back && out.OnRing, !back && !out.OnRing && out.Busy == 0 && out.Waiting == 0:
			return out, nil
		}
		select {
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), errInterrupted) {
				a.complain("interrupted; manager %s goes on by itself, %d calls still run there", manager, out.Busy)
				return nil, &toldError{exitInterrupted}
			}
			return nil, fmt.Errorf("wait for manager %s: %w", manager, context.Cause(ctx))
		case <-tick.C:
		}
		now, err := c.Drain(ctx, schema.DrainInput{Manager: manager, Look: true})
		switch {
		case ctx.Err() != nil: // told above
		case err != nil:
			return nil, err
		default:
			out = now
		}
	}
}
