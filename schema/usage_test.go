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
