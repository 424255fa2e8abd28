package worker_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker"
	"github.com/hearth-run/hearth/worker/driver/null"
)

// numbers are the series that a look at metrics shows, with their labels as they are written.
func numbers(t testing.TB, m *telemetry.Metrics) map[string]float64 {
	t.Helper()
	w := httptest.NewRecorder()
	m.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	all := map[string]float64{}
	for line := range strings.Lines(w.Body.String()) {
		at := strings.LastIndexByte(line, ' ')
		var n float64
		if _, err := fmt.Sscan(line[at+1:], &n); err == nil && line[0] != '#' {
			all[line[:at]] = n
		}
	}
	return all
}

// sum adds up the series of a metric whose labels have all of these.
func sum(all map[string]float64, metric string, labels ...string) (n float64) {
series:
	for name, v := range all {
		if !strings.HasPrefix(name, metric+"{") {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(name, l) {
				continue series
			}
		}
		n += v
	}
	return n
}

// ledgerOf takes records instead of the stream, and refuses some first.
type ledgerOf struct {
	mu      sync.Mutex
	refuse  int
	records map[string]*schema.UsageRecord
	asked   int
}

func (l *ledgerOf) store(_ context.Context, r *schema.UsageRecord) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked++
	if l.records == nil {
		l.records = map[string]*schema.UsageRecord{}
	}
	if l.asked%2 == 0 { // stored, and its PubAck lost
		l.records[r.MsgID()] = copyOf(r)
	}
	if l.refuse--; l.refuse >= 0 {
		return errBroken
	}
	l.records[r.MsgID()] = copyOf(r)
	return nil
}

func copyOf(r *schema.UsageRecord) *schema.UsageRecord {
	c := *r
	c.Rows = append([]schema.UsageRow(nil), r.Rows...)
	return &c
}

func (l *ledgerOf) sums() map[string]schema.UsageCounts {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := map[string]schema.UsageCounts{}
	for _, r := range l.records {
		for _, row := range r.Rows {
			c := all[row.Function+"/"+row.Tenant]
			c.Add(row.UsageCounts, 1)
			all[row.Function+"/"+row.Tenant] = c
		}
	}
	return all
}

