package frontend

// traceContext keeps a W3C trace context that is well formed, and drops any other: a caller's broken tracing must not
// break its call.
func traceContext(parent, state string) (string, string) {
	if !validTraceparent(parent) {
		return "", ""
	}
	if len(state) > maxTracestate {
		state = ""
	}
	return parent, state
}

// maxTracestate is how much of a tracestate W3C asks everybody to carry.
const maxTracestate = 512

// validTraceparent reports whether s is a traceparent of W3C's version 00, or of a later one in its first four fields.
func validTraceparent(s string) bool {
	const size = len("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	if len(s) < size || len(s) > 512 || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return false
	}
	version := s[:2]
	if version == "ff" || len(s) > size && (version == "00" || s[size] != '-') {
		return false
	}
	const zero = "00000000000000000000000000000000"
	trace, span := s[3:35], s[36:52]
	return lowerHex(version) && lowerHex(trace) && lowerHex(span) && lowerHex(s[53:55]) && trace != zero && span != zero[:16]
}

func lowerHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; !('0' <= c && c <= '9' || 'a' <= c && c <= 'f') {
			return false
		}
	}
	return true
}
