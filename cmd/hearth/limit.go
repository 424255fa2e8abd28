package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/hearth-run/hearth/schema"
)

func (a *app) limit() *cobra.Command {
	var remove bool
	cmd := &cobra.Command{
		Use:   "limit NAME [N]",
		Short: "Limit how many environments a function may have",
		Long: `Limit how many environments a function may have over all its versions (Lambda's reserved concurrency): calls beyond that are
throttled. 0 stops the function: calls are throttled, events go to the dead letters. Without N the limit is shown; --delete takes it away.`,
		Example:           "  hearth limit count 30\n  hearth limit count\n  hearth limit count --delete",
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
			n := -1
			if len(args) > 1 {
				var err error
				if n, err = strconv.Atoi(args[1]); err != nil || n < 0 {
					return usagef("N is %q; a number of environments is wanted, 0 or more", args[1])
				}
			}
			return a.runLimit(cmd, name, n, remove)
		},
	}
	cmd.Flags().BoolVar(&remove, "delete", false, "take the limit away")
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
