package telemetry_test

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"

	"github.com/hearth-run/hearth/internal/telemetry"
)

// TestStrangersTextIsBounded: whatever is said of a call, what leaves the process is UTF-8, and not much.
func TestStrangersTextIsBounded(t *testing.T) {
	t.Parallel()
	tel, spans := recorder(t)
	for name, hostile := range map[string]string{
		"bytes": "a\xffb", "long": strings.Repeat("x", 1<<20), "long bytes": strings.Repeat("\xff", 4096), "runes": strings.Repeat("ü", 4096),
		"cut rune": strings.Repeat("x", 511) + "😀", "surrogate": "\xed\xa0\x80", "good": "grüß",
	} {
		spans.Reset()
		s := tel.Start(telemetry.Parent{}, telemetry.SpanCall, telemetry.Server, telemetry.Invoked.String(hostile))
		s.Set(telemetry.Tenant.String(hostile), telemetry.Rank.Int(1))
		s.String(telemetry.Qualifier, hostile)
		s.Event(telemetry.EventUnpromised, telemetry.To, hostile)
		s.Fail(hostile, hostile)
		for i := range 200 {
			s.String(attribute.Key(fmt.Sprintf("k%d", i)), "v")
			s.Event("again", "", "")
			s.Link(telemetry.Parent{Traceparent: caller}, hostile)
		}
		s.End()
		got := spans.GetSpans()[0]
		texts := []string{got.Status.Description}
		for _, a := range got.Attributes {
			texts = append(texts, a.Value.AsString())
		}
		for _, e := range got.Events {
			for _, a := range e.Attributes {
				texts = append(texts, a.Value.AsString())
			}
		}
		for _, l := range got.Links {
			for _, a := range l.Attributes {
				texts = append(texts, a.Value.AsString())
			}
		}
		for _, text := range texts {
			if !utf8.ValidString(text) || len(text) > 512 {
				t.Errorf("%s: %d bytes leave: %.40q", name, len(text), text)
			}
		}
		if len(got.Attributes) > 64 || len(got.Events) > 32 || len(got.Links) > 8 {
			t.Errorf("%s: %d attributes, %d events, %d links", name, len(got.Attributes), len(got.Events), len(got.Links))
		}
		if name == "good" && got.Status.Description != hostile {
			t.Errorf("changed to %q", got.Status.Description)
		}
	}
}

func TestErrorNames(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"Sandbox.Timedout": "Sandbox.Timedout", "ValueError": "ValueError", "my::Error$1-a_b": "my::Error$1-a_b", "": "Unhandled",
		"card 4111 1111": "Unhandled", "ü": "Unhandled", "a\n": "Unhandled", strings.Repeat("E", 128): strings.Repeat("E", 128), strings.Repeat("E", 129): "Unhandled",
	} {
		if got := telemetry.ErrorName(in); got != want {
			t.Errorf("%q is called %q, want %q", in, got, want)
		}
	}
}
