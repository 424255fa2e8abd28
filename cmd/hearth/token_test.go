package main

import (
	"crypto/ed25519"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hearth-run/hearth/internal/token"
	"github.com/hearth-run/hearth/schema"
)

// verified runs `hearth token verify` with the token on its standard input, against a set of keys.
func verified(t *testing.T, keys http.HandlerFunc, text string, args ...string) result {
	t.Helper()
	server := httptest.NewServer(keys)
	defer server.Close()
	return surroundings{stdin: text}.run(t, append([]string{"token", "verify", "--jwks", server.URL, "--issuer", "hearth"}, args...)...)
}

// TestTokenVerify: a good token's claims, and of any other why it is refused, with the exit code of refused input; the token itself
// never.
func TestTokenVerify(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, foreign, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(token.Set{Keys: []schema.TokenJWK{token.KeyOf(public)}})
	if err != nil {
		t.Fatal(err)
	}
	serve := func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }
	signed := func(key ed25519.PrivateKey, at time.Time) string {
		c, err := token.NewClaims(token.Subject{
			Issuer: "hearth", Account: "default", Tenant: "acme", Function: "records", Version: "3", Environment: "e-1", Audiences: []string{"db"},
		}, at, token.MaxLife)
		if err != nil {
			t.Fatal(err)
		}
		text, err := token.Sign(key, c)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	good := signed(private, time.Now())
	for _, c := range []struct {
		name, text string
		args       []string
		code       int
		says       string // on stdout where it is good, else on stderr
	}{
		{"good", good + "\n", nil, exitOK, "acme"},
		{"good as JSON", good, []string{"--json", "--audience", "db", "-"}, exitOK, `"valid":true`},
		{"good, with its word", "Bearer " + good, []string{"--json"}, exitOK, `"env":"e-1"`},
		{"expired", signed(private, time.Now().Add(-time.Hour)), nil, exitUsage, "refused (expired): it expired"},
		{"made in the future", signed(private, time.Now().Add(time.Hour)), nil, exitUsage, "refused (not-yet-valid)"},
		{"unknown key", signed(foreign, time.Now()), nil, exitUsage, "refused (unknown-key)"},
		{"another audience", good, []string{"--audience", "api"}, exitUsage, `refused (wrong-audience): it is for db, not for "api"`},
		{"another issuer", good, []string{"--issuer", "other"}, exitUsage, `refused (foreign-issuer)`},
		{"changed", good[:len(good)-8] + "AAAAAAAA", nil, exitUsage, "refused (bad-signature)"},
		{"nothing", "", nil, exitUsage, "no token"},
		{"no token", "hello", nil, exitUsage, "refused (malformed)"},
	} {
		r := verified(t, serve, c.text, c.args...)
		out := r.stderr
		if c.code == exitOK {
			out = r.stdout
		}
		if r.code != c.code || !strings.Contains(out, c.says) {
			t.Errorf("%s: exit %d, %s%s", c.name, r.code, r.stdout, r.stderr)
		}
		for _, part := range strings.Split(strings.TrimSpace(c.text), ".") {
			if len(part) > 20 && strings.Contains(r.stdout+r.stderr, part) {
				t.Errorf("%s: the token is told: %s%s", c.name, r.stdout, r.stderr)
			}
		}
	}
	if r := verified(t, serve, signed(foreign, time.Now()), "--json"); r.code != exitUsage || !strings.Contains(r.stdout, `{"valid":false,"reason":"unknown-key"`) {
		t.Errorf("refused as JSON: exit %d, %s", r.code, r.stdout)
	}
	if r := verified(t, http.NotFound, good); r.code != exitUnreachable || !strings.Contains(r.stderr, "404") {
		t.Errorf("no keys there: exit %d, %s", r.code, r.stderr)
	}
	for _, args := range [][]string{{"token", good}, {"token", "verify", good, good}, {"token", "verify", "--jwks", "http://127.0.0.1:1", good}, {"token", "verify", "--jwks", "ftp://x", "--issuer", "i", good}} {
		if r := alone(t, args...); r.code != exitUsage || strings.Contains(r.stdout+r.stderr, good[:40]) {
			t.Errorf("%d arguments: exit %d, %s", len(args), r.code, r.stderr)
		}
	}
}
