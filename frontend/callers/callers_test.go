package callers_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/hearth-run/hearth/frontend/callers"
	"github.com/hearth-run/hearth/schema"
)

// provider is an identity provider: what its JWKS endpoint answers, and how often it was asked.
type provider struct {
	*httptest.Server
	mu     sync.Mutex
	asked  int
	answer func(http.ResponseWriter)
}

func newProvider(t *testing.T, keys ...jose.JSONWebKey) *provider {
	p := &provider{}
	p.serves(keys...)
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.asked++
		p.answer(w)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *provider) serves(keys ...jose.JSONWebKey) {
	p.with(func(w http.ResponseWriter) { _ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: keys}) })
}

func (p *provider) with(answer func(http.ResponseWriter)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = answer
}

func (p *provider) questions() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

type signer struct {
	id      string
	alg     jose.SignatureAlgorithm
	private any
	public  crypto.PublicKey
}

func (s signer) jwk() jose.JSONWebKey {
	return jose.JSONWebKey{Key: s.public, KeyID: s.id, Algorithm: string(s.alg), Use: "sig"}
}

func edKey(t *testing.T, id string) signer {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signer{id, jose.EdDSA, private, public}
}

func (s signer) sign(t *testing.T, claims map[string]any) string {
	t.Helper()
	body, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	signing, err := jose.NewSigner(jose.SigningKey{Algorithm: s.alg, Key: s.private}, (&jose.SignerOptions{}).WithHeader("kid", s.id))
	if err != nil {
		t.Fatal(err)
	}
	object, err := signing.Sign(body)
	if err != nil {
		t.Fatal(err)
	}
	text, err := object.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

var start = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func claims(change map[string]any) map[string]any {
	all := map[string]any{
		"aud": "hearth", "tenant": "acme", "iat": start.Unix(), "nbf": start.Unix(), "exp": start.Add(time.Hour).Unix(), "sub": "somebody",
	}
	maps.Copy(all, change)
	for name, v := range all {
		if v == nil {
			delete(all, name)
		}
	}
	return all
}

// names asks as a frontend does: once more with the keys.
func names(t *testing.T, c *callers.Callers, p callers.Policy, token, tenant string) error {
	t.Helper()
	err := c.Names(p, token, tenant)
	if errors.Is(err, callers.ErrKeys) {
		if err := c.Fetch(t.Context(), p.JWKS); err != nil {
			t.Fatal(err)
		}
		err = c.Names(p, token, tenant)
	}
	return err
}

// TestNames: whose token names the sub-tenant is served, by any algorithm of public keys; who shows anything else is told what is
// wrong with it and nothing of it.
func TestNames(t *testing.T) {
	t.Parallel()
	ed, stranger := edKey(t, "ed"), edKey(t, "ed")
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec := signer{"ec", jose.ES256, ecKey, ecKey.Public()}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rs, ps := signer{"rs", jose.RS256, rsaKey, rsaKey.Public()}, signer{"rs", jose.PS256, rsaKey, rsaKey.Public()}
	secret := []byte(base64.RawURLEncoding.EncodeToString(ed.public.(ed25519.PublicKey)) + "................")
	hmac := signer{"ed", jose.HS256, secret, nil}
	weakKey, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Skip(err) // this Go makes none
	}
	weak := signer{"weak", jose.RS256, weakKey, weakKey.Public()}
	encrypts := edKey(t, "enc")
	forEncryption := encrypts.jwk()
	forEncryption.Use = "enc"
	p := newProvider(t, ed.jwk(), ec.jwk(), rs.jwk(), weak.jwk(), forEncryption)
	now := &clock{start}
	c := callers.New(callers.Config{Now: now.now})
	policy := callers.Policy{JWKS: p.URL, Audience: "hearth", Claim: "tenant"}

	for name, token := range map[string]string{
		"EdDSA": ed.sign(t, claims(nil)), "ES256": ec.sign(t, claims(nil)), "RS256": rs.sign(t, claims(nil)),
		"one of several":   ed.sign(t, claims(map[string]any{"tenant": []string{"other", "acme"}})),
		"two audiences":    ed.sign(t, claims(map[string]any{"aud": []string{"shop", "hearth"}})),
		"within leeway":    ed.sign(t, claims(map[string]any{"nbf": start.Add(20 * time.Second).Unix()})),
		"without an nbf":   ed.sign(t, claims(map[string]any{"nbf": nil})),
		"just not expired": ed.sign(t, claims(map[string]any{"exp": start.Add(-29 * time.Second).Unix()})),
	} {
		for range 2 { // the second is remembered
			if err := names(t, c, policy, token, "acme"); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := names(t, c, policy, token, "Acme"); schema.CodeOf(err) != schema.CodeAccessDenied {
			t.Errorf("%s names another: %v", name, err)
		}
	}
	part := strings.Split(ed.sign(t, claims(nil)), ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","kid":"ed"}`))
	other := base64.RawURLEncoding.EncodeToString([]byte(`{"aud":"hearth","tenant":"acme","exp":99999999999}`))
	for name, bad := range map[string]struct{ token, why string }{
		"none":               {"", "none came"},
		"no token":           {"Bearer", "no JWT"},
		"alg none":           {none + "." + part[1] + ".", "no JWT"},
		"alg none, signed":   {none + "." + part[1] + "." + part[2], "no JWT"},
		"an HMAC":            {hmac.sign(t, claims(nil)), "no JWT"},
		"other claims":       {part[0] + "." + other + "." + part[2], "signature"},
		"a stranger's key":   {stranger.sign(t, claims(nil)), "signature"},
		"another algorithm":  {ps.sign(t, claims(nil)), "signs with RS256"},
		"a weak key":         {weak.sign(t, claims(nil)), "no key of its kid"},
		"an encryption key":  {encrypts.sign(t, claims(nil)), "no key of its kid"},
		"an unknown kid":     {edKey(t, "new").sign(t, claims(nil)), "no key of its kid"},
		"expired":            {ed.sign(t, claims(map[string]any{"exp": start.Add(-time.Minute).Unix()})), "expired"},
		"for ever":           {ed.sign(t, claims(map[string]any{"exp": nil})), "exp"},
		"later":              {ed.sign(t, claims(map[string]any{"nbf": start.Add(time.Minute).Unix()})), "not good before"},
		"another audience":   {ed.sign(t, claims(map[string]any{"aud": "shop"})), `hold "hearth"`},
		"no audience":        {ed.sign(t, claims(map[string]any{"aud": nil})), `hold "hearth"`},
		"another sub-tenant": {ed.sign(t, claims(map[string]any{"tenant": "other"})), "does not name"},
		"no sub-tenant":      {ed.sign(t, claims(map[string]any{"tenant": nil})), `"tenant"`},
		"a number":           {ed.sign(t, claims(map[string]any{"tenant": 7})), `"tenant"`},
		"every sub-tenant":   {ed.sign(t, claims(map[string]any{"tenant": "*"})), "does not name"},
		"too long":           {ed.sign(t, claims(map[string]any{"x": strings.Repeat("x", 20_000)})), "at most"},
	} {
		err := names(t, c, policy, bad.token, "acme")
		if schema.CodeOf(err) != schema.CodeAccessDenied || !strings.Contains(err.Error(), bad.why) {
			t.Errorf("%s: %v, want %q", name, err, bad.why)
		}
		if err != nil && len(bad.token) > 20 && (strings.Contains(err.Error(), bad.token[:20]) || strings.Contains(err.Error(), part[2])) {
			t.Errorf("%s is repeated: %v", name, err)
		}
	}
	// What was good under one policy says nothing under another.
	token := ed.sign(t, claims(nil))
	if err := names(t, c, callers.Policy{JWKS: p.URL, Audience: "another", Claim: "tenant"}, token, "acme"); schema.CodeOf(err) != schema.CodeAccessDenied {
		t.Errorf("another fabric: %v", err)
	}
	if err := names(t, c, callers.Policy{JWKS: p.URL, Audience: "hearth", Claim: "sub"}, token, "acme"); schema.CodeOf(err) != schema.CodeAccessDenied {
		t.Errorf("another claim: %v", err)
	}
	if err := names(t, c, callers.Policy{Audience: "hearth", Claim: "tenant"}, token, "acme"); schema.CodeOf(err) != schema.CodeUnavailable {
		t.Errorf("no keys named: %v", err)
	}
}

// TestKeys: keys are fetched when they are needed, not at a stranger's bidding; a provider that is down stops nobody at once and
// nobody for ever, and what it took back it has taken back.
func TestKeys(t *testing.T) {
	t.Parallel()
	first, second := edKey(t, "1"), edKey(t, "2")
	p := newProvider(t, first.jwk())
	now := &clock{start}
	c := callers.New(callers.Config{Now: now.now})
	policy := callers.Policy{JWKS: p.URL, Audience: "hearth", Claim: "tenant"}
	long := claims(map[string]any{"exp": start.Add(24 * time.Hour).Unix()})
	old, young := first.sign(t, long), second.sign(t, long)
	want := func(what, token string, code schema.Code, questions int) {
		t.Helper()
		err := names(t, c, policy, token, "acme")
		if code == "" && err != nil || code != "" && schema.CodeOf(err) != code {
			t.Errorf("%s: %v, want %q", what, err, code)
		}
		if n := p.questions(); n != questions {
			t.Errorf("%s: %d questions, want %d", what, n, questions)
		}
	}
	want("the first call", old, "", 1)
	for range 100 {
		want("a kid of nobody", young, schema.CodeAccessDenied, 1)
	}
	p.serves(first.jwk(), second.jwk())
	now.at = now.at.Add(11 * time.Second)
	want("a new key", young, "", 2)
	want("the old one", old, "", 2)
	p.serves(second.jwk())
	now.at = now.at.Add(4 * time.Minute)
	want("remembered", old, "", 2)
	now.at = now.at.Add(2 * time.Minute)
	want("the key that was taken back", old, schema.CodeAccessDenied, 3)

	for name, answer := range map[string]func(http.ResponseWriter){
		"down":        func(w http.ResponseWriter) { w.WriteHeader(http.StatusBadGateway) },
		"a page":      func(w http.ResponseWriter) { _, _ = w.Write([]byte("<html>")) },
		"no set":      func(w http.ResponseWriter) { _, _ = w.Write([]byte("{}")) },
		"redirecting": func(w http.ResponseWriter) { w.Header().Set("Location", "/"); w.WriteHeader(http.StatusFound) },
		"too much": func(w http.ResponseWriter) {
			_, _ = w.Write([]byte(`{"keys":[],"x":"` + strings.Repeat("x", 1<<20) + `"}`))
		},
	} {
		p.serves(second.jwk())
		now.at = now.at.Add(6 * time.Minute)
		if err := c.Fetch(t.Context(), p.URL); err != nil {
			t.Fatal(err)
		}
		p.with(answer)
		now.at = now.at.Add(14 * time.Minute)
		before := p.questions()
		want(name+", and the keys are not old", young, "", before+1)
		now.at = now.at.Add(2 * time.Minute)
		want(name+", and the keys are old", young, schema.CodeUnavailable, before+2)
		p.serves(second.jwk())
		now.at = now.at.Add(time.Minute)
		want(name+" no more", young, "", before+3)
	}
	// A clock that jumps back has them asked for again, and no sooner lets anybody in.
	now.at = start.Add(-time.Hour)
	want("an hour before", young, schema.CodeAccessDenied, p.questions()+1)
}

// TestFetchIsBounded: a provider that hangs holds a call as long as its context lets it.
func TestFetchIsBounded(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(s.Close)
	t.Cleanup(func() { close(hang) })
	c := callers.New(callers.Config{})
	policy := callers.Policy{JWKS: s.URL, Audience: "hearth", Claim: "tenant"}
	token := edKey(t, "1").sign(t, claims(map[string]any{"exp": time.Now().Add(time.Hour).Unix()}))
	if err := c.Names(policy, token, "acme"); !errors.Is(err, callers.ErrKeys) {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Fetch(ctx, s.URL); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("fetched: %v", err)
	}
	if err := c.Names(policy, token, "acme"); schema.CodeOf(err) != schema.CodeUnavailable && !errors.Is(err, callers.ErrKeys) {
		t.Errorf("and then: %v", err)
	}
}
