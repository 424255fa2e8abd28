package main

import (
	"context"
	"log/slog"
	"strings"

	"github.com/hearth-run/hearth/internal/telemetry"
)

// What is said of the flags by which others of this host look.
const (
	metricsHelp      = "loopback address at which /metrics is served; port 0 picks a free one (default: nowhere)"
	metricsApartHelp = "loopback address at which /metrics is served to everybody on this host, whatever --http serves; port 0 picks a free " +
		"one (default: at --http alone, and with --no-anonymous nowhere)"
	consoleApartHelp = "loopback address at which /console is served to everybody on this host, the same way"
)

// What OpenTelemetry's standard has for metrics, beside what it has for everything.
const (
	otelMetricsExporter = "OTEL_METRICS_EXPORTER"
	otelMetricsEndpoint = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"
	otelMetricsProtocol = "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL"
)

// measuring makes the numbers of this process, and their end, which sends the last ones. They go to a collector where
// OpenTelemetry's standard variables say so.
func (a *app) measuring(ctx context.Context, log *slog.Logger, build string) (metrics *telemetry.Metrics, end func(), err error) {
	protocol, wanted, err := metricsWanted(func(name string) string { v, _ := a.lookup(name); return strings.TrimSpace(v) })
	if err != nil {
		return nil, nil, err
	}
	if !wanted {
		return telemetry.NewMetrics(build), func() {}, nil
	}
	telemetry.LogErrors(log)
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

// metricsWanted reads whether metrics are sent anywhere, and how, as [tracesWanted] does.
func metricsWanted(value func(string) string) (protocol string, wanted bool, err error) {
	if strings.EqualFold(value(otelDisabled), "true") {
		return "", false, nil
	}
	switch exporter := value(otelMetricsExporter); exporter {
	case "none":
		return "", false, nil
	case "otlp":
	case "":
		if value(otelEndpoint) == "" && value(otelMetricsEndpoint) == "" {
			return "", false, nil
		}
	default:
		return "", false, usagef("%s is %q; otlp or none (Prometheus reads --metrics, whatever this says)", otelMetricsExporter, exporter)
	}
	name := otelMetricsProtocol
	if value(name) == "" {
		name = otelProtocol
	}
	switch protocol = value(name); protocol {
	case "":
		protocol = telemetry.PushHTTP
	case telemetry.PushHTTP, telemetry.PushGRPC:
	default:
		return "", false, usagef("%s is %q; %s or %s", name, protocol, telemetry.PushGRPC, telemetry.PushHTTP)
	}
	return protocol, true, checkEndpoint(value, otelMetricsEndpoint, protocol == telemetry.PushGRPC)
}
