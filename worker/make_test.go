package worker_test

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker"
	"github.com/hearth-run/hearth/worker/driver"
	"github.com/hearth-run/hearth/worker/driver/null"
	"github.com/hearth-run/hearth/worker/driver/process"
)

// TestInitFailures makes environments that do not come so far as to ask for a call: each says in Lambda's words why, no
// path of the host among them, and is gone.
func TestInitFailures(t *testing.T) {
	t.Parallel()
	b := setup(t)
	empty := b.store.put(t, map[string]string{"index.js": ""})
	noInterpreter := b.store.put(t, map[string]string{"bootstrap": "#!/no/such/interpreter\n"})
	garbage := b.store.put(t, map[string]string{"bootstrap": "\x00\x01 no program"})
	variable := func(value string) func(*schema.Binding) {
		return func(b *schema.Binding) { b.Variables = schema.Variables{"FN_INIT": value} }
	}
	code := func(sha string) func(*schema.Binding) {
		return func(b *schema.Binding) { b.CodeSHA256 = sha }
	}
	for name, test := range map[string]struct {
		change              func(*schema.Binding)
		kind, message, body string
	}{
		"exits":        {variable("exit 7"), "Runtime.ExitError", "Runtime exited with error: exit status 7", ""},
		"exits well":   {variable("exit 0"), "Runtime.ExitError", "Runtime exited without providing a reason", ""},
		"reports":      {variable("error"), "Fn.Init", "as asked", `{"errorType":"Fn.Init", "errorMessage":"as asked"}`},
		"no bootstrap": {code(empty), "Runtime.InvalidEntrypoint", "fork/exec /var/task/bootstrap: no such file or directory", ""},
		"no interpreter": {code(noInterpreter), "Runtime.InvalidEntrypoint", "fork/exec /var/task/bootstrap: no such file or directory",
			""},
		"no program": {code(garbage), "Runtime.InvalidEntrypoint", "fork/exec /var/task/bootstrap: exec format error", ""},
		"over time": {func(b *schema.Binding) {
			b.Variables, b.InitTimeout = schema.Variables{"FN_INIT": "hang"}, 200*time.Millisecond
		}, "Runtime.InitError", "Init timed out after 0.20 seconds", ""},
		"no package": {code(strings.Repeat("0", 64)), "ResourceNotFoundException", "", ""},
		"no runtime": {func(b *schema.Binding) { b.Runtime = "cobol" }, "Runtime.Unavailable", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			id := "e-" + strings.ReplaceAll(name, " ", "-")
			b.worker.Make(id, b.binding(test.change), b.notify)
			f := b.awaitEvent(id, schema.EnvironmentFailed, 1).Error
			if f.Type != test.kind || test.message != "" && f.Message != test.message || string(f.Body) != test.body {
				t.Fatalf("failure %s %q %s, want %s %q %s", f.Type, f.Message, f.Body, test.kind, test.message, test.body)
			}
			run := b.run("", b.binding(), `1`)
			b.worker.Refuse(run, f)
			m, _ := b.answer(run)
			if text := string(m.Data); strings.Contains(text, "cache") || test.body != "" && text != test.body {
				t.Errorf("the caller reads %s", text)
			}
		})
	}
	if c := b.worker.Counters(); c.InitFailures != c.Made {
		t.Errorf("counters %+v", c)
	}
}

// TestEnd ends environments in every phase; each tells its last event, and a call that ran is answered.
func TestEnd(t *testing.T) {
	t.Parallel()
	b := setup(t)
	hang := b.binding(func(b *schema.Binding) { b.Variables = schema.Variables{"FN_INIT": "hang"} })
	b.worker.Make("starting", hang, b.notify)
	b.worker.End("starting")
	if f := b.awaitEvent("starting", schema.EnvironmentFailed, 1).Error; f.Type != string(schema.CodeUnavailable) {
		t.Errorf("failure %+v", f)
	}
	binding := b.binding()
	b.made("idle", binding)
	b.worker.End("idle")
	b.worker.End("idle")
	b.awaitEvent("idle", schema.EnvironmentGone, 1)
	b.made("busy", binding)
	run := b.run("busy", binding, quoted("hang"))
	b.worker.Start(run)
	b.worker.End("busy")
	m, o := b.answer(run)
	functionError(t, m, `{"errorType":"Runtime.ExitError","errorMessage":"RequestId: `+run.Call.RequestID+
		` Error: Runtime exited with error: signal: killed"}`)
	if o.Reusable {
		t.Error("reusable")
	}
	b.awaitEvent("busy", schema.EnvironmentGone, 1)
	b.worker.End("never made")
}

