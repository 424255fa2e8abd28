package runtimeapi

import "strings"

// TraceID turns a W3C traceparent into the X-Ray form that runtimes are given: the same trace, span and sampling flag. It
// is "" for anything that is not a valid traceparent of version 00.
func TraceID(traceparent string) string {
	// 00-<32 hex>-<16 hex>-<2 hex>
	if len(traceparent) != 55 || traceparent[:3] != "00-" || traceparent[35] != '-' || traceparent[52] != '-' {
		return ""
	}
	trace, parent, flags := traceparent[3:35], traceparent[36:52], traceparent[53:]
	if !lowerHex(trace) || !lowerHex(parent) || !lowerHex(flags) ||
		strings.Trim(trace, "0") == "" || strings.Trim(parent, "0") == "" {
		return ""
	}
	sampled := "0"
	if strings.IndexByte("13579bdf", flags[1]) >= 0 {
		sampled = "1"
	}
	return "Root=1-" + trace[:8] + "-" + trace[8:] + ";Parent=" + parent + ";Sampled=" + sampled
}

func lowerHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
