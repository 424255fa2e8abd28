package worker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker"
)

// signature is long enough to be hidden by itself.
const signature = ".MPN-K3qssaBkUIS9tyyR54FNP_tZSGJmuUf5e0gfM"

// source gives tokens as the test says; it is what a manager attaches to a binding.
type source struct {
	mu   sync.Mutex
	made int
	life time.Duration
	err  error
	hang bool
}

func (s *source) Token(ctx context.Context, tenant string) (schema.Token, error) {
	s.mu.Lock()
	hang, err := s.hang, s.err
	if tenant != "acme" {
		err = fmt.Errorf("of sub-tenant %q", tenant)
	}
	s.made++
	t := schema.Token{Text: fmt.Sprintf("eyJ0%d.eyJhY2NvdW50Ijoi", s.made) + signature, Life: s.life}
	s.mu.Unlock()
	if hang {
		<-ctx.Done()
		return schema.Token{}, context.Cause(ctx)
	}
	return t, err
}

func (s *source) set(err error, hang bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err, s.hang = err, hang
}

// forTenant is a binding to a sub-tenant, with tokens.
func (b *bench) forTenant(s *source, change ...func(*schema.Binding)) *schema.Binding {
	return b.binding(append([]func(*schema.Binding){perTenant, func(b *schema.Binding) {
		if s != nil {
			b.Token = s.Token
		}
	}}, change...)...)
}

func (b *bench) tenantCall(environment string, binding *schema.Binding, payload string, change ...func(*schema.Call)) string {
	b.t.Helper()
	run := b.runFor("acme", environment, binding, payload)
	for _, f := range change {
		f(run.Call)
	}
	b.worker.Start(run)
	m, _ := b.answer(run)
	return string(m.Data)
}

// TestTokenPushedAndPulled: the function has the token with its call and gets it where it asks, the same one; not in its init, and
// not in the client context.
func TestTokenPushedAndPulled(t *testing.T) {
	t.Parallel()
	lines := &sink{}
	b := setup(t, func(c *worker.Config) { c.Lines = lines.open })
	s := &source{life: 15 * time.Minute}
	binding := b.forTenant(s, func(b *schema.Binding) { b.Variables = schema.Variables{"FN_INIT": "ask"} })
	b.made("e1", binding)
	var got struct {
		Status int
		Pushed string
		Pulled struct {
			Token   string
			Expires time.Time
		}
	}
	for range 2 {
		answer := b.tenantCall("e1", binding, quoted("token"))
		if err := json.Unmarshal([]byte(answer), &got); err != nil {
			t.Fatalf("%s: %v", answer, err)
		}
		if got.Status != 200 || got.Pushed != "eyJ01.eyJhY2NvdW50Ijoi"+signature || got.Pulled.Token != got.Pushed {
			t.Errorf("%s", answer)
		}
	}
	if !lines.has(`in init: 403 {"errorMessage":"the environment is not bound`) {
		t.Errorf("in its init it was told: %q", lines.text)
	}
	if answer := b.tenantCall("e1", binding, quoted("headers")); strings.Count(answer, signature) != 1 {
		t.Errorf("headers of a call: %s", answer)
	}

	// Without an audience there is no token, and calls run.
	none := b.forTenant(nil)
	b.made("e2", none)
	if answer := b.tenantCall("e2", none, quoted("token")); !strings.Contains(answer, `"status":403`) || !strings.Contains(answer, "--audience") ||
		!strings.Contains(answer, `"pushed":""`) {
		t.Errorf("without an audience: %s", answer)
	}
	// Without sub-tenants there is nothing of it, and the account's variables are its own.
	plain := b.binding(func(b *schema.Binding) { b.Variables = schema.Variables{"HEARTH_TOKEN_AUTH": "own"} })
	b.made("e3", plain)
	for name, want := range map[string]string{"HEARTH_TOKEN_URL": `""`, "HEARTH_TOKEN_AUTH": `"own"`} {
		if m, _ := b.call("e3", plain, quoted("variable "+name)); string(m.Data) != want {
			t.Errorf("%s is %s", name, m.Data)
		}
	}
	// Each environment has a secret of its own, which no variable of the account replaces.
	other := b.forTenant(s, func(b *schema.Binding) { b.Variables = schema.Variables{"HEARTH_TOKEN_AUTH": "own"} })
	b.made("e4", other)
	first, second := b.tenantCall("e1", binding, quoted("variable HEARTH_TOKEN_AUTH")), b.tenantCall("e4", other, quoted("variable HEARTH_TOKEN_AUTH"))
	if first == second || len(first) != 45 || len(second) != 45 {
		t.Errorf("secrets %s and %s", first, second)
	}
}

// TestTokenRenewed: a call has the next one when the last is about to end.
func TestTokenRenewed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	s := &source{life: 300 * time.Millisecond} // time for a call on a machine that has much else to do
	binding := b.forTenant(s)
	b.made("e1", binding)
	seen := map[string]bool{}
	for len(seen) < 3 { // each call has a good one, or waits for it
		var pushed map[string][]string
		answer := b.tenantCall("e1", binding, quoted("headers"))
		if err := json.Unmarshal([]byte(answer), &pushed); err != nil || len(pushed["Hearth-Tenant-Token"]) != 1 {
			t.Fatalf("%s: %v", answer, err)
		}
		seen[pushed["Hearth-Tenant-Token"][0]] = true
	}
}

