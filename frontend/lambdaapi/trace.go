package lambdaapi

import (
	"net/http"
	"strings"

	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
)

// readTrace takes in the caller's trace: W3C's header, or X-Ray's where there is none, which AWS's SDKs send by themselves in a
// function. Tracing never refuses a call; the frontend drops what is not well formed.
func readTrace(req *schema.Request, h http.Header) error {
	if values := h.Values("Traceparent"); len(values) == 1 {
		req.Traceparent, req.Tracestate = values[0], strings.Join(h.Values("Tracestate"), ",")
		return nil
	}
	req.Traceparent = telemetry.FromXRay(h.Get("X-Amzn-Trace-Id"))
	return nil
}
