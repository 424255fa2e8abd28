package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
)

func (a *app) loglevel() *cobra.Command {
	var lasting time.Duration
	cmd := &cobra.Command{
		Use:   "loglevel NODE [LEVEL]",
		Short: "Show or change from which level on nodes log, while they run",
		Long: `Show or change from which level on a manager or frontend logs, or every one of them (all), while it runs: debug, info, warn or
error. With --for it goes back by itself; else it stays until the node ends, and its --log-level counts again. Nodes of one process
log together: a change at one of them is one at all. A manager passes it on to the workers that it has in other processes.`,
		Example: `  hearth loglevel all
  hearth loglevel m2 debug --for 10m
  hearth loglevel all info --json`,
		GroupID:           groupSee,
		Args:              between(1, "NODE", "LEVEL"),
		ValidArgsFunction: a.completeNode,
		RunE: func(cmd *cobra.Command, args []string) error {
			in := schema.LevelInput{Node: args[0], ForSeconds: int(lasting / time.Second)}
			if len(args) == 2 {
				in.Level = args[1]
				if _, ok := telemetry.ParseLevel(in.Level); !ok {
					return usagef("LEVEL is %q%s; debug, info, warn or error", in.Level, didYouMean(in.Level, logLevels))
				}
			}
			switch {
			case lasting < 0 || lasting > schema.MaxLevelFor || lasting%time.Second != 0:
				return usagef("--for is %v; whole seconds, 0s to %v", lasting, schema.MaxLevelFor)
			case lasting > 0 && in.Level == "":
				return usagef("--for says how long a level lasts; name one, or leave it out")
			}
			return a.runLogLevel(cmd, in)
		},
	}
	cmd.Flags().DurationVar(&lasting, "for", 0, "go back after so long (default: stay until the node ends)")
	jsonFlag(cmd)
	return cmd
}

var logLevels = []string{"debug", "info", "warn", "error"}

func (a *app) runLogLevel(cmd *cobra.Command, in schema.LevelInput) error {
	c, err := a.connect(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	out, err := c.LogLevel(cmd.Context(), in)
	if err != nil {
		return namedNode(cmd.Context(), c.Client, in.Node, err)
	}
	if asJSON(cmd) {
		for _, n := range out.Nodes {
			if err := a.printJSON(n); err != nil {
				return err
			}
		}
	} else {
		t := a.table("NODE", "KIND", "LEVEL", "UNTIL")
		for _, n := range out.Nodes {
			t.row(n.ID, n.Kind, n.Level, localTime(n.Until))
		}
		if err := t.flush(); err != nil {
			return err
		}
	}
	for _, node := range out.Silent {
		a.complain("%s did not answer: its level is not known", node)
	}
	if len(out.Silent) > 0 {
		return &toldError{code: exitUnreachable}
	}
	return nil
}

// namedNode says of a node that is not known where those that are stand, and which one is nearest.
func namedNode(ctx context.Context, c *client.Client, node string, err error) error {
	var refused *schema.Error
	if !errors.As(err, &refused) || refused.Code != schema.CodeNotFound {
		return err
	}
	hint := "`hearth loglevel all` lists the nodes"
	if best := nearest(node, nodeNames(ctx, c)); best != "" {
		hint = "did you mean " + best + "? " + hint
	}
	return &schema.Error{Code: refused.Code, Message: refused.Message + "; " + hint, Cause: err}
}

// nodeNames are the ids of the frontends and managers; whatever goes wrong, there are none.
func nodeNames(ctx context.Context, c *client.Client) (names []string) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	out, err := c.LogLevel(ctx, schema.LevelInput{Node: schema.AllNodes})
	if err != nil {
		return nil
	}
	for _, n := range out.Nodes {
		names = append(names, n.ID)
	}
	return names
}
