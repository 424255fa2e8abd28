package manager

import (
	"context"
	"fmt"
	"sync"

	"github.com/hearth-run/hearth/internal/lifecycle"
	"github.com/hearth-run/hearth/internal/token"
	"github.com/hearth-run/hearth/schema"
)

// TokenProvider makes the tokens by which an account's services know for which sub-tenant a function speaks: the built-in one
// signs them with keys of the manager ([manager/tokens]); one of another kind asks whoever issues the account's tokens. It is
// asked for bindings of this manager alone, by several goroutines at once, obeys ctx and keeps no token longer than it lives.
// One that is a [lifecycle.Component] is started when the manager holds its id, and stopped with it. SECURITY 4.
type TokenProvider interface {
	// Token makes a token that says what s is; its life begins now. An error fails the calls that need it, and they say so.
	Token(ctx context.Context, s token.Subject) (schema.Token, error)
}

// startTokens starts a provider that has a life.
func (m *Manager) startTokens(ctx context.Context) error {
	c, ok := m.cfg.Tokens.(lifecycle.Component)
	if !ok {
		return nil
	}
	if err := c.Start(ctx); err != nil {
		return fmt.Errorf("start the token provider: %w", err)
	}
	return nil
}

// stopTokens stops it.
func (m *Manager) stopTokens(ctx context.Context) error {
	if c, ok := m.cfg.Tokens.(lifecycle.Component); ok {
		return c.Stop(ctx)
	}
	return nil
}

// grants are the environments of this manager for which it signs: those of functions with sub-tenants and an audience, each for the
// sub-tenant of the first call that was started there, for good. The worker binds the environment by that call too, and names the
// sub-tenant when it asks: where the two do not agree, nothing is signed.
type grants struct {
	m *Manager

	mu sync.Mutex // guards of, and their tenants
	of map[string]*grant
}

type grant struct {
	subject token.Subject // Tenant is "" until the environment is bound
}

func newGrants(m *Manager) *grants { return &grants{m: m, of: make(map[string]*grant)} }

// add gives the tokens of an environment that is to be made: the source is the right to them, and goes to the worker with the
// binding. nil: it has none.
func (g *grants) add(environment string, b *schema.Binding, v *schema.VersionRecord) schema.TokenSource {
	if !b.PerTenant || len(v.Audiences) == 0 {
		return nil
	}
	one := &grant{subject: token.Subject{
		Account: b.Account, Function: b.Function, Version: b.Version, Environment: environment, Audiences: v.Audiences,
	}}
	g.mu.Lock()
	g.of[environment] = one
	g.mu.Unlock()
	return func(ctx context.Context, tenant string) (schema.Token, error) { return g.sign(ctx, one, tenant) }
}

// bind notes for whom a call is that is started in an environment: the first one counts.
func (g *grants) bind(environment, tenant string) {
	if tenant == "" {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if one := g.of[environment]; one != nil && one.subject.Tenant == "" {
		one.subject.Tenant = tenant
	}
}

// remove ends the right of an environment that has gone.
func (g *grants) remove(environment string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.of, environment)
}

func (g *grants) sign(ctx context.Context, one *grant, tenant string) (schema.Token, error) {
	m := g.m
	g.mu.Lock()
	s := one.subject
	held := g.of[s.Environment] == one
	g.mu.Unlock()
	switch {
	case !held:
		return schema.Token{}, schema.Errorf(schema.CodeUnavailable, "environment %s has gone", s.Environment)
	case s.Tenant == "" || s.Tenant != tenant:
		m.count.unsigned.Add(1)
		m.log.Error("a token is asked for that the environment is not bound to: nothing is signed", "environment", s.Environment,
			"function", s.Function, "version", s.Version)
		return schema.Token{}, schema.Errorf(schema.CodeBindingMismatch, "environment %s is not bound to that sub-tenant", s.Environment)
	case m.cfg.Tokens == nil:
		return schema.Token{}, schema.Errorf(schema.CodeUnavailable, "manager %s has no token provider", m.cfg.ID)
	}
	s.Issuer = m.view.Load().fabric.TokenIssuer(m.names.Prefix())
	signed, err := m.cfg.Tokens.Token(ctx, s)
	if err != nil {
		m.count.signFailed.Add(1)
		return signed, err
	}
	m.count.signed.Add(1)
	return signed, nil
}
