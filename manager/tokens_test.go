package manager_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/internal/token"
	"github.com/hearth-run/hearth/manager"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// tokenProvider notes for whom it is asked, and whether it was started and stopped.
type tokenProvider struct {
	asked   atomic.Pointer[token.Subject]
	running atomic.Int64
}

func (p *tokenProvider) Start(context.Context) error { p.running.Add(1); return nil }
func (p *tokenProvider) Stop(context.Context) error  { p.running.Add(-1); return nil }

func (p *tokenProvider) Token(_ context.Context, s token.Subject) (schema.Token, error) {
	if p.running.Load() != 1 {
		return schema.Token{}, errors.New("it does not run")
	}
	p.asked.Store(&s)
	return schema.Token{Text: "a.b.c", Life: token.MaxLife}, nil
}

// tenants makes a function that has sub-tenants and an audience.
func tenants(r *schema.FunctionRecord) { r.PerTenant, r.Latest.Audiences = true, []string{"db"} }

// TestTokenOfBinding: with a binding to a sub-tenant that it made, and no other, a manager hands out where its tokens come from;
// what they say is what it bound.
func TestTokenOfBinding(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	c := newCaller(t, f, "f1")
	p := &tokenProvider{}
	n := startNode(t, f, f.Connect(t), "m1", func(cfg *manager.Config, _ *echoWorker) {
		cfg.Tokens = p
		cfg.FabricSet = map[string]string{"issuer": "https://hearth.example"}
	})
	tenant := func(tenant string) func(schema.Key) schema.Key {
		return func(k schema.Key) schema.Key { k.Tenant = tenant; return k }
	}
	// On a busy machine a call may come twice: what was made for the other delivery stays, bound to nobody.
	with := c.invoke("with", tenant("acme")(c.deploy("with", tenants))).Header.Get(schema.HeaderEnvironment)
	c.invoke("silent", tenant("acme")(c.deploy("silent", func(r *schema.FunctionRecord) { r.PerTenant = true })))
	c.invoke("plain", c.deploy("plain", func(r *schema.FunctionRecord) { r.Latest.Audiences = []string{"db"} }))
	for _, b := range n.worker.bindings() {
		if (b.binding.Token != nil) != (b.binding.Function == "with") || b.binding.PerTenant != (b.binding.Function != "plain") {
			t.Errorf("%+v", b.binding)
		}
		if b.binding.Token == nil || b.id != with {
			continue
		}
		for _, other := range []string{"", "acm", "other"} {
			if got, err := b.binding.Token(t.Context(), other); schema.CodeOf(err) != schema.CodeBindingMismatch || got.Text != "" || p.asked.Load() != nil {
				t.Errorf("for sub-tenant %q: %q, %v", other, got.Text, err)
			}
		}
		got, err := b.binding.Token(t.Context(), "acme")
		if err != nil || got.Text != "a.b.c" {
			t.Fatalf("%q, %v", got.Text, err)
		}
		want := token.Subject{
			Issuer: "https://hearth.example", Account: subjects.DefaultAccount, Tenant: "acme", Function: "with", Version: schema.Latest,
			Environment: b.id, Audiences: []string{"db"},
		}
		if s := p.asked.Load(); s.Audiences[0] != "db" || s.Issuer != want.Issuer || s.Account != want.Account || s.Tenant != want.Tenant ||
			s.Function != want.Function || s.Version != want.Version || s.Environment != want.Environment {
			t.Errorf("asked for %+v, want %+v", s, want)
		}
	}
	if p.asked.Load() == nil {
		t.Error("nothing was signed")
	}
	if c := n.Counters(); c.Unsigned != 3 {
		t.Errorf("%d questions were for another, want 3", c.Unsigned)
	}
	all := n.worker.bindings()
	if err := n.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	for _, b := range all {
		if b.binding.Token != nil {
			if got, err := b.binding.Token(t.Context(), "acme"); schema.CodeOf(err) != schema.CodeUnavailable || got.Text != "" {
				t.Errorf("of an environment that has gone: %q, %v", got.Text, err)
			}
		}
	}
	if r := p.running.Load(); r != 0 {
		t.Errorf("the provider runs %d times after the stop", r)
	}
}

// TestNoTokenProvider says that there is none.
func TestNoTokenProvider(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	c := newCaller(t, f, "f1")
	n := startNode(t, f, f.Connect(t), "m1")
	key := c.deploy("with", tenants)
	key.Tenant = "acme"
	c.invoke("with", key)
	for _, b := range n.worker.bindings() {
		if _, err := b.binding.Token(t.Context(), "acme"); schema.CodeOf(err) != schema.CodeUnavailable || !strings.Contains(err.Error(), "no token provider") {
			t.Errorf("%v", err)
		}
	}
}
