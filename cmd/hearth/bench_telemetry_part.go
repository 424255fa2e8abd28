package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sourcegraph/conc"
	"github.com/spf13/cobra"
	metrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	traces "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-run/hearth/subjects"
)

// telemetrySpec is what the caller of fabrics with and without telemetry is told.
type telemetrySpec struct {
	Collector string // its URL
	Sides     []telemetrySideSpec
	Function  string
	Payload   []byte
	Callers   int
	Duration  time.Duration
	Slice     time.Duration
	Settle    time.Duration // after the last call, until all its spans are sent
}

type telemetrySideSpec struct {
	Target targetSpec
	PID    int
}

// telemetryMeasured is what it prints, by side.
type telemetryMeasured struct {
	Sides              []benchSide
	CPU                []*float64 // us a call over the whole run, without what it uses idle
	RatioCPU, RatioP50 []spread   // to the first
	Came               []collected
	Rounds             int
	Errors             int
	FirstError         string
}

// benchTelemetry measures and prints the result as JSON.
func (a *app) benchTelemetry(cmd *cobra.Command, in *bufio.Reader) error {
	spec, err := readSpec[telemetrySpec](in)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	l := load{slice: spec.Slice, duration: spec.Duration}
	for _, s := range spec.Sides {
		t, conns, hang, err := s.Target.reach(ctx, spec.Callers)
		if err != nil {
			return err
		}
		defer hang()
		c := caller{
			spec:  callerSpec{Payload: spec.Payload, Echo: true, Slice: spec.Slice},
			conns: conns, invoke: t.names.Invoke(subjects.DefaultAccount, spec.Function, ""),
		}
		side := closedLoop(spec.Callers, timed(c.call))
		c.warmUp(ctx, side)
		l.sides, l.cpus = append(l.sides, side), append(l.cpus, cpuMeter{s.PID})
	}
	if err := pause(ctx, 2*spec.Settle); err != nil { // the spans of the warm-up are none of the run's
		return err
	}
	before, err := sumsOf(ctx, spec.Collector)
	if err != nil {
		return err
	}
	idle, err := l.used(func() error { return pause(ctx, max(2*spec.Settle, spec.Duration/4)) })
	if err != nil {
		return err
	}
	var result loadResult
	all, err := l.used(func() error {
		result = l.run(ctx)
		return pause(ctx, 2*spec.Settle)
	})
	if err != nil {
		return err
	}
	after, err := sumsOf(ctx, spec.Collector)
	if err != nil {
		return err
	}
	out := telemetryMeasured{Sides: result.sides, Rounds: result.Rounds, Errors: result.Errors, FirstError: result.FirstError}
	for i, side := range result.sides {
		out.CPU = append(out.CPU, nil)
		if calls := len(side.latencies); all[i].known && idle[i].known && calls > 0 {
			each := rounded(float64((all[i].cpu - time.Duration(float64(all[i].within)*ratio(idle[i].cpu.Seconds(), idle[i].within.Seconds()))).Nanoseconds()) / 1e3 / float64(calls))
			out.CPU[i] = &each
		}
		whose := strconv.Itoa(i)
		out.Came = append(out.Came, collected{after[whose].Spans - before[whose].Spans, after[whose].Metrics - before[whose].Metrics})
		out.RatioCPU = append(out.RatioCPU, result.spread(func(round []benchSide) float64 { return ratio(round[i].cpuEach(), round[0].cpuEach()) }))
		out.RatioP50 = append(out.RatioP50, result.spread(func(round []benchSide) float64 { return ratio(round[i].p50(), round[0].p50()) }))
	}
	return a.printJSON(out)
}

// usage is what the process of one side used within some time.
type usage struct {
	cpu, within time.Duration
	known       bool
}

// used measures the processes of all sides while something is done.
func (l *load) used(do func() error) ([]usage, error) {
	all, begin := make([]usage, len(l.cpus)), time.Now()
	for i, m := range l.cpus {
		all[i].cpu, all[i].known = cpuOf(m.pid)
	}
	if err := do(); err != nil {
		return nil, err
	}
	for i, m := range l.cpus {
		after, known := cpuOf(m.pid)
		all[i].cpu, all[i].within, all[i].known = after-all[i].cpu, time.Since(begin), known && all[i].known
	}
	return all, nil
}

// spread is [loadResult.ratio] with its noise.
func (r *loadResult) spread(within func(round []benchSide) float64) spread {
	var all []float64
	for _, round := range r.rounds {
		if !slices.ContainsFunc(round, func(s benchSide) bool { return len(s.latencies) == 0 }) {
			all = append(all, within(round))
		}
	}
	if len(all) == 0 {
		return spread{}
	}
	slices.Sort(all)
	return spread{rounded(all[len(all)/4]), rounded(median(all)), rounded(all[len(all)-1-len(all)/4])}
}

// collected is what came to the collector at one address.
type collected struct {
	Spans   int `json:"spans"`
	Metrics int `json:"metrics"` // requests
}

// maxExport bounds one request to the collector.
const maxExport = 16 << 20

// sumsOf asks the collector what came so far, by the first element of the path at which it came.
func sumsOf(ctx context.Context, url string) (all map[string]collected, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+sumsPath, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the collector what came: %w", err)
	}
	defer resp.Body.Close()
	return all, json.NewDecoder(resp.Body).Decode(&all)
}

const sumsPath = "/sums"

// benchCollector is an OTLP receiver over HTTP: it reads what comes, and keeps how much it was. It prints its URL, and serves until standard
// input closes.
func (a *app) benchCollector(cmd *cobra.Command, in *bufio.Reader) error {
	if _, err := readSpec[struct{}](in); err != nil {
		return err
	}
	l, err := (&net.ListenConfig{}).Listen(cmd.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen for telemetry: %w", err)
	}
	server := &http.Server{Handler: &otlpSink{came: make(map[string]collected)}, ReadHeaderTimeout: 10 * time.Second}
	var serves conc.WaitGroup
	serves.Go(func() { _ = server.Serve(l) }) // ends with Close
	defer serves.Wait()
	defer server.Close()
	a.println("http://" + l.Addr().String())
	_, err = io.Copy(io.Discard, in)
	return err
}

type otlpSink struct {
	mu   sync.Mutex
	came map[string]collected
}

// ServeHTTP takes what an exporter sends to /WHOSE/v1/traces or /WHOSE/v1/metrics, and tells the sums.
func (c *otlpSink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == sumsPath {
		c.mu.Lock()
		defer c.mu.Unlock()
		_ = json.NewEncoder(w).Encode(c.came) // who asked has gone
		return
	}
	whose, signal, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxExport))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var now collected
	var answer proto.Message
	switch signal {
	case "v1/traces":
		var request traces.ExportTraceServiceRequest
		err, answer = proto.Unmarshal(body, &request), &traces.ExportTraceServiceResponse{}
		for _, resource := range request.GetResourceSpans() {
			for _, scope := range resource.GetScopeSpans() {
				now.Spans += len(scope.GetSpans())
			}
		}
	case "v1/metrics":
		var request metrics.ExportMetricsServiceRequest
		err, answer = proto.Unmarshal(body, &request), &metrics.ExportMetricsServiceResponse{}
		now.Metrics = 1
	default:
		http.NotFound(w, r)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	sum := c.came[whose]
	c.came[whose] = collected{sum.Spans + now.Spans, sum.Metrics + now.Metrics}
	c.mu.Unlock()
	text, err := proto.Marshal(answer)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	_, _ = w.Write(text) // the exporter tries again
}
