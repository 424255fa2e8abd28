package main

import (
	"context"
	"log/slog"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
)

// Where traces go is said by OpenTelemetry's standard variables alone, so that a role needs no settings of its own for it. What they
// choose between is read here, and whether an endpoint is one; headers, certificates, batches, limits and resources are read by OpenTelemetry itself.
const (
	otelDisabled       = "OTEL_SDK_DISABLED"
	otelExporter       = "OTEL_TRACES_EXPORTER"
	otelEndpoint       = "OTEL_EXPORTER_OTLP_ENDPOINT"
	otelTracesEndpoint = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	otelProtocol       = "OTEL_EXPORTER_OTLP_PROTOCOL"
	otelTracesProtocol = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
	otelSampler        = "OTEL_TRACES_SAMPLER"
	otelSamplerArg     = "OTEL_TRACES_SAMPLER_ARG"
)

// samplers are those of the standard that OpenTelemetry for Go has.
var samplers = []string{
	"always_on", "always_off", "traceidratio", "parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio",
}

// lastSpans bounds the wait for a collector at the end.
const lastSpans = 5 * time.Second

// tracing is [app.traces] and its end, which sends the last spans.
func (a *app) tracing(ctx context.Context, log *slog.Logger, build string) (traces *telemetry.Telemetry, end func(), err error) {
	traces, err = a.traces(ctx, log, build)
	return traces, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastSpans)
		defer cancel()
		if err := traces.Shutdown(ctx); err != nil {
			a.complain("%v", err)
		}
	}, err
}

// traces sends spans where OpenTelemetry's standard variables say so, and nowhere without them.
func (a *app) traces(ctx context.Context, log *slog.Logger, build string) (*telemetry.Telemetry, error) {
	protocol, wanted, err := tracesWanted(func(name string) string { v, _ := a.lookup(name); return strings.TrimSpace(v) })
	if err != nil {
		return nil, err
	}
	if !wanted {
		return telemetry.Noop(), nil
	}
	telemetry.LogErrors(log)
	t, err := telemetry.New(ctx, telemetry.Config{FromEnvironment: true, Protocol: protocol, Version: build})
	if err != nil {
		return nil, usagef("traces: %v; correct the OTEL_ variables", err)
	}
	return t, nil
}

// tracesWanted reads whether traces go anywhere, and how. Traces that somebody asked for and that could not be sent as he said are
// refused at the start: nobody would look for them in a log.
func tracesWanted(value func(string) string) (p telemetry.Protocol, wanted bool, err error) {
	if strings.EqualFold(value(otelDisabled), "true") {
		return "", false, nil
	}
	switch exporter := value(otelExporter); exporter {
	case "none":
		return "", false, nil
	case "otlp":
	case "":
		if value(otelEndpoint) == "" && value(otelTracesEndpoint) == "" {
			return "", false, nil
		}
	default:
		return "", false, usagef("%s is %q; otlp or none", otelExporter, exporter)
	}
	name := otelTracesProtocol
	if value(name) == "" {
		name = otelProtocol
	}
	switch p = telemetry.Protocol(value(name)); p {
	case "", telemetry.HTTP, telemetry.GRPC:
	default:
		return "", false, usagef("%s is %q; %s or %s", name, string(p), telemetry.GRPC, telemetry.HTTP)
	}
	if err := checkEndpoint(value, otelTracesEndpoint, p == telemetry.GRPC); err != nil {
		return "", false, err
	}
	return p, true, checkSampler(strings.ToLower(value(otelSampler)), value(otelSamplerArg))
}

// checkEndpoint refuses where OpenTelemetry would pass over what is no URL and send to its default, or send to no host at all. The
// endpoint of the signal counts before that of all. gRPC takes its own names too, such as unix:///run/collector.
func checkEndpoint(value func(string) string, ofSignal string, gRPC bool) error {
	name := ofSignal
	if value(name) == "" {
		name = otelEndpoint
	}
	endpoint := value(name)
	if endpoint == "" {
		return nil
	}
	u, err := url.Parse(endpoint)
	web := err == nil && (strings.EqualFold(u.Scheme, "http") || strings.EqualFold(u.Scheme, "https"))
	if web && u.Host != "" || err == nil && !web && gRPC && u.Scheme != "" {
		return nil
	}
	if strings.Contains(endpoint, "@") { // a password may stand before it
		endpoint = schema.Redacted(endpoint)
	}
	return usagef("%s is %q; a URL such as http://127.0.0.1:4318", name, endpoint)
}

// checkSampler refuses what OpenTelemetry would pass over, and then record everything.
func checkSampler(sampler, arg string) error {
	if sampler != "" && !slices.Contains(samplers, sampler) {
		return usagef("%s is %q%s; %s", otelSampler, sampler, didYouMean(sampler, samplers), strings.Join(samplers, ", "))
	}
	if arg == "" || !strings.HasSuffix(sampler, "traceidratio") {
		return nil
	}
	if ratio, err := strconv.ParseFloat(arg, 64); err != nil || !(ratio >= 0 && ratio <= 1) {
		return usagef("%s is %q; a number from 0 to 1", otelSamplerArg, arg)
	}
	return nil
}
