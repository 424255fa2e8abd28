package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
)

// completeTime bounds what is asked of the fabric for somebody who pressed a key. Whatever goes wrong, nothing is completed and
// nothing is said.
const completeTime = time.Second

// completing asks the fabric that a command line means for names.
func (a *app) completing(cmd *cobra.Command, ask func(context.Context, *client.Client) []string) []string {
	if a.settings.resolve(cmd, a.lookup) != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completeTime)
	defer cancel()
	t, err := a.target(cmd)
	if err != nil {
		return nil
	}
	c, err := t.connect(ctx, nats.Timeout(completeTime))
	if err != nil {
		return nil
	}
	defer c.Close()
	return ask(ctx, c.Client)
}

// functionNames are the names of the fabric's functions for completion and suggestions; whatever goes wrong, there are
// none.
func functionNames(ctx context.Context, c *client.Client) []string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var names []string
	for f, err := range c.ListFunctions(ctx) {
		if err != nil {
			return names
		}
		names = append(names, f.FunctionName)
	}
	return names
}

// aliasNames are the aliases of a function, for suggestions.
func aliasNames(ctx context.Context, c *client.Client, function string) []string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var names []string
	for alias, err := range c.ListAliases(ctx, function) {
		if err != nil {
			return names
		}
		names = append(names, alias.Name)
	}
	return names
}

// completeFunction completes the first argument with the functions that there are.
func (a *app) completeFunction(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.completing(cmd, functionNames), cobra.ShellCompDirectiveNoFileComp
}

// completeQualified completes the first argument with the functions that there are, and behind a colon with the versions and aliases of
// that one.
func (a *app) completeQualified(cmd *cobra.Command, args []string, part string) ([]string, cobra.ShellCompDirective) {
	name, _, qualified := strings.Cut(part, ":")
	if len(args) > 0 || !qualified {
		return a.completeFunction(cmd, args, part)
	}
	return a.completing(cmd, func(ctx context.Context, c *client.Client) []string { return qualifiers(ctx, c, name, true) }), cobra.ShellCompDirectiveNoFileComp
}

// completeReserved is [app.completeQualified] for what may be reserved: published versions, those that are reserved already first.
func (a *app) completeReserved(cmd *cobra.Command, args []string, part string) ([]string, cobra.ShellCompDirective) {
	name, _, qualified := strings.Cut(part, ":")
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.completing(cmd, func(ctx context.Context, c *client.Client) (all []string) {
		reserved, _ := c.Reservations(ctx, "") // none is no reason to say nothing
		for _, r := range reserved {
			all = append(all, r.Function+":"+r.Version)
		}
		if !qualified {
			for _, f := range functionNames(ctx, c) {
				all = append(all, f+":")
			}
			return all
		}
		for _, q := range qualifiers(ctx, c, name, false) {
			if !slices.Contains(all, q) {
				all = append(all, q)
			}
		}
		return all
	}), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// qualifiers are the versions and aliases of a function, each behind its name.
func qualifiers(ctx context.Context, c *client.Client, name string, latest bool) (all []string) {
	for v, err := range c.ListVersions(ctx, name) {
		if err != nil {
			break
		}
		if latest || v.Version != schema.Latest {
			all = append(all, name+":"+v.Version)
		}
	}
	for alias, err := range c.ListAliases(ctx, name) {
		if err != nil {
			break
		}
		all = append(all, name+":"+alias.Name)
	}
	return all
}

// completeManager completes the first argument with the managers that there are.
func (a *app) completeManager(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.completing(cmd, managerNames), cobra.ShellCompDirectiveNoFileComp
}

// managerNames are the managers on the ring, or beside it, each with its state.
func managerNames(ctx context.Context, c *client.Client) (all []string) {
	ring, err := c.Ring(ctx, "")
	if err != nil {
		return nil
	}
	for _, m := range ring.Managers {
		all = append(all, m.ID+"\t"+string(m.State))
	}
	return all
}

// completeNode completes the arguments of loglevel.
func (a *app) completeNode(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		return append(a.completing(cmd, nodeNames), schema.AllNodes), cobra.ShellCompDirectiveNoFileComp
	case 1:
		return logLevels, cobra.ShellCompDirectiveNoFileComp
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// completeLogFlags completes the flags of a role's log.
func completeLogFlags(cmd *cobra.Command) {
	_ = cmd.RegisterFlagCompletionFunc("log-level", cobra.FixedCompletions(logLevels, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("log-format", cobra.FixedCompletions([]string{telemetry.LogText, telemetry.LogJSON}, cobra.ShellCompDirectiveNoFileComp))
}
