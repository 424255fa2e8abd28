package deploy_test

import (
	"testing"
	"time"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/deploy"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
)

// What was used stands in the ledger when a fabric has stopped, of a worker in its manager's process and of one apart, and is there
// after the next start. A time in which nothing was used has nothing.
func TestUsageOutlastsAFabric(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.Managers = 2
	f := up(t, cfg)
	for _, name := range []string{"one", "two"} {
		create(t, admin(t, f), name)
	}
	for range 3 {
		calls(t, guest(t, f), "one", `1`)
	}
	calls(t, guest(t, f), "two", `2`)
	stop(t, f)
	f = up(t, cfg)
	c := admin(t, f)
	wantUsage(t, c, schema.UsageInput{}, map[string]int64{"one": 3, "two": 1})
	wantUsage(t, c, schema.UsageInput{FunctionName: "one"}, map[string]int64{"one": 3})
	soon := time.Now().Add(time.Minute)
	wantUsage(t, c, schema.UsageInput{Since: &soon}, map[string]int64{})
	before := time.Now().Add(-time.Hour)
	wantUsage(t, c, schema.UsageInput{Until: &before}, map[string]int64{})
	wantUsage(t, c, schema.UsageInput{Since: &before, Until: &soon}, map[string]int64{"one": 3, "two": 1})
	for field, in := range map[string]schema.UsageInput{
		"FunctionName": {FunctionName: "no/name"}, "TenantId": {TenantID: "é"}, "Cursor": {Cursor: "1.2"},
	} {
		if _, _, err := c.Usage(within(t), in); schema.CodeOf(err) != schema.CodeInvalidParameter {
			t.Errorf("a bad %s: %v", field, err)
		}
	}
}

func wantUsage(t testing.TB, c *client.Client, in schema.UsageInput, want map[string]int64) {
	t.Helper()
	items, behind, err := c.Usage(within(t), in)
	if err != nil || behind {
		t.Fatalf("behind %v, %v", behind, err)
	}
	got := map[string]int64{}
	for _, u := range items {
		got[u.Function] += u.Calls
		if u.BilledMS < u.Calls || u.MemoryMBMS != 128*u.BilledMS || u.Errors != 0 || u.From.After(u.To) {
			t.Errorf("%+v", u)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%+v: %v, want %v", in, got, want)
	}
	for name, n := range want {
		if got[name] != n {
			t.Errorf("%+v: %v, want %v", in, got, want)
		}
	}
}

// A worker apart has no right to the stream: its manager writes what it counted, of the functions that it gave it.
func TestUsageOfAWorkerApart(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t, natstest.Bare())
	cfg := managerConfig(t, server.URL)
	cfg.ID, cfg.Driver, cfg.Capacity = "m1", deploy.DriverNone, 0
	startManager(t, cfg)
	f := startFrontend(t, frontendConfig(t, server.URL))
	w, err := deploy.StartWorker(within(t), deploy.WorkerConfig{
		Manager: "m1", DataDir: t.TempDir(), Server: deploy.Server{URL: server.URL}, Capacity: 4, Driver: deploy.DriverNull, Logger: quiet(t),
		MetricsAt: "127.0.0.1:0",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopNode(t, w) })
	c := connect(t, client.Options{URL: server.URL})
	create(t, c, "echo")
	for range 5 {
		calls(t, c, "echo", `1`)
	}
	wantMetrics(t, look(t, w.Metrics), map[string]float64{`hearth_usage_calls_total faas_name="echo"`: 5, `hearth_environments_frozen`: 0})
	if f.HTTPURL == "" {
		t.Error("no HTTP")
	}
	stopNode(t, w)
	wantUsage(t, c, schema.UsageInput{}, map[string]int64{"echo": 5})
}
