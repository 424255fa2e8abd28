package client

import (
	"cmp"
	"context"
	"slices"

	"github.com/hearth-run/hearth/schema"
)

// Usage is what functions and their sub-tenants used, by function and sub-tenant, added up over all pages. behind says that some of
// what Since asks for is gone by age or size. What was used in the last seconds may not be written down yet.
func (c *Client) Usage(ctx context.Context, in schema.UsageInput) (items []schema.UsageItem, behind bool, err error) {
	type name struct{ function, tenant string }
	at := make(map[name]int)
	for {
		out := new(schema.UsageOutput)
		if err := c.doWithin(ctx, c.account, "GetUsage", in, out, controlPatience); err != nil {
			return nil, false, err
		}
		behind = behind || out.Behind
		for _, one := range out.Usage {
			i, ok := at[name{one.Function, one.Tenant}]
			if !ok {
				at[name{one.Function, one.Tenant}] = len(items)
				items = append(items, one)
				continue
			}
			sum := &items[i]
			sum.Add(one.UsageCounts, 1)
			sum.GBSeconds = sum.UsageCounts.GBSeconds()
			if one.From.Before(sum.From) {
				sum.From = one.From
			}
			if one.To.After(sum.To) {
				sum.To = one.To
			}
		}
		if in.Cursor = out.Cursor; in.Cursor == "" {
			break
		}
	}
	slices.SortFunc(items, func(a, b schema.UsageItem) int {
		return cmp.Or(cmp.Compare(a.Function, b.Function), cmp.Compare(a.Tenant, b.Tenant))
	})
	return items, behind, nil
}
