package lambdaapi

import (
	"net/http"
	"strings"

	"github.com/hearth-run/hearth/schema"
)

// readTrace takes in the caller's trace: W3C's header, or X-Ray's where there is none. Tracing never refuses a call;
// the frontend drops what is not well formed.
func readTrace(req *schema.Request, h http.Header) error {
	if values := h.Values("Traceparent"); len(values) == 1 {
		req.Traceparent, req.Tracestate = values[0], strings.Join(h.Values("Tracestate"), ",")
		return nil
	}
	req.Traceparent = fromXRay(h.Get("X-Amzn-Trace-Id"))
	return nil
}

// fromXRay turns "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1" into a traceparent; ""
// if it names no parent, is not sampled, or is something else.
func fromXRay(value string) string {
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
	part := strings.Split(root, "-")
	if len(part) != 3 || part[0] != "1" || len(part[1]) != 8 || len(part[2]) != 24 || len(parent) != 16 || sampled != "1" {
		return ""
	}
	return strings.ToLower("00-" + part[1] + part[2] + "-" + parent + "-01")
}