// Calls of several sub-tenants, well, with errors, with time-outs and refused: by sub-tenant, by function and in the ledger the numbers
// are the same, and the ledger has each once, though half of its records are stored twice. Spans name the sub-tenant, and of metrics those
// of usage alone, which are bounded; answers name a failure that the platform found, and none that a function tells.
func TestCountsBySubTenantAddUp(t *testing.T) {
	t.Parallel()
	metrics, stored := telemetry.NewMetrics("1"), &ledgerOf{refuse: 5}
	ledger, err := worker.NewLedger(worker.LedgerConfig{Worker: "w1", Every: 10 * time.Millisecond, Store: stored.store})
	if err != nil {
		t.Fatal(err)
	}
	spans := tracetest.NewInMemoryExporter()
	tel, err := telemetry.New(t.Context(), telemetry.Config{Exporter: spans})
	if err != nil {
		t.Fatal(err)
	}
	b := setup(t, func(c *worker.Config) { c.Metrics, c.Ledger, c.Telemetry = metrics, ledger, tel })
	if err := ledger.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	bindings := map[string]*schema.Binding{"a": b.binding(perTenant), "b": b.binding(perTenant), "": b.binding()}
	bindings[""].Function = "plain"
	whose := map[string]string{} // by request id
	var billed, failed int64
	var calls int
	for tenant, binding := range bindings {
		environment := "e-" + tenant
		b.made(environment, binding)
		payloads := []string{`1`, quoted("fail"), `2`}
		if tenant == "b" {
			payloads = append(payloads, quoted("hang"))
		}
		for i, payload := range payloads {
			run := b.runFor(tenant, environment, binding, payload)
			if i == 0 {
				run.Start = schema.StartCold
			}
			if payload == quoted("hang") {
				run.Call.Timeout = 300 * time.Millisecond
			}
			b.worker.Start(run)
			m, o := b.answer(run)
			if found, late := m.Header.Get(schema.HeaderPlatformError), payload == quoted("hang"); late != (found == string(schema.CodeTimedOut)) || !late && found != "" {
				t.Errorf("%s: the platform is said to have found %q", payload, found)
			}
			whose[run.Call.RequestID] = tenant
			calls++
			billed += (o.Duration + time.Millisecond - 1).Milliseconds()
			if o.Error != nil {
				failed++
			}
			if o.Reusable {
				b.awaitEvent(environment, schema.EnvironmentParked, i+2)
			}
		}
	}
	b.awaitEvent("e-b", schema.EnvironmentGone, 1)
	b.worker.Refuse(b.runFor("a", "", bindings["a"], `1`), nil) // its environment could not be made
	calls++
	failed++
	b.worker.End("e-a")
	b.awaitEvent("e-a", schema.EnvironmentGone, 1)
	natstest.Eventually(t, patience, func() bool { return len(spans.GetSpans()) >= len(whose) }, "each call is a span")
	for _, s := range spans.GetSpans() {
		is := attribute.NewSet(s.Attributes...)
		id, _ := is.Value(telemetry.RequestID)
		tenant, named := is.Value(telemetry.Tenant)
		if want, known := whose[id.AsString()]; known && (tenant.AsString() != want || named != (want != "")) {
			t.Errorf("the span of a call of sub-tenant %q names %q", want, tenant.AsString())
		}
	}
	all := numbers(t, metrics)
	for series := range all {
		if strings.Contains(series, "hearth_tenant=") && !strings.HasPrefix(series, "hearth_usage_") {
			t.Errorf("%s: names of sub-tenants are without end", series)
		}
	}
	for what, got := range map[string][2]float64{
		"calls":       {sum(all, "hearth_calls_total"), float64(calls)},
		"their usage": {sum(all, "hearth_usage_calls_total"), float64(calls)},
		"errors":      {sum(all, "faas_errors_total"), float64(failed)},
		"their usage by sub-tenant": {sum(all, "hearth_usage_errors_total", `faas_name="echo"`) +
			sum(all, "hearth_usage_errors_total", `faas_name="plain",hearth_tenant=""`), float64(failed)},
		"of a":                       {sum(all, "hearth_usage_calls_total", `hearth_tenant="a"`), 4},
		"of b":                       {sum(all, "hearth_usage_calls_total", `hearth_tenant="b"`), 4},
		"cold":                       {sum(all, "faas_coldstarts_total"), 3},
		"time-outs":                  {sum(all, "hearth_calls_total", `hearth_code="Sandbox.Timedout"`), 1},
		"what functions said":        {sum(all, "hearth_calls_total", `hearth_code="function-error"`), 3},
		"for want of an environment": {sum(all, "hearth_calls_total", `hearth_code="Runtime.InitError"`), 1},
		"runs":                       {sum(all, "faas_invoke_duration_seconds_count"), float64(calls) - 1},
		"answers":                    {sum(all, "hearth_call_stage_duration_seconds_count", `hearth_stage="answer"`), float64(calls) - 1},
		"inits":                      {sum(all, "faas_init_duration_seconds_count"), 3},
		"billed ms":                  {1e3 * sum(all, "hearth_usage_billed_seconds_total"), float64(billed)},
		"GB-seconds":                 {8 * 1e3 * sum(all, "hearth_usage_gb_seconds_total"), float64(billed)}, // of 128 MB
	} {
		if d := got[0] - got[1]; d > 1e-6 || d < -1e-6 {
			t.Errorf("%s: %v, want %v", what, got[0], got[1])
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := ledger.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	var written schema.UsageCounts
	sums := stored.sums()
	for _, c := range sums {
		written.Add(c, 1)
	}
	if written.Calls != int64(calls) || written.Errors != failed || written.BilledMS != billed || written.MemoryMBMS != 128*billed {
		t.Errorf("the ledger has %+v, want %d calls, %d errors, %d ms", written, calls, failed, billed)
	}
	if sums["echo/a"].Calls != 4 || sums["echo/b"].Calls != 4 || sums["plain/"].Calls != 3 {
		t.Errorf("by sub-tenant: %+v", maps.Collect(maps.All(sums)))
	}
	if again := numbers(t, metrics); sum(again, "hearth_usage_calls_total") != float64(calls) {
		t.Errorf("after the ledger has forgotten rows: %v calls", sum(again, "hearth_usage_calls_total"))
	}
}

// A thousand sub-tenants that come and go: the ledger has every one, metrics have a hundred and the rest together.
func TestSubTenantsInMetricsAreBounded(t *testing.T) {
	t.Parallel()
	metrics, stored := telemetry.NewMetrics("1"), &ledgerOf{}
	ledger, err := worker.NewLedger(worker.LedgerConfig{Worker: "w1", Every: time.Hour, Store: stored.store})
	if err != nil {
		t.Fatal(err)
	}
	b := setup(t, func(c *worker.Config) { c.Metrics, c.Ledger, c.Driver, c.CacheDir = metrics, ledger, null.New(), "" })
	if err := ledger.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	const tenants = 5 * telemetry.MaxTenants
	binding := b.binding(perTenant)
	for i := range tenants {
		id := fmt.Sprint("e", i)
		b.made(id, binding)
		run := b.runFor(fmt.Sprint("t", i), id, binding, `1`)
		b.worker.Start(run)
		b.answer(run)
		b.worker.End(id)
		b.awaitEvent(id, schema.EnvironmentGone, 1)
	}
	look := func() (series, calls int) {
		all := numbers(t, metrics)
		for name := range all {
			if strings.HasPrefix(name, "hearth_usage_calls_total{") {
				series++
			}
		}
		return series, int(sum(all, "hearth_usage_calls_total"))
	}
	if series, calls := look(); series > telemetry.MaxTenants+2 || calls != tenants {
		t.Errorf("%d series, %d calls", series, calls)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := ledger.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if n := len(stored.sums()); n != tenants {
		t.Errorf("the ledger has %d sub-tenants", n)
	}
	if series, calls := look(); series > telemetry.MaxTenants+2 || calls != tenants {
		t.Errorf("afterwards %d series, %d calls", series, calls)
	}
}
