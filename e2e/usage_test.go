//go:build linux && (amd64 || arm64)

package e2e_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	dto "github.com/prometheus/client_model/go"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/e2e/fabric"
	"github.com/hearth-run/hearth/schema"
)

// used is what `hearth usage --json` prints of one sub-tenant.
type used struct {
	Function  string  `json:"function"`
	Tenant    string  `json:"tenant"`
	Calls     int     `json:"calls"`
	Errors    int     `json:"errors"`
	BilledMS  int     `json:"billed_ms"`
	Refused   int     `json:"egress_refused"`
	GBSeconds float64 `json:"gb_seconds"`
	Sent      int     `json:"egress_sent_bytes"`
	Opened    int     `json:"egress_connections"`
}

// sumsUp is S68: of a mix of sub-tenants, with calls that end well, with errors, crashes, time-outs, retries of events, refusals and
// bytes sent, each line of the log names its sub-tenant, and what metrics and the ledger say of the sub-tenants adds up to the whole.
//
// Broken to see it fail: an environment that counts for the sub-tenant of its first call only after that call; a ledger that forgets
// a record whose PubAck was lost.
func sumsUp(t *testing.T, f *fabric.Fabric, g *gate, host string) {
	f.DeployFn("bill", "--timeout", "3s", "--memory", "256", "--tenancy", "per-tenant", "--egress", g.l.Addr().String(),
		"--retries", "1", "--retry-delay", "1s")
	c := f.Anonymous()
	var mu sync.Mutex
	want, owner, billed := map[string]used{}, map[string]string{}, 0
	note := func(tenant, request string, failed bool) {
		mu.Lock()
		defer mu.Unlock()
		u := want[tenant]
		u.Calls++
		if failed {
			u.Errors++
		}
		want[tenant] = u
		if request != "" {
			owner[request] = tenant
		}
	}
	call := func(tenant, words string) {
		a, err := c.Invoke(withDeadline(t), client.Call{Function: "bill", Tenant: tenant, Payload: []byte(`"` + words + `"`)})
		if err != nil {
			t.Errorf("%s for %s: %v", words, tenant, err)
			return
		}
		note(tenant, a.RequestID, a.FunctionError != nil)
		mu.Lock()
		billed += int((a.Duration.Nanoseconds() + 999_999) / 1_000_000)
		mu.Unlock()
	}
	var wg sync.WaitGroup
	for _, tenant := range []string{"red", "green", "blue"} {
		wg.Go(func() {
			for _, words := range []string{"count", "error", "say of " + tenant + " alone", "exit 3", "count"} {
				call(tenant, words)
			}
		})
	}
	wg.Go(func() { call("slow", "hang") })
	wg.Go(func() { call("far", "hold "+host) })
	release(g.wait(t, 1))
	// An event that fails twice, which is two calls.
	if _, err := c.Send(withDeadline(t), client.Event{Function: "bill", Tenant: "late", Payload: []byte(`"error"`)}); err != nil {
		t.Fatal(err)
	}
	// What is refused at the door is nobody's.
	if _, err := c.Invoke(withDeadline(t), client.Call{Function: "bill"}); schema.CodeOf(err) != schema.CodeInvalidParameter {
		t.Errorf("without a sub-tenant: %v", err)
	}
	wg.Wait()
	call("far", "hold 169.254.169.254:80") // which no policy opens
	eventually(t, "the refusal is counted", func() bool {
		return scrape(t, f.HTTP).sum("hearth_egress_refused_total", "faas_name", "bill", "hearth_refusal", "floor") > 0
	})
	eventually(t, "the event is among the dead letters", func() bool {
		return strings.Contains(f.MustCLI("deadletters", "ls", "bill", "--json"), `"late"`)
	})
	note("late", "", true)
	note("late", "", true)

	all := scrape(t, f.HTTP)
	calls := 0
	for tenant, u := range want {
		calls += u.Calls
		if got := all.sum("hearth_usage_calls_total", "faas_name", "bill", "hearth_tenant", tenant); got != float64(u.Calls) {
			t.Errorf("metrics: %v calls of %s, want %d", got, tenant, u.Calls)
		}
		if got := all.sum("hearth_usage_errors_total", "faas_name", "bill", "hearth_tenant", tenant); got != float64(u.Errors) {
			t.Errorf("metrics: %v errors of %s, want %d", got, tenant, u.Errors)
		}
	}
	ran := all.sum("hearth_calls_total", "faas_name", "bill") - all.sum("hearth_calls_total", "faas_name", "bill", "hearth_start", "")
	if usage := all.sum("hearth_usage_calls_total", "faas_name", "bill"); usage != float64(calls) || ran != usage {
		t.Errorf("metrics: %v calls ran, %v by sub-tenant, want %d", ran, usage, calls)
	}
	if refused := all.sum("hearth_calls_total", "faas_name", "bill", "hearth_code", "InvalidParameterValueException"); refused != 1 {
		t.Errorf("metrics: %v refused", refused)
	}
	if n := all.sum("hearth_calls_total", "faas_name", "bill", "hearth_code", "Sandbox.Timedout"); n != 1 {
		t.Errorf("metrics: %v time-outs", n)
	}

	var ledger map[string]used
	eventually(t, "the ledger has all calls", func() bool {
		ledger = map[string]used{}
		n := 0
		for line := range strings.Lines(f.MustCLI("usage", "bill", "--json")) {
			var u used
			if err := json.Unmarshal([]byte(line), &u); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			ledger[u.Tenant] = u
			n += u.Calls
		}
		return n >= calls
	})
	sum := used{}
	for tenant, u := range ledger {
		if u.Calls != want[tenant].Calls || u.Errors != want[tenant].Errors {
			t.Errorf("the ledger says %+v of %q, want %+v", u, tenant, want[tenant])
		}
		sum.BilledMS += u.BilledMS
		sum.GBSeconds += u.GBSeconds
		sum.Sent += u.Sent
	}
	if d := sum.GBSeconds - float64(sum.BilledMS)/4000; d > 1e-9 || d < -1e-9 {
		t.Errorf("%v GB-seconds of 256 MB in %d ms", sum.GBSeconds, sum.BilledMS)
	}
	if late := ledger["late"].BilledMS; sum.BilledMS-late != billed {
		t.Errorf("billed %d ms, the answers said %d", sum.BilledMS-late, billed)
	}
	if far := ledger["far"]; far.Opened != 1 || far.Sent != 37 || far.Refused == 0 || far.Errors != 1 { // its request id, and a line's end
		t.Errorf("what was sent: %+v", far)
	}
	if sum.Sent != 37 {
		t.Errorf("%d bytes sent by all", sum.Sent)
	}

	lines := 0
	for line := range strings.Lines(f.MustCLI("logs", "bill", "--since", "0", "--json")) {
		var l schema.LogLineItem
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if l.RequestID == "" {
			continue // of an init
		}
		lines++
		if tenant, ok := owner[l.RequestID]; ok && l.Tenant != tenant || !ok && l.Tenant != "late" {
			t.Errorf("a line of %q is said to be of %q: %s", tenant, l.Tenant, l.Text)
		}
	}
	if lines < 2*calls {
		t.Errorf("%d lines of %d calls", lines, calls)
	}
}

// series are what a look at /metrics shows.
type series []measured

type measured struct {
	metric string
	labels map[string]string
	value  float64
	kind   dto.MetricType
	more   []string // labels of a part of it
}

// scrape reads the metrics of a fabric.
func scrape(t testing.TB, url string) series {
	t.Helper()
	req, err := http.NewRequestWithContext(withDeadline(t), http.MethodGet, url+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%d %v", resp.StatusCode, err)
	}
	return parse(t, string(text))
}

// sum adds up the series of a metric with these labels.
func (s series) sum(metric string, labels ...string) (n float64) {
samples:
	for _, one := range s {
		if one.metric != metric {
			continue
		}
		for i := 0; i < len(labels); i += 2 {
			if one.labels[labels[i]] != labels[i+1] {
				continue samples
			}
		}
		n += one.value
	}
	return n
}
