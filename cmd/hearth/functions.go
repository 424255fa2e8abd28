package main

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/schema"
)

// functionLine is a version of a function as `ls --json` and `describe --json` print it.
type functionLine struct {
	Function   string   `json:"function"`
	Version    string   `json:"version"`
	ARN        string   `json:"arn"`
	State      string   `json:"state,omitempty"` // of `describe` alone
	Runtime    string   `json:"runtime"`
	Handler    string   `json:"handler,omitempty"`
	MemoryMB   int      `json:"memory_mb"`
	TimeoutS   int      `json:"timeout_s"`
	CodeSHA256 string   `json:"code_sha256"` // hex
	CodeSize   int64    `json:"code_size"`
	Modified   string   `json:"modified"` // RFC 3339 UTC
	Tenancy    string   `json:"tenancy,omitempty"`
	Env        []string `json:"env,omitempty"` // names; values are never shown
	Egress     []string `json:"egress,omitempty"`
	Audiences  []string `json:"audiences,omitempty"`
	Idempotent bool     `json:"idempotent,omitempty"`

	// Of `describe` alone; left out where there is none.
	Limit          *int `json:"limit,omitempty"`
	LimitPerTenant *int `json:"limit_per_tenant,omitempty"`

	modified time.Time
}

// aliasLine is an alias as `describe --json` prints it.
type aliasLine struct {
	Alias   string             `json:"alias"`
	Version string             `json:"version"`
	Weights map[string]float64 `json:"weights,omitempty"` // of further versions
}

func lineOf(f *schema.FunctionConfiguration) functionLine {
	out := functionLine{
		Function: f.FunctionName, Version: f.Version, ARN: f.FunctionArn, State: f.State, Runtime: f.Runtime, Handler: f.Handler,
		MemoryMB: f.MemorySize, TimeoutS: f.Timeout, CodeSHA256: f.CodeSha256, CodeSize: f.CodeSize, Modified: f.LastModified,
	}
	if sum, err := base64.StdEncoding.DecodeString(f.CodeSha256); err == nil {
		out.CodeSHA256 = hex.EncodeToString(sum)
	}
	if at, err := time.Parse("2006-01-02T15:04:05.000-0700", f.LastModified); err == nil {
		out.modified, out.Modified = at, at.UTC().Format(time.RFC3339Nano)
	}
	if f.TenancyConfig != nil {
		out.Tenancy = strings.ReplaceAll(strings.ToLower(f.TenancyConfig.TenantIsolationMode), "_", "-")
	}
	if f.Environment != nil {
		out.Env = slices.Sorted(maps.Keys(f.Environment.Variables))
	}
	if f.Hearth != nil {
		out.Egress, out.Audiences, out.Idempotent = f.Hearth.Egress, f.Hearth.Audiences, f.Hearth.Idempotent
	}
	return out
}

func (a *app) ls() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "ls",
		Short:   "List the functions",
		Example: "  hearth ls\n  hearth ls --json | jq -r .function",
		GroupID: groupFunctions,
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			t := a.table("FUNCTION", "RUNTIME", "MEMORY", "TIMEOUT", "MODIFIED", "SHA-256")
			t.empty = "no functions yet; `hearth deploy` makes one"
			for f, err := range c.ListFunctions(cmd.Context()) {
				if err != nil {
					return err
				}
				line := lineOf(&f)
				if asJSON(cmd) {
					if err := a.printJSON(line); err != nil {
						return err
					}
					continue
				}
				t.row(line.Function, line.Runtime, mb(line.MemoryMB), seconds(line.TimeoutS), localTime(line.modified), line.CodeSHA256[:min(12, len(line.CodeSHA256))])
			}
			if asJSON(cmd) {
				return nil
			}
			return t.flush()
		},
	}
	jsonFlag(cmd)
	return cmd
}

func mb(n int) string      { return fmt.Sprintf("%d MB", n) }
func seconds(n int) string { return (time.Duration(n) * time.Second).String() }

func (a *app) describe() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "describe NAME",
		Short:             "Show a function with its versions and aliases",
		Example:           "  hearth describe count\n  hearth describe count --json",
		GroupID:           groupFunctions,
		Args:              exactly("NAME"),
		ValidArgsFunction: a.completeFunction,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.runDescribe(cmd, args[0]) },
	}
	jsonFlag(cmd)
	return cmd
}

