package main

import (
	"strings"
	"testing"

	"github.com/hearth-run/hearth/internal/telemetry"
)

func TestTracesAreSentWhereTheVariablesSay(t *testing.T) {
	t.Parallel()
	const endpoint = "http://127.0.0.1:4318"
	for name, test := range map[string]struct {
		env      map[string]string
		wanted   bool
		protocol telemetry.Protocol
		refusal  string
	}{
		"nothing":             {},
		"an endpoint":         {env: map[string]string{otelEndpoint: endpoint}, wanted: true},
		"one of traces":       {env: map[string]string{otelTracesEndpoint: endpoint}, wanted: true},
		"by name":             {env: map[string]string{otelExporter: "otlp"}, wanted: true},
		"none":                {env: map[string]string{otelEndpoint: endpoint, otelExporter: "none"}},
		"disabled":            {env: map[string]string{otelEndpoint: endpoint, otelDisabled: "TRUE", otelProtocol: "x"}},
		"not disabled":        {env: map[string]string{otelEndpoint: endpoint, otelDisabled: "1"}, wanted: true},
		"gRPC":                {env: map[string]string{otelEndpoint: endpoint, otelProtocol: "grpc"}, wanted: true, protocol: telemetry.GRPC},
		"gRPC, not of traces": {env: map[string]string{otelEndpoint: endpoint, otelProtocol: "grpc", otelTracesProtocol: "http/protobuf"}, wanted: true, protocol: telemetry.HTTP},
		"JSON":                {env: map[string]string{otelEndpoint: endpoint, otelTracesProtocol: "http/json"}, refusal: otelTracesProtocol + ` is "http/json"`},
		"another exporter":    {env: map[string]string{otelExporter: "zipkin"}, refusal: otelExporter + ` is "zipkin"`},
		"a sampler":           {env: map[string]string{otelEndpoint: endpoint, otelSampler: "parentbased_traceidratio", otelSamplerArg: "0.1"}, wanted: true},
		"no such sampler":     {env: map[string]string{otelEndpoint: endpoint, otelSampler: "always_onn"}, refusal: `is "always_onn"`},
		"no such ratio":       {env: map[string]string{otelEndpoint: endpoint, otelSampler: "traceidratio", otelSamplerArg: "10%"}, refusal: otelSamplerArg + ` is "10%"`},
		"a ratio too large":   {env: map[string]string{otelEndpoint: endpoint, otelSampler: "traceidratio", otelSamplerArg: "NaN"}, refusal: otelSamplerArg},
		"no scheme":           {env: map[string]string{otelEndpoint: "127.0.0.1:4318"}, refusal: otelEndpoint + ` is "127.0.0.1:4318"; a URL such as http://`},
		"a name alone":        {env: map[string]string{otelEndpoint: "collector"}, refusal: otelEndpoint},
		"a scheme of gRPC":    {env: map[string]string{otelEndpoint: "localhost:4317"}, refusal: otelEndpoint},
		"no host":             {env: map[string]string{otelEndpoint: endpoint, otelTracesEndpoint: "http:///v1/traces"}, refusal: otelTracesEndpoint},
		"a password":          {env: map[string]string{otelEndpoint: "u:secret@host:4318"}, refusal: otelEndpoint + ` is "***"`},
		"one counts":          {env: map[string]string{otelEndpoint: "x", otelTracesEndpoint: endpoint}, wanted: true},
		"not sent":            {env: map[string]string{otelEndpoint: "x", otelExporter: "none"}},
		"gRPC, its own":       {env: map[string]string{otelEndpoint: "unix:///run/c", otelProtocol: "grpc"}, wanted: true, protocol: telemetry.GRPC},
		"gRPC, host and port": {env: map[string]string{otelEndpoint: "localhost:4317", otelProtocol: "grpc"}, wanted: true, protocol: telemetry.GRPC},
		"gRPC, no scheme":     {env: map[string]string{otelEndpoint: "127.0.0.1:4317", otelProtocol: "grpc"}, refusal: otelEndpoint},
		"not asked":           {env: map[string]string{otelSampler: "x", otelProtocol: "x"}},
	} {
		protocol, wanted, err := tracesWanted(func(name string) string { return test.env[name] })
		if test.refusal != "" {
			if err == nil || !strings.Contains(err.Error(), test.refusal) {
				t.Errorf("%s: %v, want a refusal that says %s", name, err, test.refusal)
			}
			continue
		}
		if err != nil || wanted != test.wanted || protocol != test.protocol {
			t.Errorf("%s: %q, %v, %v; want %q, %v", name, protocol, wanted, err, test.protocol, test.wanted)
		}
	}
}
