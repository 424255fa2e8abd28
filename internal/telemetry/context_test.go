package telemetry_test

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/propagation"
	api "go.opentelemetry.io/otel/trace"

	"github.com/hearth-run/hearth/internal/telemetry"
)

// TestContextsAreThoseOfThePropagator holds what is read by hand against OpenTelemetry's own reading, on contexts that are broken in every way.
func TestContextsAreThoseOfThePropagator(t *testing.T) {
	t.Parallel()
	theirs := func(p telemetry.Parent) api.SpanContext {
		carrier := propagation.MapCarrier{"traceparent": p.Traceparent, "tracestate": p.Tracestate}
		return api.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier))
	}
	tel, spans := recorder(t)
	check := func(p telemetry.Parent) {
		t.Helper()
		if len(p.Traceparent) == 56 && p.Traceparent[55] == '-' {
			return // the one difference: the propagator lets it pass behind version 00 too, where W3C has 55 bytes
		}
		want := theirs(p)
		if p.Valid() != want.IsValid() {
			t.Errorf("%q is valid: %v, the propagator says %v", p.Traceparent, p.Valid(), want.IsValid())
			return
		}
		if c := p.Checked(); c.Valid() != p.Valid() || c.Valid() && (len(c.Traceparent) != 55 || theirs(c).SpanID() != want.SpanID() ||
			theirs(c).IsSampled() != want.IsSampled()) {
			t.Errorf("%q is passed on as %q", p.Traceparent, c.Traceparent)
		}
		if !want.IsValid() || !want.IsSampled() {
			return
		}
		spans.Reset()
		s := tel.Start(p, telemetry.SpanCall, telemetry.Server)
		if c := theirs(s.Context()); c.TraceID() != want.TraceID() || c.TraceState().String() != want.TraceState().String() || !c.IsSampled() {
			t.Errorf("%q goes on as %+v", p, s.Context())
		}
		s.End()
		if got := spans.GetSpans()[0]; got.Parent.SpanID() != want.SpanID() || got.SpanContext.TraceID() != want.TraceID() {
			t.Errorf("%q is read as %s %s", p.Traceparent, got.SpanContext.TraceID(), got.Parent.SpanID())
		}
	}
	for _, s := range []string{
		caller, caller[:53] + "00", caller[:53] + "02", caller[:53] + "03", caller[:53] + "04", caller[:53] + "0b", caller[:53] + "11",
		"01" + caller[2:], "01" + caller[2:53] + "ff", "01" + caller[2:] + "-more", "01" + caller[2:] + "more", "fe" + caller[2:], "ff" + caller[2:],
		"", "-", strings.Repeat("-", 55), strings.ToUpper(caller), "00-" + strings.Repeat("0", 32) + caller[35:],
		caller[:36] + strings.Repeat("0", 16) + "-01",
	} {
		check(telemetry.Parent{Traceparent: s})
		check(telemetry.Parent{Traceparent: s, Tracestate: "a=1,b@c=2"})
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	const letters = "0123456789abcdefABCg- \x00\xff"
	for range 20_000 {
		b := []byte(caller)
		if r.IntN(3) == 0 {
			b = append(b, "-x"...)
		}
		for range r.IntN(3) {
			b[r.IntN(len(b))] = letters[r.IntN(len(letters))]
		}
		check(telemetry.Parent{Traceparent: string(b[:len(b)-r.IntN(2)*r.IntN(3)])})
	}
}

func TestStatesThatCannotBePassedOn(t *testing.T) {
	t.Parallel()
	for state, kept := range map[string]bool{
		"a=1": true, "": true, "a=1\r\nEvil: 1": false, "a=\xff": false, "a=" + strings.Repeat("x", 510): true, "a=" + strings.Repeat("x", 511): false,
	} {
		if c := (telemetry.Parent{Traceparent: caller, Tracestate: state}).Checked(); c.Traceparent != caller || (c.Tracestate == state) != kept {
			t.Errorf("%q is passed on as %q", state, c)
		}
		if c := (telemetry.Parent{Traceparent: "x", Tracestate: state}).Checked(); c != (telemetry.Parent{}) {
			t.Errorf("a state of no trace is passed on: %q", c)
		}
	}
}

func TestXRay(t *testing.T) {
	t.Parallel()
	const root = "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled="
	for w3c, xray := range map[string]string{caller: root + "1", caller[:54] + "0": root + "0"} {
		if got := string(telemetry.AppendXRay([]byte("x"), w3c)); got != "x"+xray {
			t.Errorf("%s as %s", w3c, got)
		}
		if got := telemetry.FromXRay(xray); got != w3c {
			t.Errorf("%s as %s", xray, got)
		}
	}
	if got := telemetry.FromXRay("Self=1-x; sampled=0; Sampled=1 ;Parent=00F067AA0BA902B7; Root=1-4BF92F35-77b34da6a3ce929d0e0e4736;Lineage=a:1"); got != caller {
		t.Errorf("other order, other fields: %q", got)
	}
	for _, bad := range []string{
		"", ";;=;", root, root + "?", root + "2", root[:43] + ";Sampled=1", "Root=2" + root[6:] + "1", "Root=1-4bf92f35-77b34da6a3ce929d0e0e473;Parent=00f067aa0ba902b7;Sampled=1",
		"Root=1-4bf92f35-77b34da6a3ce929d0e0e473g;Parent=00f067aa0ba902b7;Sampled=1", "Root=1-00000000-000000000000000000000000;Parent=00f067aa0ba902b7;Sampled=1",
		"Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=0000000000000000;Sampled=1",
	} {
		if got := telemetry.FromXRay(bad); got != "" {
			t.Errorf("%q as %q", bad, got)
		}
	}
	if got := string(telemetry.AppendXRay(nil, "x")); got != "" {
		t.Errorf("of no context: %q", got)
	}
	const id = "8476a536-e9f4-41e8-9739-2dfe598c3fcd"
	if got := string(telemetry.AppendXRayOf(nil, id)); got != "Root=1-8476a536-e9f441e897392dfe598c3fcd;Parent=97392dfe598c3fcd;Sampled=0" {
		t.Errorf("of a request: %s", got)
	}
	for _, bad := range []string{"", "x", id + "0", strings.ToUpper(id), strings.ReplaceAll(id, "-", "+"), "8476a536-e9f4-41e8-0000-2dfe598c3fcd", id[:35] + "\n"} {
		if got := string(telemetry.AppendXRayOf(nil, bad)); got != "" {
			t.Errorf("of the id %q: %q", bad, got)
		}
	}
}
