package telemetry_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
)

// read is what Prometheus would read.
func read(t *testing.T, m *telemetry.Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func wants(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("no line %q", line)
		}
	}
	if t.Failed() {
		for line := range strings.Lines(text) {
			if strings.Contains(line, "hearth") || strings.Contains(line, "faas") {
				t.Log(strings.TrimSpace(line))
			}
		}
	}
}

func TestMetricsOfSeveralSourcesAddUp(t *testing.T) {
	t.Parallel()
	m := telemetry.NewMetrics("1.2.3")
	name := telemetry.Function.String("f")
	took := telemetry.NewHistogram(telemetry.Durations)
	took.Took(20 * time.Microsecond)
	took.Took(25 * time.Microsecond) // a bound is the highest of its bucket
	took.Took(2 * time.Second)
	took.Took(-time.Second) // a clock that jumped
	took.Took(time.Hour)
	for i := range 2 {
		m.Add(func(_ context.Context, s *telemetry.Scrape) {
			s.Count(telemetry.UsageCalls, 2, name)
			s.Float(telemetry.UsageMemory, 0.25, name)
			s.Gauge(telemetry.Environments, 3, telemetry.State.String("idle"))
			s.Gauge(telemetry.RingMembers, float64(4+i))
			s.Histogram(telemetry.CallStage, took, telemetry.Stage.String(telemetry.StageWait))
		})
	}
	wants(t, read(t, m),
		`hearth_usage_calls_total{faas_name="f"} 4`,
		`hearth_usage_gb_seconds_total{faas_name="f"} 0.5`,
		`hearth_environments{hearth_state="idle"} 6`,
		`hearth_ring_members 5`, // both see the same ring
		`hearth_call_stage_duration_seconds_bucket{hearth_stage="wait",le="2.5e-05"} 6`,
		`hearth_call_stage_duration_seconds_bucket{hearth_stage="wait",le="2.5"} 8`,
		`hearth_call_stage_duration_seconds_bucket{hearth_stage="wait",le="900"} 8`,
		`hearth_call_stage_duration_seconds_count{hearth_stage="wait"} 10`,
		`# TYPE hearth_call_stage_duration_seconds histogram`,
		`# TYPE hearth_usage_calls_total counter`,
		`# TYPE hearth_environments gauge`,
		`hearth_build_info{service_version="1.2.3"} 1`,
	)
	if text := read(t, m); !strings.Contains(text, "go_goroutines ") {
		t.Error("nothing of Go's runtime")
	}
}

// Names that strangers choose do not grow what is told, and nothing is lost by it.
func TestTableIsBounded(t *testing.T) {
	t.Parallel()
	type row struct{ n atomic.Int64 }
	table := telemetry.NewTable[string](3, func() *row { return new(row) }, func(into, from *row) { into.n.Add(from.n.Load()) })
	told := func() (rows int, sum, other int64) {
		table.Each(func(_ string, rest bool, r *row) bool {
			sum += r.n.Load()
			if rest {
				other = r.n.Load()
			} else {
				rows++
			}
			return false
		})
		return rows, sum, other
	}
	a, b, c := table.Hold("a"), table.Hold("b"), table.Hold("c")
	d := table.Hold("d") // no place: all are held
	for i, h := range []*telemetry.Held[string, row]{a, b, c, d} {
		h.Row.n.Add(int64(i) + 1)
	}
	if rows, sum, other := told(); rows != 3 || sum != 10 || other != 4 {
		t.Fatalf("%d rows, %d in all, %d others", rows, sum, other)
	}
	table.Release(d)
	table.Release(c)
	table.Release(a)
	table.Hold("c").Row.n.Add(10) // is there still
	table.Hold("e").Row.n.Add(5)  // in the place of a, whom nobody holds the longest
	if rows, sum, other := told(); rows != 3 || sum != 25 || other != 5 {
		t.Fatalf("%d rows, %d in all, %d others", rows, sum, other)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for k := range 1000 {
				table.Count(fmt.Sprint(i, "-", k), func(r *row) { r.n.Add(1) })
				if k%100 == 0 {
					told()
				}
			}
		})
	}
	wg.Wait()
	if rows, sum, _ := told(); rows != 3 || sum != 8025 {
		t.Fatalf("%d rows, %d in all", rows, sum)
	}
}