func (a *app) runDescribe(cmd *cobra.Command, name string) error {
	if err := schema.ValidateFunctionName(name); err != nil {
		return inFlags(err)
	}
	c, err := a.connect(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	now, err := c.GetFunctionConfiguration(cmd.Context(), name, "")
	if err != nil {
		return named(cmd.Context(), c.Client, name, err)
	}
	out := struct {
		functionLine
		Versions []functionLine `json:"versions"`
		Aliases  []aliasLine    `json:"aliases"`
		Events   *eventsLine    `json:"events,omitempty"` // what was set; the defaults are left out
	}{lineOf(now), []functionLine{}, []aliasLine{}, nil}
	switch events, err := c.EventConfig(cmd.Context(), name); {
	case err == nil:
		out.Events = eventsLineOf(events)
	case schema.CodeOf(err) != schema.CodeNotFound:
		return err
	}
	if err := limits(cmd.Context(), c.Client, &out.functionLine); err != nil {
		return err
	}
	for v, err := range c.ListVersions(cmd.Context(), name) {
		if err != nil {
			return err
		}
		if v.Version != schema.Latest {
			out.Versions = append(out.Versions, lineOf(&v))
		}
	}
	for alias, err := range c.ListAliases(cmd.Context(), name) {
		if err != nil {
			return err
		}
		line := aliasLine{Alias: alias.Name, Version: alias.FunctionVersion}
		if alias.RoutingConfig != nil {
			line.Weights = alias.RoutingConfig.AdditionalVersionWeights
		}
		out.Aliases = append(out.Aliases, line)
	}
	if asJSON(cmd) {
		return a.printJSON(out)
	}
	return a.printDescription(out.functionLine, out.Events, out.Versions, out.Aliases)
}

// limits reads what a function and each of its sub-tenants may have.
func limits(ctx context.Context, c *client.Client, f *functionLine) error {
	whole, err := c.Concurrency(ctx, f.Function)
	if err != nil {
		return err
	}
	f.Limit = whole.ReservedConcurrentExecutions
	if f.Tenancy == "" {
		return nil
	}
	each, err := c.TenantConcurrency(ctx, f.Function)
	if err != nil {
		return err
	}
	f.LimitPerTenant = each.TenantConcurrency
	return nil
}

// limitText is a limit for people, "" where there is none.
func limitText(n *int) string {
	if n == nil {
		return ""
	}
	return plural(*n, "environment", "environments")
}

func (a *app) printDescription(f functionLine, events *eventsLine, versions []functionLine, aliases []aliasLine) error {
	t := a.table(f.Function, "")
	for _, row := range append([][2]string{
		{"state", f.State}, {"runtime", f.Runtime}, {"handler", f.Handler}, {"memory", mb(f.MemoryMB)}, {"time-out", seconds(f.TimeoutS)},
		{"code", fmt.Sprintf("%s (%d bytes)", f.CodeSHA256, f.CodeSize)}, {"modified", localTime(f.modified)}, {"tenancy", f.Tenancy},
		{"limit", limitText(f.Limit)}, {"per sub-tenant", limitText(f.LimitPerTenant)},
		{"variables", strings.Join(f.Env, ", ")}, {"egress", strings.Join(f.Egress, ", ")}, {"audiences", strings.Join(f.Audiences, ", ")},
		{"arn", f.ARN},
	}, events.rows()...) {
		if row[1] != "" {
			t.row(row[0], row[1])
		}
	}
	if f.Idempotent {
		t.row("idempotent", "yes")
	}
	if err := t.flush(); err != nil {
		return err
	}
	if len(versions) > 0 {
		fmt.Fprintln(a.stdout)
		t = a.table("VERSION", "RUNTIME", "MEMORY", "TIMEOUT", "MODIFIED", "SHA-256")
		for _, v := range versions {
			t.row(v.Version, v.Runtime, mb(v.MemoryMB), seconds(v.TimeoutS), localTime(v.modified), v.CodeSHA256[:min(12, len(v.CodeSHA256))])
		}
		if err := t.flush(); err != nil {
			return err
		}
	}
	if len(aliases) == 0 {
		return nil
	}
	fmt.Fprintln(a.stdout)
	t = a.table("ALIAS", "VERSION", "ALSO")
	for _, alias := range aliases {
		var also []string
		for _, version := range slices.Sorted(maps.Keys(alias.Weights)) {
			also = append(also, fmt.Sprintf("%s (%.0f %%)", version, 100*alias.Weights[version]))
		}
		t.row(alias.Alias, alias.Version, strings.Join(also, ", "))
	}
	return t.flush()
}

func (a *app) rm() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rm NAME[:VERSION or :ALIAS]",
		Short: "Remove a function, a version or an alias",
		Long: `Remove a function with all its versions and aliases, or one version, or one alias. What is reserved for it is emptied first. Calls
that run end as they would have; new ones are refused. It asks once on a terminal.`,
		Example:           "  hearth rm count\n  hearth rm count:3 --yes\n  hearth rm count:live",
		GroupID:           groupFunctions,
		Args:              exactly("NAME"),
		ValidArgsFunction: a.completeQualified,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, qualifier, err := schema.ParseFunctionName(args[0])
			if err != nil {
				return inFlags(err)
			}
			return a.runRemove(cmd, name, qualifier)
		},
	}
	yesFlag(cmd)
	jsonFlag(cmd)
	return cmd
}

func (a *app) runRemove(cmd *cobra.Command, name, qualifier string) error {
	c, err := a.connect(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx := cmd.Context()
	isAlias := qualifier != "" && schema.ValidateAlias(qualifier) == nil
	what, remove := "function "+name+" with all its versions and aliases", (func() error)(nil)
	switch {
	case isAlias:
		what, remove = "alias "+qualifier+" of "+name, func() error { return c.DeleteAlias(ctx, name, qualifier) }
		if _, err := c.GetAlias(ctx, name, qualifier); err != nil {
			return namedQualified(ctx, c.Client, name, qualifier, err)
		}
	default:
		if qualifier != "" {
			what = "version " + qualifier + " of " + name
		}
		remove = func() error {
			if err := a.emptyReservations(ctx, c.Client, name, qualifier); err != nil {
				return err
			}
			return c.DeleteFunction(ctx, name, qualifier)
		}
		if _, err := c.GetFunctionConfiguration(ctx, name, qualifier); err != nil {
			return named(ctx, c.Client, name, err)
		}
	}
	if err := a.confirm(cmd, "Remove "+what+"?"); err != nil {
		return err
	}
	stop := a.progress("removing " + what)
	err = remove()
	stop()
	if err != nil {
		return err
	}
	if asJSON(cmd) {
		return a.printJSON(map[string]string{"removed": name, "qualifier": qualifier})
	}
	_, err = fmt.Fprintf(a.stdout, "removed %s\n", what)
	return err
}
