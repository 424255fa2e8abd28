package worker_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker"
)

// sink keeps lines.
type sink struct {
	mu    sync.Mutex
	lines []schema.LogLine
	from  []worker.Source
	text  []string
}

// shelf is the sink of one environment.
type shelf struct {
	sink *sink
	from worker.Source
}

func (s *sink) open(from worker.Source) worker.Sink { return &shelf{s, from} }

func (o *shelf) Line(l schema.LogLine) {
	s := o.sink
	s.mu.Lock()
	defer s.mu.Unlock()
	kind := "function"
	if l.Platform {
		kind = "platform"
	}
	for _, text := range l.Texts(schema.LogFunction{Name: o.from.Function, Version: o.from.Version, Tenant: o.from.Tenant}) {
		s.lines = append(s.lines, l)
		s.from = append(s.from, o.from)
		s.text = append(s.text, kind+" "+text)
	}
}

func (s *sink) has(want string) bool { return s.count(want) > 0 }

func (s *sink) count(want string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, text := range s.text {
		if strings.Contains(text, want) {
			n++
		}
	}
	return n
}

func TestLines(t *testing.T) {
	t.Parallel()
	s := &sink{}
	b := setup(t, func(c *worker.Config) { c.Lines = s.open })
	binding := b.binding(perTenant)
	b.made("e1", binding)
	run := b.runFor("acme", "e1", binding, quoted("say \x1b[31mred"))
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
		// Those of the init, before any sub-tenant, are nobody's.
		want := worker.Source{Account: "default", Function: "echo", Version: "7", Tenant: "acme", Environment: "e1"}
		if s.text[i] == "function init done" || l.Kind == schema.LogInitStart {
			want.Tenant = ""
		}
		if s.from[i] != want || l.Time.IsZero() {
			t.Errorf("line %+v of %+v", l, s.from[i])
		}
		if during := strings.Contains(s.text[i], " START ") || strings.Contains(s.text[i], "END"); during && l.RequestID != run.Call.RequestID {
			t.Errorf("line %q of request %q", s.text[i], l.RequestID)
		}
	}
}

// TestLongLines cuts a line where it is too long, and loses nothing of it.
func TestLongLines(t *testing.T) {
	t.Parallel()
	s := &sink{}
	b := setup(t, func(c *worker.Config) { c.Lines, c.LogRate = s.open, 64<<20 })
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
	b := setup(t, func(c *worker.Config) { c.Lines, c.LogRate = s.open, 64<<10 })
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

// TestLinesBelongToTheirCall: what is written in a call has its id, what is written in the init has none; the last line of
// a call is its own though it has no end.
func TestLinesBelongToTheirCall(t *testing.T) {
	t.Parallel()
	s := &sink{}
	b := setup(t, func(c *worker.Config) { c.Lines = s.open })
	binding := b.binding()
	var wg conc.WaitGroup
	for e := range 8 {
		wg.Go(func() {
			id := fmt.Sprintf("e%d", e)
			b.made(id, binding)
			for range 50 {
				run := b.run(id, binding, "")
				run.Call.Payload = []byte(quoted("say I am " + run.Call.RequestID))
				b.worker.Start(run)
				b.answer(run)
				b.awaitEvent(id, schema.EnvironmentParked, 1)
			}
		})
	}
	wg.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	said := map[string]int{}
	for i, l := range s.lines {
		switch text := s.text[i]; {
		case strings.HasPrefix(text, "function I am "):
			if want := strings.TrimPrefix(text, "function I am "); l.RequestID != want {
				t.Errorf("%q has the request id %q", text, l.RequestID)
			}
			said["own"]++
		case text == "function and without an end":
			if l.RequestID == "" {
				t.Error("the last line of a call has no request id")
			}
			said["last"]++
		case text == "function init done" || strings.HasPrefix(text, "platform INIT_START Runtime Version: provided.al2023"):
			if l.RequestID != "" {
				t.Errorf("%q has the request id %q", text, l.RequestID)
			}
			said["init"]++
		}
	}
	if said["own"] != 400 || said["last"] != 400 || said["init"] != 16 {
		t.Errorf("lines: %v, want 400 own, 400 last, 16 of inits", said)
	}
}

// TestFailedInitIsInTheLog: that is when people look.
func TestFailedInitIsInTheLog(t *testing.T) {
	t.Parallel()
	s := &sink{}
	b := setup(t, func(c *worker.Config) { c.Lines = s.open })
	for how, wants := range map[string][]string{
		"exit 3":  {"INIT_REPORT Init Duration: ", "Error Type: Runtime.ExitError", "Runtime.ExitError: Runtime exited with error: exit status 3"},
		"error":   {"Error Type: Fn.Init"},
		"no code": {"Error Type: ResourceNotFoundException"},
	} {
		binding := b.binding(func(x *schema.Binding) { x.Variables = map[string]string{"FN_INIT": how} })
		if how == "no code" {
			binding.CodeSHA256 = strings.Repeat("0", 64)
		}
		b.worker.Make(how, binding, b.notify)
		b.awaitEvent(how, schema.EnvironmentFailed, 1)
		for _, want := range wants {
			if !s.has(want) {
				t.Errorf("%s: no line %q among %q", how, want, s.text)
			}
		}
	}
}

// TestPlatformLinesAreNotForged: what a function posts as its error changes no line of the platform's.
func TestPlatformLinesAreNotForged(t *testing.T) {
	t.Parallel()
	s := &sink{}
	b := setup(t, func(c *worker.Config) { c.Lines = s.open })
	binding := b.binding()
	b.made("e1", binding)
	b.call("e1", binding, quoted("forge"))
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, text := range s.text {
		if s.lines[i].Platform && strings.Contains(text, "forged") {
			t.Errorf("line %q", text)
		}
	}
}

// TestBudget: what waits of a line takes from the worker's bytes, at most a line's, and gives it back.
func TestBudget(t *testing.T) {
	t.Parallel()
	s := &sink{}
	b := setup(t, func(c *worker.Config) { c.Lines = s.open })
	binding := b.binding()
	b.made("e1", binding)
	run := b.run("e1", binding, quoted(fmt.Sprintf("open %d", 100<<10)))
	b.worker.Start(run)
	natstest.Eventually(t, patience, func() bool { return b.worker.Counters().BodyBytes == worker.MaxLine }, "the line is charged")
	b.worker.End("e1")
	b.answer(run)
	b.awaitEvent("e1", schema.EnvironmentGone, 1)
	if n := b.worker.Counters().BodyBytes; n != 0 {
		t.Errorf("%d bytes stay charged", n)
	}
}
