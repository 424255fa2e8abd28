package lambdaapi_test

import (
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hearth-run/hearth/frontend/lambdaapi"
	"github.com/hearth-run/hearth/schema"
)

// The id under which an event is taken once: the caller's, else that of an SDK's request, which its retries repeat.
func TestEventIDs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		header http.Header
		want   string
	}{
		{"none", nil, ""},
		{"the caller's", http.Header{"Nats-Msg-Id": {"order-7"}, "Amz-Sdk-Invocation-Id": {"8d2f9f3a-3a44-4d0b-9b3e-7a2c4a5f0001"}}, "order-7"},
		{"an SDK's", http.Header{"Amz-Sdk-Invocation-Id": {"8D2F9F3A-3a44-4d0b-9b3e-7a2c4a5f0001"}}, "sdk-8d2f9f3a-3a44-4d0b-9b3e-7a2c4a5f0001"},
		{"no SDK's", http.Header{"Amz-Sdk-Invocation-Id": {"all events of all callers"}}, ""},
	} {
		for _, path := range []string{"/2015-03-31/functions/f/invocations", "/2014-11-13/functions/f/invoke-async"} {
			i := &invoker{do: good}
			r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(`{"a":1}`))
			r.Header.Set("X-Amz-Invocation-Type", "Event")
			maps.Copy(r.Header, c.header)
			w := httptest.NewRecorder()
			lambdaapi.New(i).ServeHTTP(w, r)
			if w.Code != http.StatusAccepted || i.how != "Accept" || i.id != c.want || string(i.last.Payload) != `{"a":1}` {
				t.Errorf("%s, %s: %d %s, %s with id %q, want %q", c.name, path, w.Code, w.Body, i.how, i.id, c.want)
			}
		}
	}
}

// An event's bound is its own: a body without a length is read no further, and a call of that size is served.
func TestEventBodies(t *testing.T) {
	t.Parallel()
	body := `"` + strings.Repeat("x", schema.MaxEventPayload) + `"`
	for kind, want := range map[string]int{"Event": 413, "DryRun": 204, "RequestResponse": 200} {
		for _, chunked := range []bool{false, true} {
			r := httptest.NewRequest(http.MethodPost, "/2015-03-31/functions/f/invocations", io.NopCloser(strings.NewReader(body)))
			if !chunked {
				r.ContentLength = int64(len(body))
			}
			r.Header.Set("X-Amz-Invocation-Type", kind)
			i := &invoker{do: good}
			w := httptest.NewRecorder()
			lambdaapi.New(i).ServeHTTP(w, r)
			if w.Code != want || want == 413 && (i.last != nil || !strings.Contains(w.Body.String(), "too large for the Event invocation type (limit 1048576 bytes)")) {
				t.Errorf("%s, chunked %v: %d %.200s", kind, chunked, w.Code, w.Body)
			}
		}
	}
}
