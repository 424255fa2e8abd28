package frontend

import (
	"runtime"
	"strings"
	"testing"
)

// A failure's name is found where runtimes write it, whatever else a function answers, and looking for it costs no more for an answer of megabytes.
func TestErrorTypeIsLookedForWithinBounds(t *testing.T) {
	long := strings.Repeat("x", 6<<20)
	for body, want := range map[string]string{
		`{"errorType":"TypeError","trace":["` + long + `"]}`:            "TypeError",
		`{"errorMessage":"no","errorType":"ValueError","requestId":""}`: "ValueError",
		`{"trace":[{"errorType":"Inner"}],"errorType":"Outer"}`:         "Outer",
		`{"errorMessage":"` + long + `","errorType":"Behind"}`:          "",
		`{"errorType":7}`: "", `{"errorType":`: "", `["errorType","A"]`: "", `"errorType"`: "", ``: "", `{}`: "", "{\"a\":1,": "",
		`{"errorType":"` + long: "", strings.Repeat("[", 1<<20): "", `{"a":` + strings.Repeat("[", 1<<20): "",
	} {
		if got := errorType([]byte(body)); got != want {
			t.Errorf("%.60q: %q, want %q", body, got, want)
		}
	}
	body := []byte(`{"errorMessage":"` + long + `","errorType":"Behind"}`)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const runs = 10
	for range runs {
		errorType(body)
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / runs; each > 128<<10 {
		t.Errorf("%d bytes are allocated to look into an answer of %d", each, len(body))
	}
}
