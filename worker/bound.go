package worker

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker/runtimeapi"
)

// newSecret is by what an environment asks for its token: of no use to anybody who is not inside.
func newSecret() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// keepToken begins to keep the token of the sub-tenant that the environment is bound to. A function without an audience has none.
func (e *environment) keepToken(tenant string) {
	w, source := e.worker, e.binding.Token
	e.mu.Lock()
	defer e.mu.Unlock()
	if source == nil || e.api == nil || e.phase != ready {
		return
	}
	e.tokens = newTokens(func(ctx context.Context) (schema.Token, error) { return source(ctx, tenant) }, e.logs.hide, func(err error) {
		w.log.Warn("no token for an environment", "environment", e.id, "function", e.binding.Function, "error", err)
	})
	e.tasks.Go(func() { e.tokens.run(e.life) })
}

// Token is asked by the Runtime API for what the function wants to show. There is none before its first call: an
// environment knows nothing of a sub-tenant while it could still be anybody's.
func (e *environment) Token(ctx context.Context) (schema.Token, error) {
	e.mu.Lock()
	t, generic := e.tokens, e.phase != ready || e.tenant == ""
	e.mu.Unlock()
	switch {
	case generic:
		return schema.Token{}, runtimeapi.ErrGeneric
	case t == nil:
		return schema.Token{}, runtimeapi.ErrNoAudience
	}
	ctx, cancel := context.WithTimeout(ctx, tokenPatience)
	defer cancel()
	return t.get(ctx)
}

// errNoToken says that a call did not begin for want of a token.
var errNoToken = errors.New("no token")

// awaitToken is the token for a call with this time-out that is to begin.
func (e *environment) awaitToken(limit time.Duration) (string, error) {
	ctx, cancel := context.WithTimeoutCause(e.life, min(limit/2, tokenPatience), errors.New("the token provider does not answer"))
	defer cancel()
	t, err := e.tokens.get(ctx)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errNoToken, err)
	}
	return t.Text, nil
}
