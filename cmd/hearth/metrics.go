package main

import (
	"cmp"
	"context"
	"strings"

	"github.com/hearth-run/hearth/internal/telemetry"
)

const metricsHelp = "loopback address at which /metrics is served; port 0 picks a free one (default: nowhere)"

// measuring makes the numbers of this process, and their end, which sends the last ones. They go to a collector where
// OpenTelemetry's standard variables say so.
func (a *app) measuring(ctx context.Context, build string) (metrics *telemetry.Metrics, end func(), err error) {
	value := func(name string) string { v, _ := a.lookup(name); return v }
	wanted := value("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || value("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT") != ""
	exporter := cmp.Or(value("OTEL_METRICS_EXPORTER"), "otlp")
	if !wanted || exporter != "otlp" || strings.EqualFold(value("OTEL_SDK_DISABLED"), "true") {
		return telemetry.NewMetrics(build), func() {}, nil
	}
	protocol := cmp.Or(value("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL"), value("OTEL_EXPORTER_OTLP_PROTOCOL"), telemetry.PushHTTP)
	metrics, err = telemetry.NewPushedMetrics(ctx, build, protocol)
	if err != nil {
		return nil, nil, usagef("metrics: %v; correct the OTEL_ variables", err)
	}
	return metrics, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastSpans)
		defer cancel()
		if err := metrics.Shutdown(ctx); err != nil {
			a.complain("%v", err)
		}
	}, nil
}
