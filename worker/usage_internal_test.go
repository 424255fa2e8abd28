package worker

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hearth-run/hearth/internal/telemetry"
)

// usageSeries are the calls that a look at metrics shows, by labels.
func usageSeries(t *testing.T, m *telemetry.Metrics) (all map[string]int, calls int) {
	t.Helper()
	w := httptest.NewRecorder()
	m.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("status %d", w.Code)
	}
	all = map[string]int{}
	for line := range strings.Lines(w.Body.String()) {
		if labels, ok := strings.CutPrefix(line, "hearth_usage_calls_total{"); ok {
			labels, number, _ := strings.Cut(labels, "} ")
			var n int
			if _, err := fmt.Sscan(number, &n); err != nil {
				t.Fatal(err)
			}
			all[labels], calls = n, calls+n
		}
	}
	return all, calls
}

func usageForTest() (*usage, *telemetry.Metrics, func(function, tenant string)) {
	u, m := newUsage(), telemetry.NewMetrics("1")
	m.Add(func(_ context.Context, s *telemetry.Scrape) { u.scrape(s) })
	return u, m, func(function, tenant string) {
		r := u.hold(usageKey{"default", function, tenant})
		r.call(time.Millisecond, 128, false)
		u.release(r)
	}
}

// Many functions with many sub-tenants are told in so many series and no more, and none of their calls is lost.
func TestUsageOfManyFunctionsIsBounded(t *testing.T) {
	t.Parallel()
	_, m, call := usageForTest()
	const functions, tenants = 1000, 100
	for round := 1; round <= 2; round++ {
		for f := range functions {
			for tenant := range tenants {
				call(fmt.Sprint("f", f), fmt.Sprint("t", tenant))
			}
		}
		all, calls := usageSeries(t, m)
		if len(all) > telemetry.MaxUsage || len(all) < telemetry.MaxUsage/2 || calls != round*functions*tenants {
			t.Errorf("round %d: %d series of %d calls", round, len(all), calls)
		}
	}
}

// What a rate sees between looks is what was called, however many sub-tenants come and go: no series falls, and none takes over
// what another had told.
func TestUsageRatesSeeEachCallOnce(t *testing.T) {
	t.Parallel()
	_, m, call := usageForTest()
	last, calls, seen := map[string]int{}, 0, 0
	for tenant := range 3 * telemetry.MaxTenants {
		for range 10 {
			call("f", fmt.Sprint("t", tenant))
			calls++
		}
		if tenant%7 != 6 && tenant != 3*telemetry.MaxTenants-1 {
			continue // a look costs as much as there are
		}
		all, _ := usageSeries(t, m)
		for labels, n := range last {
			if all[labels] < n {
				t.Fatalf("%s fell from %d to %d", labels, n, all[labels])
			}
		}
		for labels, n := range all {
			seen += n - last[labels]
		}
		last = all
	}
	if other := last[`faas_name="f",hearth_tenant="(other)"`]; seen != calls || other != 2*telemetry.MaxTenants*10 {
		t.Errorf("rates saw %d of %d calls, %d of others; %v", seen, calls, other, len(last))
	}
}

// Counting does not wait for who looks: a look that is under way holds nothing that a new sub-tenant needs.
func TestUsageIsHeldDuringALook(t *testing.T) {
	t.Parallel()
	u, _, call := usageForTest()
	call("f", "t")
	u.functions.Each(func(_ functionName, _ bool, fn *functionUsage) bool {
		fn.tenants.Each(func(string, bool, *usageCounts) bool {
			call("f", "new")
			call("g", "new")
			return true
		})
		return true
	})
	if n := len(u.rows); n != 0 {
		t.Errorf("%d rows are still held", n)
	}
}