// slow is a driver whose start of a function goes on until the environment ends.
type slow struct{ driver.Driver }

func (s slow) New(ctx context.Context, spec driver.Spec) (driver.Environment, error) {
	e, err := s.Driver.New(ctx, spec)
	return slowEnvironment{e}, err
}

type slowEnvironment struct{ driver.Environment }

func (e slowEnvironment) Start(ctx context.Context, cmd driver.Command, to io.Writer) error {
	if err := e.Environment.Start(ctx, cmd, to); err != nil {
		return err
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

// TestEndBeforeStartIsOver: a function may be ready, and its environment be ended, before its driver knows that it was started. It has
// not failed.
func TestEndBeforeStartIsOver(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *worker.Config) {
		d, err := process.New(process.Config{Dir: filepath.Join(c.CacheDir, "..", "environments")})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = d.Close() })
		c.Driver = slow{d}
	})
	b.made("e", b.binding())
	b.worker.End("e")
	b.awaitEvent("e", schema.EnvironmentGone, 1)
	if c := b.worker.Counters(); c.InitFailures != 0 {
		t.Errorf("counters %+v", c)
	}
}

// polite is a driver whose environments can be asked to end by themselves.
type polite struct {
	driver.Driver
	asked chan string
}

func (p *polite) New(ctx context.Context, spec driver.Spec) (driver.Environment, error) {
	e, err := p.Driver.New(ctx, spec)
	return &politeEnvironment{e, spec.ID, p.asked}, err
}

type politeEnvironment struct {
	driver.Environment
	id    string
	asked chan string
}

func (e *politeEnvironment) Terminate() { e.asked <- e.id }

// TestOrderlyEnd asks an idle environment with an extension to end before it is killed, and no other (A6).
func TestOrderlyEnd(t *testing.T) {
	t.Parallel()
	p := &polite{asked: make(chan string, 10)}
	b := setup(t, func(c *worker.Config) {
		d, err := process.New(process.Config{Dir: filepath.Join(c.CacheDir, "..", "environments")})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = d.Close() })
		p.Driver, c.Driver = d, p
	})
	binding := b.binding()
	for _, id := range []string{"plain", "busy", "idle"} {
		b.made(id, binding)
		if id != "plain" {
			b.call(id, binding, quoted("register"))
			b.awaitEvent(id, schema.EnvironmentParked, 2)
		}
	}
	run := b.run("busy", binding, quoted("hang"))
	b.worker.Start(run)
	for _, id := range []string{"plain", "busy", "idle"} {
		b.worker.End(id)
		b.awaitEvent(id, schema.EnvironmentGone, 1)
	}
	b.answer(run)
	close(p.asked)
	var asked []string
	for id := range p.asked {
		asked = append(asked, id)
	}
	if !slices.Equal(asked, []string{"idle"}) {
		t.Fatalf("asked %v, want the idle one with an extension", asked)
	}
}

func TestStop(t *testing.T) {
	t.Parallel()
	b := setup(t)
	binding := b.binding()
	b.made("idle", binding)
	b.made("busy", binding)
	run := b.run("busy", binding, quoted("hang"))
	b.worker.Start(run)
	over, cancel := context.WithCancelCause(t.Context())
	cancel(errBroken)
	if err := b.worker.Stop(over); err != nil && !errors.Is(err, errBroken) {
		t.Errorf("stop: %v", err)
	}
	if err := b.worker.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.answer(run)
	b.awaitEvent("idle", schema.EnvironmentGone, 1)
	b.awaitEvent("busy", schema.EnvironmentGone, 1)
	b.worker.Make("late", binding, b.notify)
	b.awaitEvent("late", schema.EnvironmentFailed, 1)
	if m, _ := b.call("idle", binding, `1`); m.Header.Get("Hearth-Function-Error") == "" {
		t.Error("a call after the end was run")
	}
}

