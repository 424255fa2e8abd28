package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/hearth-run/hearth/schema"
)

func (a *app) ring() *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use:   "ring [NAME]",
		Short: "Show the managers, and the arcs with their ranks",
		Long: `Show the managers on the ring with their environments by state, and the arcs: which managers serve each, in the order
of their ranks, and what waits there. With a function's name, its arcs alone.`,
		Example:           "  hearth ring\n  hearth ring --watch\n  hearth ring count --json",
		GroupID:           groupSee,
		Args:              between(0, "NAME"),
		ValidArgsFunction: a.completeFunction,
		RunE: func(cmd *cobra.Command, args []string) error {
			name := ""
			if len(args) == 1 {
				name = args[0]
				if err := schema.ValidateFunctionName(name); err != nil {
					return inFlags(err)
				}
			}
			c, err := a.connect(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			return a.redraw(cmd.Context(), watch, func() error {
				ring, err := c.Ring(cmd.Context(), name)
				if err != nil {
					return named(cmd.Context(), c.Client, name, err)
				}
				if asJSON(cmd) {
					return a.printJSON(ring)
				}
				return a.printRing(ring, name)
			})
		},
	}
	cmd.Flags().BoolVar(&watch, "watch", false, "show it again each second, until Ctrl-C")
	jsonFlag(cmd)
	return cmd
}

func (a *app) printRing(ring *schema.RingOutput, name string) error {
	t := a.table("MANAGER", "STATE", "CAPACITY", "IDLE", "BUSY", "STARTING", "RESERVED", "SURPLUS")
	t.empty = "nobody is on the ring; `hearth up` starts a manager"
	for _, m := range ring.Managers {
		e := m.Environments
		t.row(m.ID, m.State, m.Capacity, e.Idle, e.Busy, e.Starting, e.Reserved, e.Surplus)
	}
	if err := t.flush(); err != nil {
		return err
	}
	t = a.table("ARC", "KIND", "LENGTH", "RANKS", "PENDING", "CLAIMED")
	quiet := 0
	for _, arc := range ring.Arcs {
		if name == "" && arc.Kind == "unreserved" && arc.Pending+arc.Claimed == 0 {
			quiet++
			continue // 64 lines that say nothing hide the one that does
		}
		t.row(arc.Subject, arc.Kind, arc.Length, strings.Join(arc.Ranks, " "), arc.Pending, arc.Claimed)
	}
	if t.rows > 0 {
		a.println("")
		if err := t.flush(); err != nil {
			return err
		}
	}
	if quiet > 0 {
		a.println("")
		a.println(a.paint(a.stdout, styleFaint, plural(quiet, "arc has", "arcs have")+" no call waiting; `hearth ring NAME` shows a function's, --json all"))
	}
	return nil
}
