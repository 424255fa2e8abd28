package worker_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker"
	"github.com/hearth-run/hearth/worker/driver/null"
)

func TestCall(t *testing.T) {
	t.Parallel()
	b := setup(t)
	binding := b.binding()
	b.made("e1", binding)
	if ev := b.awaitEvent("e1", schema.EnvironmentParked, 1); ev.InitDuration <= 0 {
		t.Fatalf("init took %s", ev.InitDuration)
	}
	run := b.run("e1", binding, `{"a":1}`)
	run.Start, run.InitDuration = schema.StartCold, 80*time.Millisecond
	b.worker.Start(run)
	m, o := b.answer(run)
	if string(m.Data) != `{"a":1}` || m.Subject != run.Call.Reply || !o.Reusable || o.Error != nil {
		t.Fatalf("answer %q to %s, %+v", m.Data, m.Subject, o)
	}
	want := map[string]string{
		"Content-Type": "application/json", "Hearth-Request-Id": run.Call.RequestID, "Hearth-Executed-Version": "7",
		"Hearth-Environment": "e1", "Hearth-Manager": "m1", "Hearth-Arc": "u.17", "Hearth-Rank": "1",
		"Hearth-Reason": "unreserved", "Hearth-Start": "cold", "Hearth-Attempt": "1", "Hearth-Init-Duration": "80ms",
	}
	for name, value := range want {
		if got := m.Header[name]; !slices.Equal(got, []string{value}) {
			t.Errorf("%s: %q, want %q", name, got, value)
		}
	}
	if d, err := time.ParseDuration(m.Header.Get("Hearth-Duration")); err != nil || d <= 0 || d != o.Duration {
		t.Errorf("Hearth-Duration: %q (%v), want %s", m.Header.Get("Hearth-Duration"), err, o.Duration)
	}
	if len(m.Header) != len(want)+1 {
		t.Errorf("headers %v", m.Header)
	}
	// A lean runtime asks with its answer: parked is told between the end and the answer.
	b.awaitEvent("e1", schema.EnvironmentParked, 2)
	b.mu.Lock()
	order := b.order[len(b.order)-3:]
	b.mu.Unlock()
	if !slices.Equal(order, []string{"ended " + run.Call.RequestID, "parked e1", "answer " + run.Call.RequestID}) {
		t.Errorf("order %v", order)
	}
	// Warm, by another payload, many times.
	for range 20 {
		m, _ := b.call("e1", binding, `"again"`)
		if string(m.Data) != `"again"` || m.Header.Get("Hearth-Start") != "warm" || m.Header.Get("Hearth-Init-Duration") != "" {
			t.Fatalf("answer %q, %v", m.Data, m.Header)
		}
	}
	if c := b.worker.Counters(); c.Started != 21 || c.Answered != 21 || c.Made != 1 || c.BindingMismatches != 0 {
		t.Errorf("counters %+v", c)
	}
}