// TestInitQueue fills the queue of environments that are being made: what does not fit fails at once.
func TestInitQueue(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *worker.Config) { c.Inits, c.InitQueue = 1, 1 })
	hang := b.binding(func(b *schema.Binding) { b.Variables = schema.Variables{"FN_INIT": "hang"} })
	for _, id := range []string{"e1", "e2", "e3", "e1"} {
		b.worker.Make(id, hang, b.notify)
	}
	if f := b.awaitEvent("e3", schema.EnvironmentFailed, 1).Error; f.Type != string(schema.CodeUnavailable) {
		t.Errorf("failure %+v", f)
	}
	b.mu.Lock()
	if n := len(b.events["e1"]); n != 1 { // of the second Make with this id
		t.Errorf("%d events of e1", n)
	}
	b.events["e1"] = nil
	b.mu.Unlock()
	b.worker.End("e1")
	b.worker.End("e2")
	b.awaitEvent("e1", schema.EnvironmentFailed, 1)
	b.awaitEvent("e2", schema.EnvironmentFailed, 1)
}

// A function that hangs in its init does not keep another's environments from being made.
func TestHangingInitHoldsUpNobody(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *worker.Config) { c.Inits = 1 })
	b.worker.Make("hangs", b.binding(func(b *schema.Binding) { b.Variables = schema.Variables{"FN_INIT": "hang"} }), b.notify)
	natstest.Eventually(t, patience, func() bool { return b.worker.Making() == 1 }, "it is being made")
	b.worker.Make("other", b.binding(), b.notify)
	b.awaitEvent("other", schema.EnvironmentParked, 1)
	b.mu.Lock()
	if n := len(b.events["hangs"]); n != 0 {
		t.Error("it was made only once the init that hangs had run out of time")
	}
	b.mu.Unlock()
	b.worker.End("hangs")
	b.awaitEvent("hangs", schema.EnvironmentFailed, 1)
}

func TestConfig(t *testing.T) {
	t.Parallel()
	_, err := worker.New(worker.Config{BodyBytes: 1})
	for _, want := range []string{"Publish", "Driver", "Names", "BodyBytes"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
	b := setup(t, func(c *worker.Config) { c.Driver, c.CacheDir, c.Code = null.New(), "", nil })
	b.made("e1", b.binding())
	if m, _ := b.call("e1", b.binding(), `1`); string(m.Data) != `1` {
		t.Errorf("answer %s", m.Data)
	}
}

// TestExactlyOnce lets answers, time-outs, exits and ends race for the same calls: each is ended once and answered once,
// and each environment tells one last event (the bench looks at both).
func TestExactlyOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	binding := b.binding(func(b *schema.Binding) { b.Timeout = 20 * time.Millisecond })
	payloads := []string{`1`, quoted("hang"), quoted("exit 1"), quoted("leave"), `2`, quoted("twice"), quoted("cut"), quoted("stay")}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var runs []*schema.Run
	for i := range 12 {
		wg.Go(func() {
			id := "e" + string(rune('a'+i))
			b.worker.Make(id, binding, b.notify)
			b.await("its first event", func() bool { return len(b.events[id]) > 0 })
			for j := range 6 {
				run := b.run(id, binding, payloads[(i+j)%len(payloads)])
				mu.Lock()
				runs = append(runs, run)
				mu.Unlock()
				b.worker.Start(run)
				if (i+j)%5 == 0 {
					b.worker.End(id)
				}
				b.await("an answer", func() bool { return len(b.answers[run.Call.RequestID]) > 0 })
			}
			b.worker.End(id)
		})
	}
	wg.Wait()
	for _, run := range runs {
		b.answer(run)
	}
	if c := b.worker.Counters(); c.Started+c.Refused < int64(len(runs)) || c.BindingMismatches != 0 {
		t.Errorf("counters %+v", c)
	}
}
