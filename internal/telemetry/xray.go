package telemetry

import "strings"

// X-Ray's form of a trace context is what Lambda's runtimes know: "Root=1-<8 hex>-<24 hex>;Parent=<16 hex>;Sampled=0 or 1". Root's
// two numbers side by side are W3C's trace id, so the two forms have the same digits.

// AppendXRay appends X-Ray's form of a traceparent; nothing for one that is not valid. With room in dst it allocates nothing.
func AppendXRay(dst []byte, traceparent string) []byte {
	if !(Parent{Traceparent: traceparent}).Valid() {
		return dst
	}
	sampled := byte('0')
	if odd(traceparent[flagsFrom+1]) {
		sampled = '1'
	}
	return appendXRay(dst, traceparent[traceFrom:traceFrom+8], traceparent[traceFrom+8:traceTo], traceparent[spanFrom:spanTo], sampled)
}

// AppendXRayOf appends what the function of a call sees that belongs to no trace: Lambda gives every call such an id, and runtimes and
// libraries count on it. It is made of the digits of the request id, a UUID: so it costs no randomness and no allocation, and an id in a function's own log
// leads back to the call. It says that it is not sampled, as Lambda's does where nobody traces, and is no traceparent: a
// function with an exporter of its own would take that for the word of a caller, and record nothing. Nothing is appended for what is no UUID.
func AppendXRayOf(dst []byte, requestID string) []byte {
	// 8-4-4-4-12, of which the last 16 digits are never all zeros: they begin with the variant
	s := requestID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' ||
		!lowerHex(s[:8]) || !lowerHex(s[9:13]) || !lowerHex(s[14:18]) || !someHex(s[19:23]) || !lowerHex(s[24:]) {
		return dst
	}
	dst = append(dst, "Root=1-"...)
	dst = append(dst, s[:8]...)
	dst = append(dst, '-')
	dst = append(dst, s[9:13]...)
	dst = append(dst, s[14:18]...)
	dst = append(dst, s[19:23]...)
	dst = append(dst, s[24:]...)
	dst = append(dst, ";Parent="...)
	dst = append(dst, s[19:23]...)
	dst = append(dst, s[24:]...)
	return append(dst, ";Sampled=0"...)
}

func appendXRay(dst []byte, first, rest, parent string, sampled byte) []byte {
	dst = append(dst, "Root=1-"...)
	dst = append(dst, first...)
	dst = append(dst, '-')
	dst = append(dst, rest...)
	dst = append(dst, ";Parent="...)
	dst = append(dst, parent...)
	dst = append(dst, ";Sampled="...)
	return append(dst, sampled)
}

// FromXRay is the traceparent of a header in X-Ray's form; "" if it names no parent (as load balancers send it), leaves open
// whether it is sampled, or is something else.
func FromXRay(value string) string {
	var root, parent, sampled string
	for field := range strings.SplitSeq(value, ";") {
		name, v, _ := strings.Cut(strings.TrimSpace(field), "=")
		switch name {
		case "Root":
			root = v
		case "Parent":
			parent = v
		case "Sampled":
			sampled = v
		}
	}
	if len(root) != 35 || root[:2] != "1-" || root[10] != '-' || len(parent) != 16 || sampled != "0" && sampled != "1" {
		return ""
	}
	p := Parent{Traceparent: strings.ToLower("00-" + root[2:10] + root[11:] + "-" + parent + "-0" + sampled)}
	return p.Checked().Traceparent
}
