//go:build linux && (amd64 || arm64)

package worker_test

import (
	"strings"
	"testing"
	"time"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker"
)

// TestTimeoutEndsTheTree: a call over its time takes everything with it that it started, also what hid in a session of its own.
func TestTimeoutEndsTheTree(t *testing.T) {
	t.Parallel()
	b := sandboxed(t)
	binding := b.binding()
	b.made("e1", binding)
	word := "tree-" + t.TempDir()
	b.call("e1", binding, quoted("daemon "+word))
	b.awaitEvent("e1", schema.EnvironmentParked, 2)
	if pids := processes(t, word); len(pids) != 1 {
		t.Fatalf("processes %v", pids)
	}
	run := b.run("e1", binding, quoted("hang"))
	run.Call.Timeout = 50 * time.Millisecond
	b.worker.Start(run)
	m, _ := b.answer(run)
	functionError(t, m, `{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: `+run.Call.RequestID+` Error: Task timed out after 0.05 seconds"}`)
	b.awaitEvent("e1", schema.EnvironmentGone, 1)
	if pids := processes(t, word); len(pids) != 0 {
		t.Errorf("processes %v are left", pids)
	}
}

// TestMemoryIsReported: REPORT has the most memory that the environment took, and none where nobody knows.
func TestMemoryIsReported(t *testing.T) {
	t.Parallel()
	used := func(b *bench, s *sink, payloads ...string) (seen []int) {
		binding := b.binding(func(b *schema.Binding) { b.MemoryMB = 1024 }) // the race detector takes its share
		b.made("e1", binding)
		for i, payload := range payloads {
			b.call("e1", binding, payload)
			b.awaitEvent("e1", schema.EnvironmentParked, i+2)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for i, l := range s.lines {
			// A report stands here once for each of its lines of text.
			if known := strings.Contains(s.text[i], "Max Memory Used: "); l.Kind == schema.LogReport && strings.Contains(s.text[i], " REPORT ") {
				if known != (l.UsedMB > 0) {
					t.Errorf("%q of %d MB", s.text[i], l.UsedMB)
				}
				seen = append(seen, l.UsedMB)
			}
		}
		return seen
	}
	s := &sink{}
	if seen := used(sandboxed(t, func(c *worker.Config) { c.Lines = s.open }), s, quoted("take 48"), "1"); len(seen) != 2 || seen[0] < 48 || seen[0] > 1024 ||
		seen[1] < seen[0] {
		t.Errorf("%v MB", seen)
	}
	s = &sink{}
	if seen := used(setup(t, func(c *worker.Config) { c.Lines = s.open }), s, "1"); len(seen) != 1 || seen[0] != 0 {
		t.Errorf("%v MB of a process that nobody measures", seen)
	}
}

// TestStockIsCounted: what the driver keeps ready is among the worker's counters.
func TestStockIsCounted(t *testing.T) {
	t.Parallel()
	b := sandboxed(t)
	natstest.Eventually(t, patience, func() bool { return b.worker.Counters().Stock.Ready > 0 }, "one is ready")
	b.made("e1", b.binding())
	counted, told := b.worker.Counters().Stock, b.worker.Stock()
	if counted.Taken != 1 || counted.Built == 0 || told.Taken != 1 || told.Made < counted.Built {
		t.Errorf("counted %+v, told %+v", counted, told)
	}
	if other := setup(t).worker.Stock(); other != nil {
		t.Errorf("processes: %+v", other)
	}
}
