package telemetry

import (
	"strings"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
)

// What stands in attributes is input from strangers: names, subjects, errors. One string that is not UTF-8 would have the collector
// refuse the whole batch, those of others too, and OTLP bounds nothing.
const (
	maxText = 512 // bytes of one value or message
	maxType = 128 // bytes of an error's type
)

// unnamed is the type of an error that names itself in a way that is no name.
const unnamed = "Unhandled"

// text is s as an attribute may hold it: valid UTF-8, at most [maxText] bytes. What is so already is not copied.
func text(s string) string {
	if len(s) <= maxText && utf8.ValidString(s) {
		return s
	}
	// Three bytes of a replacement take the place of one, so what is cut is cut after that.
	s = strings.ToValidUTF8(s[:min(len(s), maxText)], "\uFFFD")
	if len(s) <= maxText {
		return s
	}
	to := maxText
	for !utf8.RuneStart(s[to]) {
		to--
	}
	return s[:to]
}

// clean makes the strings among attributes such, in place.
func clean(attrs []attribute.KeyValue) []attribute.KeyValue {
	for i := range attrs {
		if v := &attrs[i]; v.Value.Type() == attribute.STRING {
			if s := v.Value.AsString(); len(s) > maxText || !utf8.ValidString(s) {
				v.Value = attribute.StringValue(text(s))
			}
		}
	}
	return attrs
}

// ErrorName is what a function calls its failure, as the type of an error: its own name, where it is one (letters, digits and
// "._:$-", at most 128 bytes), else "Unhandled". So a function puts no payload there, and no new value with each call unless it
// means to.
func ErrorName(s string) string {
	if s == "" || len(s) > maxType {
		return unnamed
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == ':', c == '$', c == '-':
		default:
			return unnamed
		}
	}
	return s
}
