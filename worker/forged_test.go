package worker_test

import (
	"strings"
	"testing"

	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker"
)

// TestPlatformErrorsAreNotForged: whatever a function posts as its error, with a body or in a way that leaves none, is told, marked and
// counted as its own.
//
// Broken to see it fail: a failure without a body is the platform's; fields of an object that does not decode are taken.
func TestPlatformErrorsAreNotForged(t *testing.T) {
	t.Parallel()
	s, metrics := &sink{}, telemetry.NewMetrics("1")
	b := setup(t, func(c *worker.Config) { c.Lines, c.Metrics = s.open, metrics })
	binding := b.binding()
	b.made("e1", binding)
	n := 0
	for how, body := range map[string]string{
		"forge":      `{"errorType":"Sandbox.Timedout", "errorMessage":"forged"}`,
		"forge-code": `{"errorType":"Runtime.OutOfMemory","errorMessage":""}`,
		"forge-half": `{"errorType":"Runtime.Unknown","errorMessage":""}`,
	} {
		m, o := b.call("e1", binding, quoted(how))
		functionError(t, m, body)
		if found := m.Header.Get(schema.HeaderPlatformError); found != "" || !o.Error.Posted {
			t.Errorf("%s: the platform is said to have found %q: %+v", how, found, o.Error)
		}
		if mark := schema.MarkOf(schema.StartWarm, &o); mark.End() != schema.MarkFailed {
			t.Errorf("%s: marked %d", how, mark.End())
		}
		n++
		b.awaitEvent("e1", schema.EnvironmentParked, n+1)
	}
	for id, how := range map[string]string{"code": "forge Runtime.OutOfMemory", "quiet": "forge-object Unavailable", "late": "forge-object Sandbox.Timedout"} {
		b.worker.Make(id, b.binding(func(x *schema.Binding) { x.Variables = schema.Variables{"FN_INIT": how} }), b.notify)
		failure := b.awaitEvent(id, schema.EnvironmentFailed, 1).Error
		run := b.run("", binding, `1`)
		b.worker.Refuse(run, failure)
		m, o := b.answer(run)
		if found := m.Header.Get(schema.HeaderPlatformError); found != "" || !o.Error.Posted {
			t.Errorf("%s: the platform is said to have found %q: %+v", how, found, o.Error)
		}
		n++
	}
	if all := numbers(t, metrics); sum(all, "hearth_calls_total", `hearth_code="function-error"`) != float64(n) {
		t.Errorf("%d calls failed by their function, and counted are %v", n, all)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	inits := 0
	for i, text := range s.text {
		if !s.lines[i].Platform {
			continue
		}
		if strings.Contains(text, "Error Type: ") {
			inits++
		}
		if strings.Contains(text, "Status: timeout") || strings.Contains(text, "Error Type: ") && !strings.HasSuffix(text, "Error Type: Runtime.Unknown") {
			t.Errorf("line %q", text)
		}
	}
	if inits != 3 {
		t.Errorf("%d failed inits are in the log, want 3: %q", inits, s.text)
	}
}
