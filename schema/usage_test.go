package schema_test

import (
	"math"
	"testing"

	"github.com/hearth-run/hearth/schema"
)

// No number of a row falls, and none is so high that sums overflow.
func TestGoodUsage(t *testing.T) {
	t.Parallel()
	for i, set := range []func(*schema.UsageCounts, int64){
		func(c *schema.UsageCounts, n int64) { c.Calls = n }, func(c *schema.UsageCounts, n int64) { c.Errors = n },
		func(c *schema.UsageCounts, n int64) { c.BilledMS = n }, func(c *schema.UsageCounts, n int64) { c.MemoryMBMS = n },
		func(c *schema.UsageCounts, n int64) { c.Sent = n }, func(c *schema.UsageCounts, n int64) { c.Received = n },
		func(c *schema.UsageCounts, n int64) { c.Connections = n }, func(c *schema.UsageCounts, n int64) { c.Refused = n },
	} {
		for n, want := range map[int64]bool{0: true, 1: true, 1 << 53: true, 1<<53 + 1: false, math.MaxInt64: false, -1: false, math.MinInt64: false} {
			var c schema.UsageCounts
			if set(&c, n); c.Good() != want {
				t.Errorf("number %d is %d: good is %v", i, n, !want)
			}
		}
	}
}

// A row takes few bytes: each account pays for its ledger's, a row for each sub-tenant and ten seconds.
//
// Broken to see it fail: numbers of nine bytes each.
func TestUsageIsSmall(t *testing.T) {
	t.Parallel()
	row := schema.UsageRow{Function: "resize", Tenant: "customer-1234", UsageCounts: schema.UsageCounts{Calls: 12, BilledMS: 340, MemoryMBMS: 43_520}}
	size := func(rows int) int {
		r := &schema.UsageRecord{V: schema.Version}
		for range rows {
			r.Rows = append(r.Rows, row)
		}
		b, err := schema.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		return len(b)
	}
	if n := size(2) - size(1); n > 42 {
		t.Errorf("a row takes %d bytes, of which 19 are names", n)
	}
}