// TestTokenProviderDown: the call fails closed, says why and comes before its time-out; the environment serves the next one.
func TestTokenProviderDown(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err  error
		hang bool
		says string
	}{
		"down": {errors.New("issuer says 500"), false, "issuer says 500"},
		"slow": {nil, true, "the token provider does not answer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			s := &source{life: time.Minute, err: c.err, hang: c.hang}
			binding := b.forTenant(s)
			b.made("e1", binding)
			answer := b.tenantCall("e1", binding, `1`, func(c *schema.Call) { c.Timeout = 200 * time.Millisecond })
			var failure struct{ ErrorType, ErrorMessage string }
			if err := json.Unmarshal([]byte(answer), &failure); err != nil || failure.ErrorType != string(schema.CodeNoToken) ||
				!strings.Contains(failure.ErrorMessage, c.says) || !strings.Contains(failure.ErrorMessage, "was not run") {
				t.Fatalf("%s, %v", answer, err)
			}
			if n := b.worker.Counters(); n.Tokenless != 1 || n.TimedOut != 0 || n.Environments != 1 {
				t.Errorf("%+v", n)
			}
			b.awaitEvent("e1", schema.EnvironmentParked, 2) // it can start the next call
			s.set(nil, false)
			if answer := b.tenantCall("e1", binding, `2`); answer != "2" {
				t.Errorf("when it is back: %s", answer)
			}
		})
	}
}

// TestTokenEndedWhileWaiting: a call that waits for its token when its environment is ended is answered once, by that end.
func TestTokenEndedWhileWaiting(t *testing.T) {
	t.Parallel()
	b := setup(t)
	s := &source{life: time.Minute, hang: true}
	binding := b.forTenant(s)
	b.made("e1", binding)
	run := b.runFor("acme", "e1", binding, `1`)
	b.worker.Start(run)
	b.worker.End("e1")
	if m, _ := b.answer(run); !strings.Contains(string(m.Data), "Runtime.ExitError") {
		t.Errorf("answer %s", m.Data)
	}
	b.awaitEvent("e1", schema.EnvironmentGone, 1)
}

// TestSecretsHidden: a function that writes its token and its secret finds stars in its lines, its tail, its log and its failed
// init, wherever a line is cut off.
func TestSecretsHidden(t *testing.T) {
	t.Parallel()
	lines, log := &sink{}, &text{}
	b := setup(t, func(c *worker.Config) {
		c.Lines = lines.open
		c.LogRate = 64 << 20
		c.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	s := &source{life: 15 * time.Minute}
	binding := b.forTenant(s)
	b.made("e1", binding)
	secret, err := unquoted(b.tenantCall("e1", binding, quoted("variable HEARTH_TOKEN_AUTH")))
	if err != nil || len(secret) < 40 {
		t.Fatalf("secret %q, %v", secret, err)
	}
	leaks := func(where, text string) {
		t.Helper()
		for _, s := range []string{signature[1:], secret, secret[:20], secret[20:], signature[1:20]} {
			if strings.Contains(text, s) {
				t.Errorf("%s tells it: %.300q", where, text)
			}
		}
	}
	// Where lines are cut is within the token, or the secret, for one of these.
	for n := worker.MaxLine - 120; n <= worker.MaxLine; n += 7 {
		run := b.runFor("acme", "e1", binding, quoted(fmt.Sprintf("leak %d", n)))
		run.Call.LogTail = true
		b.worker.Start(run)
		m, o := b.answer(run)
		if !strings.Contains(string(o.LogTail), "***") || !strings.Contains(string(m.Data), "*** ***") {
			t.Errorf("tail %.200q, answer %.200q", o.LogTail, m.Data)
		}
		leaks("the answer", string(m.Data))
		leaks("the tail", string(o.LogTail))
	}
	bad := b.forTenant(s, func(b *schema.Binding) { b.Variables = schema.Variables{"FN_INIT": "leak"} })
	b.worker.Make("e2", bad, b.notify)
	ev := b.awaitEvent("e2", schema.EnvironmentFailed, 1)
	if ev.Error.Message != "***" || ev.Error.Type != "Fn.Init" || !strings.Contains(string(ev.Error.Body), "***") {
		t.Errorf("failed init: %+v", ev.Error)
	}
	b.worker.End("e1")
	b.awaitEvent("e1", schema.EnvironmentGone, 1)
	if !lines.has("leak: *** ***") {
		t.Errorf("no stars among %d lines", len(lines.text))
	}
	lines.mu.Lock()
	defer lines.mu.Unlock()
	for _, l := range lines.text {
		leaks("a line", l)
	}
	leaks("the log", log.String())
}

// text is what was written to it.
type text struct {
	mu sync.Mutex
	b  strings.Builder
}

func (x *text) Write(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.b.Write(p)
}

func (x *text) String() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.b.String()
}

func unquoted(s string) (text string, err error) {
	err = json.Unmarshal([]byte(s), &text)
	return text, err
}
