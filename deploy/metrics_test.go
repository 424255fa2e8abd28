package deploy_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/deploy"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
)

// look reads metrics as Prometheus does, and fails where they are not told.
func look(t testing.TB, url string) map[string]float64 {
	t.Helper()
	status, text := get(t, url, nil)
	if status != http.StatusOK {
		t.Fatalf("%s: %d %s", url, status, text)
	}
	all := map[string]float64{}
	for line := range strings.Lines(text) {
		var n float64
		if at := strings.LastIndexByte(line, ' '); line[0] != '#' && at > 0 {
			if _, err := fmt.Sscan(line[at+1:], &n); err == nil {
				all[line[:at]] = n
			}
		}
	}
	return all
}

func get(t testing.TB, url string, change func(*http.Request)) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(within(t), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(req)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// total adds up the series of a metric whose labels have all of these.
func total(all map[string]float64, metric string, labels ...string) (n float64) {
series:
	for name, v := range all {
		if name != metric && !strings.HasPrefix(name, metric+"{") {
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

func wantMetrics(t testing.TB, all map[string]float64, want map[string]float64) {
	t.Helper()
	for name, n := range want {
		metric, label, _ := strings.Cut(name, " ")
		if got := total(all, metric, strings.Fields(label)...); got != n {
			t.Errorf("%s is %v, want %v", name, got, n)
		}
	}
	if t.Failed() {
		for name, n := range all {
			if strings.HasPrefix(name, "hearth_") && n != 0 && !strings.Contains(name, "_bucket") {
				t.Log(name, n)
			}
		}
	}
}

// Everything in one process, with three managers: its calls are told at the door of the API, to those whom that lets in.
func TestMetricsOfAFabric(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.Managers, cfg.Build = 3, "v1.2.3"
	f := up(t, cfg)
	create(t, admin(t, f), "echo")
	c := guest(t, f)
	for i := range 10 {
		calls(t, c, "echo", fmt.Sprint(i))
	}
	for range 3 {
		if _, err := c.Invoke(within(t), client.Call{Function: "nobody"}); schema.CodeOf(err) != schema.CodeNotFound {
			t.Fatal(err)
		}
	}
	if _, err := c.Invoke(within(t), client.Call{Function: "echo", Tenant: "acme"}); schema.CodeOf(err) != schema.CodeInvalidParameter {
		t.Fatal(err)
	}
	url := f.HTTPURL + "/metrics"
	natstest.Eventually(t, patience, func() bool { return total(look(t, url), "hearth_calls_routed_total") == 10 }, "ten ends are told")
	wantMetrics(t, look(t, url), map[string]float64{
		`hearth_calls_total`: 14,
		`hearth_calls_total faas_name="echo" hearth_code="ok"`:                             10,
		`hearth_calls_total faas_name="echo" hearth_start="cold"`:                          1,
		`hearth_calls_total faas_name="echo" hearth_code="InvalidParameterValueException"`: 1,
		`hearth_calls_total faas_name="" hearth_code="ResourceNotFoundException"`:          3,
		`hearth_calls_routed_total faas_name="echo" hearth_reason="unreserved"`:            10,
		`faas_invocations_total faas_name="echo" faas_version="$LATEST"`:                   10,
		`faas_coldstarts_total faas_name="echo"`:                                           1,
		`hearth_requests_total`:                                                            14,
		`hearth_call_stage_duration_seconds_count hearth_stage="admission"`:                10,
		`hearth_call_stage_duration_seconds_count hearth_stage="wait"`:                     10,
		`hearth_call_stage_duration_seconds_count hearth_stage="wait" hearth_start="cold"`: 1,
		`hearth_call_stage_duration_seconds_count hearth_stage="init"`:                     1,
		`hearth_call_stage_duration_seconds_count hearth_stage="run"`:                      10,
		`hearth_call_stage_duration_seconds_count hearth_stage="answer"`:                   10,
		`hearth_usage_calls_total faas_name="echo"`:                                        10,
		`hearth_environments hearth_state="idle"`:                                          1,
		`hearth_environments hearth_state="busy"`:                                          0,
		`hearth_capacity`:                                           16,
		`hearth_ring_members`:                                       3,
		`hearth_controller`:                                         1,
		`hearth_nats_connected`:                                     4,
		`hearth_nats_disconnected`:                                  0,
		`hearth_binding_mismatches_total`:                           0,
		`hearth_stream_messages hearth_stream="HEARTH_CALLS_U"`:     0,
		`hearth_stream_messages hearth_stream="HEARTH_DEADLETTERS"`: 0,
		`hearth_build_info service_version="v1.2.3"`:                1,
	})
	if total(look(t, url), "hearth_offers_open", `hearth_side="room"`) == 0 {
		t.Error("no pull is open")
	}
	for what, tt := range map[string]struct {
		change func(*http.Request)
		status int
	}{
		"a page":            {func(r *http.Request) { r.Header.Set("Origin", "http://evil.example") }, http.StatusForbidden},
		"another site":      {func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, http.StatusForbidden},
		"a name of another": {func(r *http.Request) { r.Host = "evil.example" }, http.StatusMisdirectedRequest},
		"a proxy":           {func(r *http.Request) { r.Header.Set("Via", "1.1 p") }, http.StatusForbidden},
		"another method":    {func(r *http.Request) { r.Method = http.MethodPost }, http.StatusMethodNotAllowed},
	} {
		if status, body := get(t, url, tt.change); status != tt.status || strings.Contains(body, "hearth_calls") {
			t.Errorf("%s: %d", what, status)
		}
	}
}

// Roles apart tell their own metrics at their own door, and what they say adds up to the whole.
func TestMetricsOfRolesApart(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t, natstest.Bare())
	cfg := managerConfig(t, server.URL)
	cfg.MetricsAt = "127.0.0.1:0"
	m := startManager(t, cfg)
	f := startFrontend(t, frontendConfig(t, server.URL))
	c := connect(t, client.Options{URL: server.URL})
	create(t, c, "echo")
	calls(t, c, "echo", `1`)
	calls(t, c, "echo", `2`)
	wantMetrics(t, look(t, m.Metrics), map[string]float64{
		`hearth_calls_total hearth_code="ok"`: 2, `hearth_environments hearth_state="idle"`: 1, `hearth_requests_total`: 0,
	})
	wantMetrics(t, look(t, f.HTTPURL+"/metrics"), map[string]float64{`hearth_requests_total`: 2, `hearth_calls_total`: 0})
	if status, _ := get(t, m.Metrics, func(r *http.Request) { r.Header.Set("Origin", "http://evil.example") }); status != http.StatusForbidden {
		t.Errorf("a page is answered %d", status)
	}
	if status, _ := get(t, strings.TrimSuffix(m.Metrics, "/metrics")+"/healthz", nil); status != http.StatusNotFound {
		t.Errorf("another path is answered %d", status)
	}
	for _, address := range []string{"0.0.0.0:0", "9090", "192.0.2.1:9090"} {
		c := cfg
		c.DataDir, c.MetricsAt = t.TempDir(), address
		if n, err := deploy.StartManager(within(t), c); schema.CodeOf(err) != schema.CodeInvalidParameter || !strings.Contains(err.Error(), "Metrics") {
			t.Errorf("%s: %v", address, err)
			if n != nil {
				stopNode(t, n)
			}
		}
	}
}

// Where HTTP lets nobody in without a credential, or is not served, metrics and the console have listeners of their own, at which they are
// guarded as there, and which end in order while a page is live.
func TestSeenAtListenersOfTheirOwn(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.Anonymous, cfg.MetricsAt, cfg.ConsoleAt = false, "127.0.0.1:0", "127.0.0.1:0"
	f := up(t, cfg)
	create(t, admin(t, f), "echo")
	for path, says := range map[string]string{"/metrics": "--metrics ADDRESS", "/console": "--console 127.0.0.1"} {
		if status, body := get(t, f.HTTPURL+path, nil); status != http.StatusForbidden || !strings.Contains(body, says) || strings.Contains(body, "echo") {
			t.Errorf("%s without a credential: %d %s", path, status, body)
		}
	}
	wantMetrics(t, look(t, f.Metrics), map[string]float64{`hearth_ring_members`: 1})
	apart := natstest.Start(t, natstest.Bare())
	startManager(t, managerConfig(t, apart.URL))
	frontendAt := frontendConfig(t, apart.URL)
	frontendAt.HTTP, frontendAt.MetricsAt, frontendAt.ConsoleAt = deploy.NoHTTP, "127.0.0.1:0", "127.0.0.1:0"
	n := startFrontend(t, frontendAt)
	create(t, connect(t, client.Options{URL: apart.URL}), "echo")
	wantMetrics(t, look(t, n.Metrics), map[string]float64{`hearth_ring_members`: 1})
	for _, at := range []string{f.Console, n.Console} {
		natstest.Eventually(t, patience, func() bool {
			status, body := get(t, at+"/functions", nil)
			return status == http.StatusOK && strings.Contains(body, "echo")
		}, "the console lists the function")
		for what, tt := range map[string]struct {
			url    string
			change func(*http.Request)
			status int
		}{
			"its own page":     {at, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-origin") }, http.StatusOK},
			"another site":     {at, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, http.StatusForbidden},
			"another name":     {at, func(r *http.Request) { r.Host = "evil.example" }, http.StatusMisdirectedRequest},
			"a proxy":          {at, func(r *http.Request) { r.Header.Set("X-Forwarded-For", "10.0.0.1") }, http.StatusForbidden},
			"another method":   {at, func(r *http.Request) { r.Method = http.MethodPost }, http.StatusMethodNotAllowed},
			"the API":          {strings.TrimSuffix(at, "/console") + "/2015-03-31/functions/", nil, http.StatusNotFound},
			"metrics, not its": {strings.TrimSuffix(at, "/console") + "/metrics", nil, http.StatusNotFound},
		} {
			if status, body := get(t, tt.url, tt.change); status != tt.status {
				t.Errorf("%s: %d %s", what, status, body)
			}
		}
	}
	req, err := http.NewRequestWithContext(within(t), http.MethodGet, f.Console+"/live?page=overview", nil)
	if err != nil {
		t.Fatal(err)
	}
	live, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer live.Body.Close()
	stop(t, f)
	if text, err := io.ReadAll(live.Body); err != nil || !strings.Contains(string(text), "event: end") {
		t.Errorf("what was live ends with %q, %v", text, err)
	}
	for _, address := range []string{"0.0.0.0:0", "4281", "192.0.2.1:4281"} {
		bad := config(t)
		bad.ConsoleAt, bad.MetricsAt = address, address
		if _, err := deploy.Up(within(t), bad); schema.CodeOf(err) != schema.CodeInvalidParameter || !strings.Contains(err.Error(), "Console") || !strings.Contains(err.Error(), "Metrics") {
			t.Errorf("%s: %v", address, err)
		}
	}
}
