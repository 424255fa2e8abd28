package worker_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker"
)

// sink keeps lines.
type sink struct {
	mu    sync.Mutex
	lines []worker.Line
	text  []string
}

func (s *sink) take(l worker.Line) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kind := "function"
	if l.Platform {
		kind = "platform"
	}
	text := string(l.Text)
	l.Text = nil
	s.lines = append(s.lines, l)
	s.text = append(s.text, kind+" "+text)
}

func (s *sink) has(want string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, text := range s.text {
		if strings.Contains(text, want) {
			return true
		}
	}
	return false
}

func TestLines(t *testing.T) {
	t.Parallel()
	s := &sink{}
	b := setup(t, func(c *worker.Config) { c.Lines = s.take })
	binding := b.binding(func(b *schema.Binding) { b.Tenant = "acme" })
	b.made("e1", binding)
	run := b.run("e1", binding, quoted("say \x1b[31mred"))
	b.worker.Start(run)
	b.answer(run)
	b.worker.End("e1")
	b.awaitEvent("e1", schema.EnvironmentGone, 1)
	for _, want := range []string{"function init done", "platform START RequestId: " + run.Call.RequestID + " Version: 7",
		"function \x1b[31mred", "platform END RequestId: ", "platform REPORT RequestId: ", "function and without an end"} {
		if !s.has(want) {
			t.Errorf("no line %q among %q", want, s.text)
		}
	}
	for i, l := range s.lines {
		if l.Environment != "e1" || l.Account != "default" || l.Function != "echo" || l.Version != "7" || l.Tenant != "acme" || l.Time.IsZero() {
			t.Errorf("line %+v", l)
		}
		if during := strings.Contains(s.text[i], "START") || strings.Contains(s.text[i], "END"); during && l.RequestID != run.Call.RequestID {
			t.Errorf("line %q of request %q", s.text[i], l.RequestID)
		}
	}
}

// TestLongLines cuts a line where it is too long, and loses nothing of it.
func TestLongLines(t *testing.T) {
	t.Parallel()
	s := &sink{}
	b := setup(t, func(c *worker.Config) { c.Lines, c.LogRate = s.take, 64<<20 })
	binding := b.binding()
	b.made("e1", binding)
	n := 2*worker.MaxLine + 10
	b.call("e1", binding, quoted(fmt.Sprintf("line %d", n)))
	b.worker.End("e1")
	b.awaitEvent("e1", schema.EnvironmentGone, 1)
	var got []int
	for i, text := range s.text {
		if l := strings.Count(text, "l"); strings.HasPrefix(text, "function l") {
			got = append(got, l)
			if s.lines[i].Cut != (l == worker.MaxLine) {
				t.Errorf("line of %d bytes: cut is %v", l, s.lines[i].Cut)
			}
		}
	}
	if fmt.Sprint(got) != fmt.Sprint([]int{worker.MaxLine, worker.MaxLine, 10}) {
		t.Errorf("pieces of %v bytes", got)
	}
}

// TestLogRate drops what is more than the rate, counts it, says so, and holds up nobody.
func TestLogRate(t *testing.T) {
	t.Parallel()
	s := &sink{}
	b := setup(t, func(c *worker.Config) { c.Lines, c.LogRate = s.take, 64<<10 })
	binding := b.binding()
	b.made("e1", binding)
	b.call("e1", binding, quoted("flood 2000"))
	b.await("the flood to be over", func() bool { return b.worker.Counters().LogBytesDropped > 0 })
	dropped := b.worker.Counters().LogBytesDropped
	if dropped < 1<<20 || dropped > 2000<<10 {
		t.Errorf("%d bytes were dropped of 2,000 KiB", dropped)
	}
	// The rate comes back with time, and with the next line that passes what was dropped is said.
	for tries := 0; !s.has("bytes of output were dropped: more than 65536 a second"); tries++ {
		if tries == 1000 {
			t.Fatal("nobody said that output was dropped")
		}
		b.call("e1", binding, quoted("say more"))
	}
}