// TestWhatTheFunctionSees looks at headers that come from callers.
func TestWhatTheFunctionSees(t *testing.T) {
	t.Parallel()
	b := setup(t)
	binding := b.binding(perTenant, func(b *schema.Binding) { b.Variables = schema.Variables{"COLOUR": "blue"} })
	b.made("e1", binding)
	run := b.runFor("acme / 1", "e1", binding, quoted("headers"))
	run.Call.Qualifier = "live"
	run.Call.ClientContext = []byte("{\"custom\":\n{\"k\":\"v\"}}\r\nX-Evil: 1")
	run.Call.Traceparent = "00-5bef4de7ad49b0e87f6ef6c87fc2e700-9a9197af755a6419-01"
	b.worker.Start(run)
	m, _ := b.answer(run)
	var seen http.Header
	if err := json.Unmarshal(m.Data, &seen); err != nil {
		t.Fatalf("%s: %v", m.Data, err)
	}
	for name, want := range map[string]string{
		"Lambda-Runtime-Aws-Request-Id":       run.Call.RequestID,
		"Lambda-Runtime-Invoked-Function-Arn": schema.ARN("default", "echo", "live"),
		"Lambda-Runtime-Client-Context":       `{"custom": {"k":"v"}}  X-Evil: 1`,
		"Lambda-Runtime-Trace-Id":             "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1",
		"Lambda-Runtime-Aws-Tenant-Id":        "acme / 1",
		"Content-Type":                        "application/json",
	} {
		if got := seen[name]; !slices.Equal(got, []string{want}) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if m.Header.Get("Hearth-Tenant") != "acme / 1" {
		t.Errorf("headers %v", m.Header)
	}
	next := b.runFor("acme / 1", "e1", binding, quoted("variable COLOUR"))
	b.worker.Start(next)
	if m, _ := b.answer(next); string(m.Data) != `"blue"` {
		t.Errorf("variable: %s", m.Data)
	}
}

func TestFunctionErrors(t *testing.T) {
	t.Parallel()
	b := setup(t)
	binding := b.binding()
	b.made("e1", binding)
	m, o := b.call("e1", binding, quoted("fail"))
	functionError(t, m, `{"errorType":"Fn.Asked", "errorMessage":"as asked"}`) // byte for byte
	if !o.Reusable || o.Error.Type != "Fn.Asked" || !o.Error.Posted {
		t.Fatalf("outcome %+v", o)
	}
	b.awaitEvent("e1", schema.EnvironmentParked, 2)
	m, _ = b.call("e1", binding, quoted("twice"))
	if string(m.Data) != `"first"` {
		t.Fatalf("answered %s", m.Data)
	}
	b.awaitEvent("e1", schema.EnvironmentParked, 3)
	m, o = b.call("e1", binding, quoted("big 6291557"))
	functionError(t, m, `{"errorType":"Function.ResponseSizeTooLarge","errorMessage":"Response payload size (6291557 bytes) exceeded `+
		`maximum allowed payload size (6291556 bytes)."}`)
	if !o.Reusable {
		t.Fatal("a large answer does not end the environment")
	}
	b.awaitEvent("e1", schema.EnvironmentParked, 4)
	if m, _ := b.call("e1", binding, `"still here"`); string(m.Data) != `"still here"` {
		t.Fatalf("answered %s", m.Data)
	}
}

// TestEndsInACall ends environments in the middle of a call, in all ways: the caller is told, in Lambda's words, and the
// environment is gone.
func TestEndsInACall(t *testing.T) {
	t.Parallel()
	b := setup(t)
	timed := func(b *schema.Binding) { b.Timeout = 300 * time.Millisecond }
	for name, test := range map[string]struct {
		payload string
		change  func(*schema.Binding)
		want    string
	}{
		"exits":      {"exit 3", nil, `{"errorType":"Runtime.ExitError","errorMessage":"RequestId: ID Error: Runtime exited with error: exit status 3"}`},
		"exits well": {"exit 0", nil, `{"errorType":"Runtime.ExitError","errorMessage":"RequestId: ID Error: Runtime exited without providing a reason"}`},
		"killed":     {"signal", nil, `{"errorType":"Runtime.ExitError","errorMessage":"RequestId: ID Error: Runtime exited with error: signal: killed"}`},
		"times out":  {"hang", timed, `{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: ID Error: Task timed out after 0.30 seconds"}`},
		"cut off":    {"cut", nil, `{"errorType":"Runtime.TruncatedResponse","errorMessage":"The runtime cut its answer off"}`},
	} {
		t.Run(name, func(t *testing.T) {
			binding := b.binding()
			if test.change != nil {
				test.change(binding)
			}
			id := "e-" + strings.ReplaceAll(name, " ", "-")
			b.made(id, binding)
			run := b.run(id, binding, quoted(test.payload))
			b.worker.Start(run)
			m, o := b.answer(run)
			functionError(t, m, strings.ReplaceAll(test.want, "ID Error", run.Call.RequestID+" Error"))
			if o.Reusable {
				t.Error("reusable")
			}
			b.awaitEvent(id, schema.EnvironmentGone, 1)
		})
	}
}

// TestAnswersThenExits keeps the answer that a process wrote just before it ended.
func TestAnswersThenExits(t *testing.T) {
	t.Parallel()
	b := setup(t)
	binding := b.binding()
	b.made("e1", binding)
	m, _ := b.call("e1", binding, quoted("leave"))
	if string(m.Data) != `"left"` || m.Header.Get("Hearth-Function-Error") != "" {
		t.Fatalf("answer %q, %v", m.Data, m.Header)
	}
	b.awaitEvent("e1", schema.EnvironmentGone, 1)
}

// TestDoesNotReturn is an environment that answers and does not ask for the next call: its time-out goes on, and ends it.
func TestDoesNotReturn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	binding := b.binding(func(b *schema.Binding) { b.Timeout = 2 * time.Second }) // time to answer on a slow machine
	b.made("e1", binding)
	if m, o := b.call("e1", binding, quoted("stay")); string(m.Data) != `"stayed"` || !o.Reusable {
		t.Fatalf("answer %q, %+v", m.Data, o)
	}
	b.awaitEvent("e1", schema.EnvironmentGone, 1)
	if c := b.worker.Counters(); c.NotReturned != 1 || c.TimedOut != 0 {
		t.Fatalf("counters %+v", c)
	}
}

