package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/hearth-run/hearth/schema"
)

func (a *app) limit() *cobra.Command {
	var remove, perTenant bool
	cmd := &cobra.Command{
		Use:   "limit NAME [N]",
		Short: "Limit how many environments a function, or each of its sub-tenants, may have",
		Long: `Limit how many environments a function may have over all its versions (Lambda's reserved concurrency): calls beyond that are
throttled. 0 stops the function: calls are throttled, events go to the dead letters. Without N the limit is shown; --delete takes it away.

With --per-tenant the limit is that of each sub-tenant of a function that was deployed with --tenancy per-tenant: so many environments on
a manager and so many calls in flight at a frontend, at least 1. What a sub-tenant asks for beyond that is throttled, and the others do
not notice.`,
		Example: "  hearth limit count 30\n  hearth limit count\n  hearth limit count --delete\n" +
			"  hearth limit shop 5 --per-tenant\n  hearth limit shop --per-tenant --delete",
		GroupID:           groupFunctions,
		Args:              between(1, "NAME", "N"),
		ValidArgsFunction: a.completeFunction,
		RunE: func(cmd *cobra.Command, args []string) error {
			name := args[0]
			if err := schema.ValidateFunctionName(name); err != nil {
				return inFlags(err)
			}
			if remove && len(args) > 1 {
				return usagef("%s takes N or --delete, not both", cmd.CommandPath())
			}
			n, least := -1, 0
			if perTenant {
				least = 1
			}
			if len(args) > 1 {
				var err error
				if n, err = strconv.Atoi(args[1]); err != nil || n < least {
					return usagef("N is %q; a number of environments is wanted, %d or more", args[1], least)
				}
			}
			run, what := a.runLimit, "the limit of "+name
			if perTenant {
				run, what = a.runTenantLimit, "the limit of each sub-tenant of "+name
			}
			if remove {
				if err := a.confirm(cmd, "Take "+what+" away?"); err != nil {
					return err
				}
			}
			return run(cmd, name, n, remove)
		},
	}
	cmd.Flags().BoolVar(&remove, "delete", false, "take the limit away")
	cmd.Flags().BoolVar(&perTenant, "per-tenant", false, "the limit of each sub-tenant")
	yesFlag(cmd)
	jsonFlag(cmd)
	return cmd
}

// runLimit shows a function's limit, with n of 0 or more sets it, with remove takes it away.
func (a *app) runLimit(cmd *cobra.Command, name string, n int, remove bool) error {
	c, err := a.connect(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx := cmd.Context()
	out := &schema.ConcurrencyOutput{}
	switch {
	case remove:
		err = c.DeleteConcurrency(ctx, name)
	case n >= 0:
		out, err = c.SetConcurrency(ctx, name, n)
	default:
		out, err = c.Concurrency(ctx, name)
	}
	if err != nil {
		return inFlags(named(ctx, c.Client, name, err))
	}
	limit := out.ReservedConcurrentExecutions
	switch {
	case asJSON(cmd):
		return a.printJSON(struct {
			Function string `json:"function"`
			Limit    *int   `json:"limit"`
		}{name, limit})
	case limit == nil:
		a.println(name + " has no limit of its own")
	default:
		a.println(fmt.Sprintf("%s may have %s", name, plural(*limit, "environment", "environments")))
	}
	return nil
}

// runTenantLimit is runLimit for the limit of each sub-tenant.
func (a *app) runTenantLimit(cmd *cobra.Command, name string, n int, remove bool) error {
	c, err := a.connect(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx := cmd.Context()
	out := &schema.TenantConcurrencyOutput{}
	switch {
	case remove:
		err = c.DeleteTenantConcurrency(ctx, name)
	case n >= 0:
		out, err = c.SetTenantConcurrency(ctx, name, n)
	default:
		out, err = c.TenantConcurrency(ctx, name)
	}
	if err != nil {
		return inFlags(named(ctx, c.Client, name, err))
	}
	limit := out.TenantConcurrency
	switch {
	case asJSON(cmd):
		return a.printJSON(struct {
			Function string `json:"function"`
			Limit    *int   `json:"limit_per_tenant"`
		}{name, limit})
	case limit == nil:
		a.println(name + " has no limit by sub-tenant")
	default:
		a.println(fmt.Sprintf("each sub-tenant of %s may have %s on a manager, and as many calls in flight", name,
			plural(*limit, "environment", "environments")))
	}
	return nil
}
