package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/otlptranslator"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
)

// Bounds of one look at everything.
const (
	scrapeTime  = 5 * time.Second // for what has to be asked for: a stream's depth, a cgroup
	maxScrapes  = 2               // at once; one more is told to come back
	handlerTime = 10 * time.Second
)

// The protocols of OTLP, by the names that OTEL_EXPORTER_OTLP_PROTOCOL has for them.
const (
	PushGRPC = "grpc"
	PushHTTP = "http/protobuf"
)

// Source tells its numbers when somebody looks. It is called by several goroutines at once, must not wait longer than ctx, and is
// not called on the path of a call.
type Source func(ctx context.Context, s *Scrape)

// Metrics are the numbers of one process. What counts keeps atomics of its own and tells them when somebody looks: nothing is
// looked up, locked or allocated where a call passes, with or without anybody who looks. A nil one takes sources and tells nothing.
// It is safe for concurrent use.
type Metrics struct {
	provider *metric.MeterProvider
	handler  http.Handler
	version  string
	began    time.Time

	mu      sync.Mutex
	sources []Source
}

var _ metric.Producer = (*Metrics)(nil)

// NewMetrics makes the numbers of a process, with those of Go's runtime and of the process itself, for whoever reads them by
// [Metrics.ServeHTTP].
func NewMetrics(version string) *Metrics { return newMetrics(version, resource.Empty()) }

// NewPushedMetrics makes them, and sends them to a collector too, which the standard variables name: OTEL_EXPORTER_OTLP_ENDPOINT and
// its like, OTEL_METRIC_EXPORT_INTERVAL, OTEL_RESOURCE_ATTRIBUTES. The protocol is [PushGRPC] or [PushHTTP]. A collector that is not
// there costs nothing but a line in OpenTelemetry's own error log. [Metrics.Shutdown] ends it.
func NewPushedMetrics(ctx context.Context, version, protocol string) (*Metrics, error) {
	exporter, err := pushExporter(ctx, protocol)
	if err != nil {
		return nil, fmt.Errorf("make the exporter of metrics: %w", err)
	}
	env, err := resource.New(ctx, resource.WithFromEnv())
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, fmt.Errorf("read OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	return newMetrics(version, env, func(m *Metrics) metric.Reader {
		return metric.NewPeriodicReader(exporter, metric.WithProducer(m))
	}), nil
}

func newMetrics(version string, env *resource.Resource, readers ...func(*Metrics) metric.Reader) *Metrics {
	m := &Metrics{version: version, began: time.Now()}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	endpoint, err := otelprom.New(otelprom.WithRegisterer(registry), otelprom.WithProducer(m), otelprom.WithoutScopeInfo(),
		otelprom.WithTranslationStrategy(otlptranslator.UnderscoreEscapingWithSuffixes))
	if err != nil {
		panic(fmt.Sprintf("telemetry: a new registry refuses its first exporter: %v", err))
	}
	own := resource.NewSchemaless(semconv.ServiceName("hearth"), semconv.ServiceVersion(version))
	res, err := resource.Merge(own, env)
	if err != nil {
		panic(fmt.Sprintf("telemetry: a resource without a schema does not merge: %v", err))
	}
	options := []metric.Option{metric.WithReader(endpoint), metric.WithResource(res)}
	for _, reader := range readers {
		options = append(options, metric.WithReader(reader(m)))
	}
	m.provider = metric.NewMeterProvider(options...)
	m.handler = promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes, Timeout: handlerTime})
	return m
}

func pushExporter(ctx context.Context, protocol string) (metric.Exporter, error) {
	switch protocol {
	case PushGRPC:
		return otlpmetricgrpc.New(ctx)
	case PushHTTP:
		return otlpmetrichttp.New(ctx)
	}
	return nil, fmt.Errorf("protocol %q; %s or %s", protocol, PushGRPC, PushHTTP)
}

// Add has a source asked from now on.
func (m *Metrics) Add(s Source) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sources = append(m.sources, s)
}

// ServeHTTP answers in Prometheus' text format, to whoever is let through to it.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) { m.handler.ServeHTTP(w, r) }

// Produce is called by OpenTelemetry's readers, for the endpoint and for a collector.
func (m *Metrics) Produce(ctx context.Context) ([]metricdata.ScopeMetrics, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, scrapeTime, errors.New("the numbers took too long"))
	defer cancel()
	m.mu.Lock()
	sources := m.sources[:len(m.sources):len(m.sources)]
	m.mu.Unlock()
	s := newScrape(m.began, time.Now())
	s.Gauge(BuildInfo, 1, semconv.ServiceVersion(m.version))
	for _, tell := range sources {
		tell(ctx, s)
	}
	return []metricdata.ScopeMetrics{{
		Scope: instrumentation.Scope{Name: scope, Version: m.version}, Metrics: s.metrics(),
	}}, nil
}

// scope names what tells these numbers, and spans.
const scope = "github.com/hearth-run/hearth"

// Shutdown sends what is new to the collector, if there is one, until ctx ends. Safe twice and on nil.
func (m *Metrics) Shutdown(ctx context.Context) error {
	if m == nil {
		return nil
	}
	if err := m.provider.Shutdown(ctx); err != nil && !errors.Is(err, metric.ErrReaderShutdown) {
		return fmt.Errorf("send the last metrics: %w", err)
	}
	return nil
}