// TestMismatch sends calls to environments of something else: each kills the environment and is not run.
func TestMismatch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	binding := b.binding(perTenant)
	for name, change := range map[string]func(*schema.Run){
		"function id":   func(r *schema.Run) { r.Call.FunctionID = "f-2" },
		"version":       func(r *schema.Run) { r.Call.Version = "8" },
		"code":          func(r *schema.Run) { r.Call.CodeSHA256 = strings.Repeat("0", 64) },
		"configuration": func(r *schema.Run) { r.Call.ConfigRevision = 4 },
		"tenant":        func(r *schema.Run) { r.Call.Tenant = "b" }, // unlike the subject
		"no tenant":     func(r *schema.Run) { r.Call.Tenant = "" },
		"account":       func(r *schema.Run) { r.Call.Account = "other" },
		"function":      func(r *schema.Run) { r.Call.Function = "other" },
		"subject": func(r *schema.Run) {
			r.Subject = b.names.UnreservedCall(17, "default", "echo", "7", "b")
		},
		"subject's version": func(r *schema.Run) { r.Subject = b.names.UnreservedCall(17, "default", "echo", "8", "a") },
		"no subject":        func(r *schema.Run) { r.Subject = "hearth.arc.u.17" },
	} {
		t.Run(name, func(t *testing.T) {
			before := b.worker.Counters()
			id := "e-" + strings.ReplaceAll(name, " ", "-")
			b.made(id, binding)
			run := b.runFor("a", id, binding, `1`)
			change(run)
			b.worker.Start(run)
			m, o := b.answer(run)
			functionError(t, m, `{"errorType":"Hearth.BindingMismatch","errorMessage":"The call met an environment that is bound to `+
				`something else; it was not run"}`)
			if o.Reusable {
				t.Error("reusable")
			}
			b.awaitEvent(id, schema.EnvironmentGone, 1)
			if after := b.worker.Counters(); after.BindingMismatches != before.BindingMismatches+1 || after.Started != before.Started {
				t.Errorf("counters %+v", after)
			}
		})
	}
	// The same call on a reserved arc, whose subjects name no tenant, is fine.
	b.made("reserved", binding)
	run := b.runFor("a", "reserved", binding, `1`)
	run.Subject = b.names.ReservedCall(3, "default", "echo", "7", 9)
	b.worker.Start(run)
	if m, _ := b.answer(run); string(m.Data) != `1` {
		t.Errorf("answer %s", m.Data)
	}
}

func TestRefuse(t *testing.T) {
	t.Parallel()
	b := setup(t)
	run := b.run("", b.binding(), `1`)
	b.worker.Refuse(run, &schema.FunctionError{Type: "Runtime.ExitError", Message: "Runtime exited with error: exit status 1"})
	m, _ := b.answer(run)
	functionError(t, m, `{"errorType":"Runtime.ExitError","errorMessage":"RequestId: `+run.Call.RequestID+
		` Error: Runtime exited with error: exit status 1"}`)
	for _, name := range []string{"Hearth-Environment", "Hearth-Duration"} {
		if m.Header.Get(name) != "" {
			t.Errorf("%s: %q", name, m.Header.Get(name))
		}
	}
	run = b.run("", b.binding(), `1`)
	run.Ended = nil
	b.worker.Refuse(run, &schema.FunctionError{Type: "X", Body: []byte(`posted`)})
	b.await("the answer", func() bool { return len(b.answers[run.Call.RequestID]) == 1 })
}

// TestLostEnvironment starts a call in an environment that is gone: it is answered, not run.
func TestLostEnvironment(t *testing.T) {
	t.Parallel()
	b := setup(t)
	m, o := b.call("nowhere", b.binding(), `1`)
	functionError(t, m, `{"errorType":"Hearth.ExecutionLost","errorMessage":"The environment ended before the call could begin; it was not run"}`)
	if o.Reusable {
		t.Error("reusable")
	}
}

// TestCannotBeTold gives the runtime nothing that could begin a header of its own; the environment lives on.
func TestCannotBeTold(t *testing.T) {
	t.Parallel()
	b := setup(t)
	binding := b.binding()
	b.made("e1", binding)
	run := b.run("e1", binding, `1`)
	run.Call.Qualifier = "live\r\nContent-Length: 0"
	b.worker.Start(run)
	m, o := b.answer(run)
	if m.Header.Get("Hearth-Function-Error") == "" || !o.Reusable {
		t.Fatalf("answer %q, %+v", m.Data, o)
	}
	b.awaitEvent("e1", schema.EnvironmentParked, 2)
	if m, _ := b.call("e1", binding, `2`); string(m.Data) != `2` {
		t.Fatalf("answer %q", m.Data)
	}
}

