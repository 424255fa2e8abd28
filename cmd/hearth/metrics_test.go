package main

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"go.opentelemetry.io/otel"

	"github.com/hearth-run/hearth/internal/telemetry"
)

func TestMetricsAreSentWhereTheVariablesSay(t *testing.T) {
	t.Parallel()
	const endpoint, http, grpc = "http://127.0.0.1:4318", telemetry.PushHTTP, telemetry.PushGRPC
	for name, test := range map[string]struct {
		env      map[string]string
		protocol string // "": not wanted
		refusal  string
	}{
		"nothing":              {},
		"an endpoint":          {env: map[string]string{otelEndpoint: endpoint}, protocol: http},
		"one of metrics":       {env: map[string]string{otelMetricsEndpoint: endpoint}, protocol: http},
		"one of traces":        {env: map[string]string{otelTracesEndpoint: endpoint}},
		"by name":              {env: map[string]string{otelMetricsExporter: "otlp"}, protocol: http},
		"traces by name":       {env: map[string]string{otelExporter: "otlp"}},
		"none":                 {env: map[string]string{otelEndpoint: endpoint, otelMetricsExporter: "none"}},
		"disabled":             {env: map[string]string{otelEndpoint: endpoint, otelDisabled: "TRUE", otelMetricsExporter: "x"}},
		"gRPC":                 {env: map[string]string{otelEndpoint: endpoint, otelProtocol: "grpc"}, protocol: grpc},
		"gRPC, not of metrics": {env: map[string]string{otelEndpoint: endpoint, otelProtocol: "grpc", otelMetricsProtocol: "http/protobuf"}, protocol: http},
		"JSON":                 {env: map[string]string{otelEndpoint: endpoint, otelMetricsProtocol: "http/json"}, refusal: otelMetricsProtocol + ` is "http/json"`},
		"no scheme":            {env: map[string]string{otelMetricsEndpoint: "127.0.0.1:4318"}, refusal: otelMetricsEndpoint + ` is "127.0.0.1:4318"`},
		"another exporter":     {env: map[string]string{otelMetricsExporter: "prometheus"}, refusal: otelMetricsExporter + ` is "prometheus"`},
		"not asked":            {env: map[string]string{otelProtocol: "x"}},
	} {
		protocol, wanted, err := metricsWanted(func(name string) string { return test.env[name] })
		if test.refusal != "" {
			if err == nil || !strings.Contains(err.Error(), test.refusal) {
				t.Errorf("%s: %v, want a refusal that says %s", name, err, test.refusal)
			}
			continue
		}
		if err != nil || wanted != (test.protocol != "") || protocol != test.protocol {
			t.Errorf("%s: %q, %v, %v; want %q", name, protocol, wanted, err, test.protocol)
		}
	}
}

// Where only metrics are sent, it is logged too that a collector is not there.
func TestMetricsThatCannotBeSentAreLogged(t *testing.T) {
	var out bytes.Buffer
	env := map[string]string{otelMetricsExporter: "otlp"}
	a := &app{lookup: func(name string) (string, bool) { v, ok := env[name]; return v, ok }}
	metrics, _, err := a.measuring(t.Context(), slog.New(slog.NewTextHandler(&out, nil)), "1")
	if err != nil {
		t.Fatal(err)
	}
	otel.Handle(errors.New("nobody listens"))
	if !strings.Contains(out.String(), "nobody listens") {
		t.Errorf("logged: %q", out.String())
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) {}))
	_ = metrics.Shutdown(t.Context()) // nobody listens at the default endpoint, or somebody does
	env[otelMetricsExporter] = "zipkin"
	if _, _, err := a.measuring(t.Context(), slog.New(slog.DiscardHandler), "1"); err == nil {
		t.Error("an exporter that is none")
	}
}
