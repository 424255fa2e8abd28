package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/hearth-run/hearth/schema"
)

// usualUsage is how far back `usage` looks: a day.
const usualUsage = 24 * time.Hour

func (a *app) usage() *cobra.Command {
	var tenant string
	var since time.Duration
	cmd := &cobra.Command{
		Use:   "usage [NAME]",
		Short: "Show what functions and their sub-tenants used",
		Long: `Show what functions and their sub-tenants used: calls that an environment answered, billed time in whole milliseconds of each
call times the memory of the function, and bytes to and from what it reached. Every sub-tenant is counted exactly; their sums are the
totals. Workers write it down every ten seconds: what is newer is not shown yet, and a worker that is killed loses that much.
It is kept for 400 days, within a bound of size.`,
		Example: `  hearth usage
  hearth usage thumbs --since 720h
  hearth usage thumbs --tenant acme --json`,
		GroupID:           groupSee,
		Args:              between(0, "NAME"),
		ValidArgsFunction: a.completeFunction,
		RunE: func(cmd *cobra.Command, args []string) error {
			in := schema.UsageInput{TenantID: tenant}
			if len(args) > 0 {
				if err := schema.ValidateFunctionName(args[0]); err != nil {
					return inFlags(err)
				}
				in.FunctionName = args[0]
			}
			if tenant != "" {
				if err := schema.ValidateTenant(tenant); err != nil {
					return err
				}
			}
			if since < 0 {
				return usagef("--since is %v; a duration such as 24h or 720h, 0 for everything that there is", since)
			}
			if since > 0 {
				from := time.Now().Add(-since)
				in.Since = &from
			}
			return a.runUsage(cmd, in)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&tenant, "tenant", "", "only this sub-tenant")
	flags.DurationVar(&since, "since", usualUsage, "how far to look back; 0 shows everything that there is")
	jsonFlag(cmd)
	return cmd
}

// usageLine is what `usage --json` prints of a function and sub-tenant.
type usageLine struct {
	Function  string  `json:"function"`
	Tenant    string  `json:"tenant,omitempty"`
	Calls     int64   `json:"calls"`
	Errors    int64   `json:"errors"`
	BilledMS  int64   `json:"billed_ms"`
	GBSeconds float64 `json:"gb_seconds"`
	Sent      int64   `json:"egress_sent_bytes"`
	Received  int64   `json:"egress_received_bytes"`
	Opened    int64   `json:"egress_connections"`
	Refused   int64   `json:"egress_refused"`
	From      string  `json:"from"` // RFC 3339 UTC
	To        string  `json:"to"`
}

func (a *app) runUsage(cmd *cobra.Command, in schema.UsageInput) error {
	c, err := a.connect(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	items, behind, err := c.Usage(cmd.Context(), in)
	if err != nil {
		return err
	}
	if behind {
		a.note("some of what was used in that time is gone by age or size: the sums are less")
	}
	if asJSON(cmd) {
		for i := range items {
			u := &items[i]
			if err := a.printJSON(usageLine{
				Function: u.Function, Tenant: u.Tenant, Calls: u.Calls, Errors: u.Errors, BilledMS: u.BilledMS, GBSeconds: u.GBSeconds,
				Sent: u.Sent, Received: u.Received, Opened: u.Connections, Refused: u.Refused,
				From: u.From.Format(time.RFC3339Nano), To: u.To.Format(time.RFC3339Nano),
			}); err != nil {
				return err
			}
		}
		return nil
	}
	t := a.table("FUNCTION", "SUB-TENANT", "CALLS", "ERRORS", "BILLED", "GB-SECONDS", "SENT", "RECEIVED", "REFUSED")
	t.empty = "nothing was used in that time; `hearth usage --since 0` shows all that there is"
	var all schema.UsageCounts
	row := func(function, tenant string, c schema.UsageCounts) {
		t.row(function, tenant, c.Calls, c.Errors, time.Duration(c.BilledMS)*time.Millisecond, strconv.FormatFloat(c.GBSeconds(), 'f', 3, 64),
			c.Sent, c.Received, c.Refused)
	}
	for i := range items {
		row(items[i].Function, items[i].Tenant, items[i].UsageCounts)
		all.Add(items[i].UsageCounts, 1)
	}
	if len(items) > 1 {
		row(fmt.Sprintf("all %d", len(items)), "", all)
	}
	return t.flush()
}