// A row that was told is never told as another one too: a rate over the whole would have its history twice.
func TestTableKeepsWhatWasTold(t *testing.T) {
	t.Parallel()
	type row struct{ n atomic.Int64 }
	places := telemetry.NewPlaces(3)
	fresh := func() *telemetry.Table[string, row] {
		return telemetry.NewTable[string](2, func() *row { return new(row) }, func(into, from *row) { into.n.Add(from.n.Load()) }).Within(places)
	}
	one, two := fresh(), fresh()
	count := func(table *telemetry.Table[string, row], names ...string) {
		for _, name := range names {
			table.Count(name, func(r *row) { r.n.Add(10) })
		}
	}
	look := func(table *telemetry.Table[string, row]) map[string]int64 {
		all := map[string]int64{}
		table.Each(func(name string, rest bool, r *row) bool {
			n := r.n.Load()
			if rest {
				name = telemetry.Other
			}
			if n > 0 {
				all[name] = n
			}
			return n > 0
		})
		return all
	}
	want := func(what string, got, want map[string]int64) {
		t.Helper()
		if !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	count(one, "a", "b", "c") // a, of which nobody was told, makes way
	want("before", look(one), map[string]int64{"b": 10, "c": 10, telemetry.Other: 10})
	count(one, "d", "b", "e")
	want("afterwards", look(one), map[string]int64{"b": 20, "c": 10, telemetry.Other: 30})
	count(two, "f", "g")
	want("one place left", look(two), map[string]int64{"g": 10, telemetry.Other: 10})
	count(two, "h")
	want("none left", look(two), map[string]int64{"g": 10, telemetry.Other: 20})
	one.Leave()
	count(two, "i")
	want("places given back", look(two), map[string]int64{"g": 10, "i": 10, telemetry.Other: 20})
}

func TestRefusedAreBounded(t *testing.T) {
	t.Parallel()
	m, r := telemetry.NewMetrics("1"), telemetry.NewRefused()
	m.Add(func(_ context.Context, s *telemetry.Scrape) { r.Scrape(s) })
	for i := range 5 * telemetry.MaxFunctions {
		r.Count("default", fmt.Sprintf("f%d", i), schema.CodeThrottled)
	}
	r.Count("", "", schema.CodeNotFound)
	r.Count("", "", schema.Code("made up"))
	text := read(t, m)
	if n := strings.Count(text, "\nhearth_calls_total{"); n > telemetry.MaxFunctions+3 {
		t.Errorf("%d series", n)
	}
	wants(t, text,
		`hearth_calls_total{faas_name="",faas_version="",hearth_code="ResourceNotFoundException",hearth_reason="",hearth_start=""} 1`,
		`hearth_calls_total{faas_name="",faas_version="",hearth_code="Internal",hearth_reason="",hearth_start=""} 1`)
	if !strings.Contains(text, `faas_name="(other)"`) {
		t.Error("nothing is told of the others")
	}
}

func TestRecordingAllocatesNothing(t *testing.T) {
	h := telemetry.NewHistogram(telemetry.Durations)
	if n := testing.AllocsPerRun(1000, func() { h.Took(time.Millisecond) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestMetricsReachACollector(t *testing.T) {
	got := make(chan string, 16)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- r.URL.Path + " " + string(body)
	}))
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	m, err := telemetry.NewPushedMetrics(t.Context(), "1", telemetry.PushHTTP)
	if err != nil {
		t.Fatal(err)
	}
	m.Add(func(_ context.Context, s *telemetry.Scrape) { s.Count(telemetry.Requests, 7) })
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := m.Shutdown(ctx); err != nil { // sends what there is
		t.Fatal(err)
	}
	if err := m.Shutdown(ctx); err != nil {
		t.Errorf("second Shutdown: %v", err)
	}
	if text := <-got; !strings.HasPrefix(text, "/v1/metrics ") || !strings.Contains(text, "hearth.requests") {
		t.Errorf("got %.200q", text)
	}
	if _, err := telemetry.NewPushedMetrics(t.Context(), "1", "carrier pigeon"); err == nil {
		t.Error("a protocol that is none")
	}
	var none *telemetry.Metrics
	none.Add(nil)
	if err := none.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}
