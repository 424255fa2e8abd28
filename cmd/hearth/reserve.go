package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/schema"
)

// reserveAsk is how often it is asked how far a reservation is.
const reserveAsk = 200 * time.Millisecond

func (a *app) reserve() *cobra.Command {
	var remove, wait bool
	cmd := &cobra.Command{
		Use:   "reserve NAME:VERSION [N]",
		Short: "Keep N environments of a version initialised ahead of calls",
		Long: `Keep N environments of a published version (or of the one that an alias names) initialised ahead of calls. Calls beyond N go to
whichever of them is idle, and to environments that are made for them otherwise. A smaller N takes none away that is in use:
they go as they become idle. With --delete, or N = 0, all of them do. The command answers at once; --wait waits until they are ready, or with
--delete until they have gone.`,
		Example:           "  hearth reserve count:1 10 --wait\n  hearth reserve count:live 4\n  hearth reserve count:1 --delete",
		GroupID:           groupFunctions,
		Args:              between(1, "NAME:VERSION", "N"),
		ValidArgsFunction: a.completeReserved,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, qualifier, err := schema.ParseFunctionName(args[0])
			switch {
			case err != nil:
				return inFlags(err)
			case qualifier == "":
				return usagef("%s wants a version: %s:1 for instance; `hearth describe %s` lists them, `hearth deploy --publish` makes one", cmd.CommandPath(), name, name)
			case remove && len(args) > 1:
				return usagef("%s takes N or --delete, not both", cmd.CommandPath())
			case !remove && len(args) == 1:
				return usagef("%s misses N, or --delete; use: %s", cmd.CommandPath(), cmd.UseLine())
			}
			n := 0
			if !remove {
				if n, err = strconv.Atoi(args[1]); err != nil || n < 0 {
					return usagef("N is %q; a number of environments is wanted, 0 or more", args[1])
				}
			}
			if remove {
				if err := a.confirm(cmd, "End the reservation of "+args[0]+"?"); err != nil {
					return err
				}
			}
			return a.runReserve(cmd, name, qualifier, n, wait)
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().BoolVar(&remove, "delete", false, "end the reservation")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until all are ready, or with --delete gone")
	yesFlag(cmd)
	jsonFlag(cmd)
	return cmd
}

func (a *app) runReserve(cmd *cobra.Command, name, qualifier string, n int, wait bool) error {
	c, err := a.connect(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx := cmd.Context()
	version, err := versionOf(ctx, c.Client, name, qualifier)
	if err != nil {
		return namedQualified(ctx, c.Client, name, qualifier, err)
	}
	if n == 0 {
		err = c.Unreserve(ctx, name, version)
	} else {
		_, err = c.Reserve(ctx, name, version, n)
	}
	if err != nil {
		return inFlags(named(ctx, c.Client, name, err))
	}
	if wait {
		done := "reserving " + name + ":" + version
		if n == 0 {
			done = "emptying " + name + ":" + version
		}
		if err := a.awaitReservations(ctx, c.Client, name, version, done); err != nil {
			return err
		}
	}
	r, err := findReservation(ctx, c.Client, name, version)
	if err != nil {
		return err
	}
	switch {
	case asJSON(cmd) && r != nil:
		return a.printJSON(r)
	case asJSON(cmd):
		return a.printJSON(schema.ReservationOutput{Function: name, Version: version, State: reservationGone, Arc: []schema.ReservationMember{}})
	case r == nil:
		a.println(name + ":" + version + " has no reservation any more")
	case n == 0:
		a.println(fmt.Sprintf("%s:%s: %d left, each goes when it is idle", name, version, r.Size))
	default:
		a.println(fmt.Sprintf("%s:%s: %d of %d ready, %s", name, version, r.Size, r.Limit, r.Status))
	}
	return nil
}

// reservationGone is what is told of a reservation whose key is no more.
const reservationGone schema.ReservationState = "gone"

// versionOf is the version that a qualifier names: of an alias the one that it stands for.
func versionOf(ctx context.Context, c *client.Client, name, qualifier string) (string, error) {
	if schema.ValidateAlias(qualifier) != nil {
		return qualifier, nil
	}
	alias, err := c.GetAlias(ctx, name, qualifier)
	if err != nil {
		return "", err
	}
	if alias.RoutingConfig != nil && len(alias.RoutingConfig.AdditionalVersionWeights) > 0 {
		return "", usagef("alias %s of %s names two versions: reserve for each of them", qualifier, name)
	}
	return alias.FunctionVersion, nil
}

func findReservation(ctx context.Context, c *client.Client, name, version string) (*schema.ReservationOutput, error) {
	all, err := c.Reservations(ctx, name)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(r schema.ReservationOutput) bool { return r.Version == version })
	if i < 0 {
		return nil, nil
	}
	return &all[i], nil
}

// awaitReservations waits until those of a function ("" all), or one of them, are as they were asked for: ready, or gone where nothing
// is wanted any more. One that failed ends the waiting with its reason. With what it is said on a terminal.
func (a *app) awaitReservations(ctx context.Context, c *client.Client, name, version, what string) error {
	if what != "" {
		defer a.progress(what)()
	}
	tick := time.NewTicker(reserveAsk)
	defer tick.Stop()
	for {
		all, err := c.Reservations(ctx, name)
		if err != nil {
			return err
		}
		left := ""
		for _, r := range all {
			if version != "" && r.Version != version {
				continue
			}
			if r.Limit > 0 && r.Status == schema.ReservationFailed {
				return fmt.Errorf("the reservation of %s:%s failed, %d of %d are ready: %s", r.Function, r.Version, r.Size, r.Limit, r.Reason)
			}
			if r.Limit == 0 || r.Status != schema.ReservationReady {
				left = fmt.Sprintf("%s:%s has %d of %d", r.Function, r.Version, r.Size, r.Limit)
			}
		}
		if left == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), errInterrupted) {
				a.complain("interrupted; it goes on by itself: %s", left)
				return &toldError{exitInterrupted}
			}
			return fmt.Errorf("wait for reservations: %w", context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// emptyReservations ends those of a version, or with "" all of a function's, and waits until they have gone.
func (a *app) emptyReservations(ctx context.Context, c *client.Client, name, version string) error {
	all, err := c.Reservations(ctx, name)
	if err != nil {
		return err
	}
	left := false
	for _, r := range all {
		if version != "" && r.Version != version {
			continue
		}
		left = true
		if err := c.Unreserve(ctx, name, r.Version); err != nil && schema.CodeOf(err) != schema.CodeNoProvisioned {
			return err
		}
	}
	if !left {
		return nil
	}
	return a.awaitReservations(ctx, c, name, version, "") // the caller says what it waits for
}

func (a *app) reservations() *cobra.Command {
	var watch, wait bool
	cmd := &cobra.Command{
		Use:   "reservations [NAME]",
		Short: "Show what is reserved and where each member lives",
		Long: `Show the reservations: how many environments each wants (LIMIT), has ready (SIZE) and in use (BUSY), how many are more than
wanted and go as they become idle (SURPLUS), and the managers of its arc by rank with their members.`,
		Example:           "  hearth reservations\n  hearth reservations count --wait\n  hearth reservations --json | jq .size",
		GroupID:           groupSee,
		Args:              between(0, "NAME"),
		ValidArgsFunction: a.completeFunction,
		RunE: func(cmd *cobra.Command, args []string) error {
			name := strings.Join(args, "")
			if name != "" {
				if err := schema.ValidateFunctionName(name); err != nil {
					return inFlags(err)
				}
			}
			c, err := a.connect(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			if wait {
				if err := a.awaitReservations(cmd.Context(), c.Client, name, "", "waiting for reservations"); err != nil {
					return named(cmd.Context(), c.Client, name, err)
				}
			}
			return a.redraw(cmd.Context(), watch, func() error {
				all, err := c.Reservations(cmd.Context(), name)
				if err != nil {
					return named(cmd.Context(), c.Client, name, err)
				}
				return a.printReservations(cmd, all)
			})
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().BoolVar(&watch, "watch", false, "show them again each second, until Ctrl-C")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until all are ready, or gone where nothing is reserved any more")
	jsonFlag(cmd)
	return cmd
}

func (a *app) printReservations(cmd *cobra.Command, all []schema.ReservationOutput) error {
	if asJSON(cmd) {
		for i := range all {
			if err := a.printJSON(all[i]); err != nil {
				return err
			}
		}
		return nil
	}
	t := a.table("FUNCTION", "VERSION", "LIMIT", "SIZE", "BUSY", "SURPLUS", "STATE", "STATUS", "ARC")
	t.empty = "nothing is reserved; `hearth reserve NAME:VERSION N` keeps environments ready"
	for _, r := range all {
		t.row(r.Function, r.Version, r.Limit, r.Size, r.Busy, r.Surplus, r.State, strings.TrimSuffix(string(r.Status)+": "+r.Reason, ": "), arcText(r.Arc))
	}
	return t.flush()
}

// arcText is where members live: the managers by rank, each with how many it has of how many it should.
func arcText(arc []schema.ReservationMember) string {
	parts := make([]string, len(arc))
	for i, m := range arc {
		parts[i] = fmt.Sprintf("%s %d/%d", m.Manager, m.Members, m.Share)
	}
	return strings.Join(parts, ", ")
}