// TestNATSRefusesTheAnswer answers something else then: never nothing.
func TestNATSRefusesTheAnswer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	binding := b.binding()
	b.made("e1", binding)
	limit := func(m *nats.Msg) error {
		if len(m.Data) > 1000 {
			return nats.ErrMaxPayload
		}
		return nil
	}
	b.publish.Store(&limit)
	m, _ := b.call("e1", binding, quoted("big 2000"))
	functionError(t, m, `{"errorType":"Function.ResponseSizeTooLarge","errorMessage":"Response payload size (2000 bytes) exceeded the `+
		`maximum payload size of the NATS server."}`)
	if m.Header.Get("Hearth-Environment") != "e1" {
		t.Errorf("headers %v", m.Header)
	}
	broken := func(*nats.Msg) error { return errBroken }
	b.publish.Store(&broken)
	run := b.run("e1", binding, `1`)
	b.worker.Start(run)
	b.await("its end", func() bool { return len(b.ended[run.Call.RequestID]) == 1 })
	b.awaitEvent("e1", schema.EnvironmentParked, 3)
	// The environment is offered before the answer goes out.
	natstest.Eventually(t, patience, func() bool { return b.worker.Counters().Unanswered == 1 }, "the answer is refused")
	b.publish.Store(nil)
	run = b.run("e1", binding, `1`)
	run.Call.Reply = "$JS.API.STREAM.DELETE.X" // a frontend would have refused it
	b.worker.Start(run)
	b.awaitEvent("e1", schema.EnvironmentParked, 4)
	if m, _ := b.call("e1", binding, `2`); string(m.Data) != `2` {
		t.Fatalf("answer %q", m.Data)
	}
	natstest.Eventually(t, patience, func() bool { return b.worker.Counters().Unanswered == 2 }, "both are counted")
}

// TestNull runs calls in environments that answer by themselves, many waiting: the manager starts the next one whenever it
// hears that it is parked.
func TestNull(t *testing.T) {
	t.Parallel()
	d := null.New()
	b := setup(t, func(c *worker.Config) { c.Driver, c.CacheDir, c.Code = d, "", nil })
	binding := b.binding()
	const calls = 10_000
	left := calls
	done := make(chan struct{})
	b.worker.Make("e1", binding, func(ev schema.EnvironmentEvent) {
		switch {
		case ev.Kind == schema.EnvironmentGone:
			close(done)
		case left > 0:
			left--
			run := b.run("e1", binding, `"x"`)
			run.Ended = func(*schema.Run, *schema.Outcome) {}
			b.worker.Start(run)
		default:
			b.worker.End("e1")
		}
	})
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%d calls are left", left)
	}
	if n := b.worker.Counters().Answered; n != calls {
		t.Fatalf("%d of %d calls were answered", n, calls)
	}
}

// TestTail asks for the log of a call.
func TestTail(t *testing.T) {
	t.Parallel()
	b := setup(t)
	binding := b.binding(func(b *schema.Binding) { b.Timeout = time.Minute })
	b.made("e1", binding)
	tailed := func(payload string) string {
		t.Helper()
		run := b.run("e1", binding, quoted(payload))
		run.Call.LogTail = true
		b.worker.Start(run)
		m, o := b.answer(run)
		text, err := base64.StdEncoding.DecodeString(m.Header.Get("Hearth-Log-Result"))
		if err != nil || string(text) != string(o.LogTail) {
			t.Fatalf("tail %q and %q: %v", text, o.LogTail, err)
		}
		// What the init said may still have been in the pipe.
		return strings.ReplaceAll(strings.Replace(string(text), "init done\n", "", 1), run.Call.RequestID, "ID")
	}
	// A loaded machine may read the pipe too late for a call; then the next one shows it.
	until := func(payload string, good func(string) bool) {
		t.Helper()
		got := ""
		for range 100 {
			if got = tailed(payload); good(got) {
				return
			}
		}
		t.Errorf("%s: tail of %d bytes: %.600q", payload, len(got), got)
	}
	head := "START RequestId: ID Version: 7\nhello\nand without an end\nEND RequestId: ID\nREPORT RequestId: ID\tDuration: "
	until("say hello", func(got string) bool {
		return strings.HasPrefix(got, head) && strings.HasSuffix(got, "\tMemory Size: 128 MB\t\n")
	})
	until("flood 20", func(got string) bool {
		const ids = 2 * (36 - len("ID")) // as long as they were
		return len(got)+ids == 4096 && strings.Contains(got, strings.Repeat("f", 1023)+"\nEND RequestId: ID\nREPORT")
	})
	got := tailed("exit 3")
	if !strings.HasSuffix(got, "Status: error\tError Type: Runtime.ExitError\nRequestId: ID Error: Runtime exited with error: "+
		"exit status 3\nRuntime.ExitError\n") {
		t.Errorf("tail %q", got)
	}
}
