package telemetry

import (
	"encoding/hex"

	api "go.opentelemetry.io/otel/trace"
)

// Parent is the W3C trace context under which a span starts: the two headers as they crossed the wire. The zero value is
// none. It is read and written by hand: OpenTelemetry's propagator allocates, and a call that only passes through has nothing
// to allocate for (a test holds the two against one another).
type Parent struct {
	Traceparent string
	Tracestate  string
}

// Where the parts of a traceparent lie: 00-<32 hex>-<16 hex>-<2 hex>.
const (
	traceFrom, traceTo = 3, 35
	spanFrom, spanTo   = 36, 52
	flagsFrom, wholeTo = 53, 55
)

// maxTracestate is how much of a tracestate W3C asks everybody to carry; a longer one is dropped.
const maxTracestate = 512

// Valid reports whether p is a context that W3C's rules accept. Anything else starts a trace of its own.
func (p Parent) Valid() bool {
	s := p.Traceparent
	if len(s) < wholeTo || s[2] != '-' || s[traceTo] != '-' || s[spanTo] != '-' || !lowerHex(s[:2]) || s[:2] == "ff" ||
		!someHex(s[traceFrom:traceTo]) || !someHex(s[spanFrom:spanTo]) || !lowerHex(s[flagsFrom:wholeTo]) {
		return false
	}
	if s[:2] == "00" {
		return len(s) == wholeTo && s[flagsFrom] == '0' && s[flagsFrom+1] <= '3'
	}
	return len(s) == wholeTo || s[wholeTo] == '-' // a later version of the recommendation, which may have more behind it
}

// Checked is p as it may be passed on, in a header too: nothing where it is not valid, its known part where it is of a later
// version than ours, and without a tracestate that is longer than W3C asks to carry or no line of a header. The traceparent of what
// comes back is of version 00 and 55 bytes. Broken tracing breaks no call.
func (p Parent) Checked() Parent {
	if !p.Valid() {
		return Parent{}
	}
	if p.Traceparent[:2] != "00" {
		flags := "00"
		if odd(p.Traceparent[flagsFrom+1]) {
			flags = "01"
		}
		p.Traceparent = "00" + p.Traceparent[2:flagsFrom] + flags
	}
	if !headerLine(p.Tracestate) {
		p.Tracestate = ""
	}
	return p
}

func headerLine(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return len(s) <= maxTracestate
}

// context is the remote span of p; the zero value where p is not valid. A tracestate that cannot be read is left out.
func (p Parent) context() api.SpanContext {
	if !p.Valid() {
		return api.SpanContext{}
	}
	s := p.Traceparent
	var c api.SpanContextConfig
	var flags [1]byte
	// Valid has seen that these are hex.
	_, _ = hex.Decode(c.TraceID[:], []byte(s[traceFrom:traceTo]))
	_, _ = hex.Decode(c.SpanID[:], []byte(s[spanFrom:spanTo]))
	_, _ = hex.Decode(flags[:], []byte(s[flagsFrom:wholeTo]))
	c.TraceFlags = api.TraceFlags(flags[0]) & (api.FlagsSampled | api.FlagsRandom)
	if p.Tracestate != "" {
		c.TraceState, _ = api.ParseTraceState(p.Tracestate)
	}
	c.Remote = true
	return api.NewSpanContext(c)
}

// parentOf is a span as the parent of others.
func parentOf(c api.SpanContext) Parent {
	if !c.IsValid() {
		return Parent{}
	}
	trace, span, flags := c.TraceID(), c.SpanID(), [1]byte{byte(c.TraceFlags() & (api.FlagsSampled | api.FlagsRandom))}
	var b [wholeTo]byte
	copy(b[:], "00-")
	hex.Encode(b[traceFrom:], trace[:])
	b[traceTo] = '-'
	hex.Encode(b[spanFrom:], span[:])
	b[spanTo] = '-'
	hex.Encode(b[flagsFrom:], flags[:])
	p := Parent{Traceparent: string(b[:])}
	if c.TraceState().Len() > 0 {
		p.Tracestate = c.TraceState().String()
	}
	return p
}

func lowerHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// someHex reports whether s is hex and not only zeros, which W3C keeps for "none".
func someHex(s string) bool {
	for i := range len(s) {
		if s[i] != '0' {
			return lowerHex(s)
		}
	}
	return false
}

// odd reports whether a hex digit has its lowest bit set, which says "sampled" in the flags.
func odd(digit byte) bool {
	if digit >= 'a' {
		return digit&1 == 0 // 'a' is ten, and an odd byte
	}
	return digit&1 == 1
}
