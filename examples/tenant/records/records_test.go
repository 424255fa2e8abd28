package records_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/hearth-run/hearth/examples/tenant/records"
)

// hearth stands for a frontend: it has keys, signs what it is told to, and counts who asks for its keys.
type hearth struct {
	*httptest.Server
	asked atomic.Int64

	mu     sync.Mutex // guards what follows
	keys   map[string]ed25519.PrivateKey
	broken bool
	moved  time.Duration // of the service's clock
}

func newHearth(t *testing.T) *hearth {
	h := &hearth{keys: map[string]ed25519.PrivateKey{"k1": ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))}}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h.asked.Add(1)
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.broken {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		var set jose.JSONWebKeySet
		for id, k := range h.keys {
			set.Keys = append(set.Keys, jose.JSONWebKey{Key: k.Public(), KeyID: id, Algorithm: "EdDSA", Use: "sig"})
		}
		_ = json.NewEncoder(w).Encode(set)
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hearth) set(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
}

func (h *hearth) now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Now().Add(h.moved)
}

func (h *hearth) verifier(t *testing.T) *records.Verifier {
	t.Helper()
	v, err := records.NewVerifier(records.Config{JWKS: h.URL, Issuer: "hearth", Audience: "records", Account: "default", Now: h.now})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

type object map[string]any

// claims are those of a token of Hearth's for a tenant, changed.
func claims(tenant string, change object) object {
	now := time.Now().Unix()
	c := object{
		"iss": "hearth", "sub": "default." + tenant, "aud": []string{"db", "records"}, "iat": now, "nbf": now - 30, "exp": now + 900, "jti": "1",
		"account": "default", "tenant": tenant, "function": "f", "version": "1", "env": "e",
	}
	for name, value := range change {
		if c[name] = value; value == nil {
			delete(c, name)
		}
	}
	return c
}

func encode(v any) string {
	b, _ := json.Marshal(v)
	return base64.RawURLEncoding.EncodeToString(b)
}

// sign makes a token with a key of this name, and a head that change changes.
func (h *hearth) sign(kid string, change, body object) string {
	head := object{"alg": "EdDSA", "typ": "hearth-env+jwt", "kid": kid}
	for name, value := range change {
		if head[name] = value; value == nil {
			delete(head, name)
		}
	}
	input := encode(head) + "." + encode(body)
	h.mu.Lock()
	defer h.mu.Unlock()
	key := h.keys[kid]
	if key == nil {
		key = h.keys["k1"]
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(key, []byte(input)))
}

func (h *hearth) token(tenant string) string { return h.sign("k1", nil, claims(tenant, nil)) }

// TestTokens: what is no token of Hearth's for this service and account, now, is refused, and the reason holds nothing of it.
func TestTokens(t *testing.T) {
	t.Parallel()
	h := newHearth(t)
	v := h.verifier(t)
	who, err := v.Token(t.Context(), h.token("acme/eu 1"))
	if want := (records.Caller{Tenant: "acme/eu 1", Function: "f", Version: "1"}); err != nil || who != want {
		t.Fatalf("%+v, %v", who, err)
	}
	now := time.Now().Unix()
	good := h.token("acme")
	parts := strings.Split(good, ".")
	other := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, 32))
	input := parts[0] + "." + parts[1]
	for name, text := range map[string]string{
		"nothing":             "",
		"no token":            "a.b.c",
		"too long":            good + strings.Repeat("A", 17<<10),
		"cut off":             good[:len(good)-4],
		"no signature":        input + ".",
		"another signature":   input + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(other, []byte(input))),
		"another body":        parts[0] + "." + encode(claims("globex", nil)) + "." + parts[2],
		"alg none":            encode(object{"alg": "none", "typ": "hearth-env+jwt", "kid": "k1"}) + "." + parts[1] + ".",
		"alg HS256":           h.sign("k1", object{"alg": "HS256"}, claims("acme", nil)),
		"alg RS256":           h.sign("k1", object{"alg": "RS256"}, claims("acme", nil)),
		"another type":        h.sign("k1", object{"typ": "JWT"}, claims("acme", nil)),
		"no type":             h.sign("k1", object{"typ": nil}, claims("acme", nil)),
		"unknown key":         h.sign("k2", nil, claims("acme", nil)),
		"no key":              h.sign("k1", object{"kid": nil}, claims("acme", nil)),
		"another issuer":      h.sign("k1", nil, claims("acme", object{"iss": "hearth2"})),
		"no issuer":           h.sign("k1", nil, claims("acme", object{"iss": nil})),
		"another audience":    h.sign("k1", nil, claims("acme", object{"aud": []string{"db"}})),
		"part of an audience": h.sign("k1", nil, claims("acme", object{"aud": "records2"})),
		"no audience":         h.sign("k1", nil, claims("acme", object{"aud": nil})),
		"another account":     h.sign("k1", nil, claims("acme", object{"account": "other"})),
		"no tenant":           h.sign("k1", nil, claims("acme", object{"tenant": nil})),
		"expired":             h.sign("k1", nil, claims("acme", object{"iat": now - 900, "exp": now})),
		"not good yet":        h.sign("k1", nil, claims("acme", object{"nbf": now + 30})),
		"for ever":            h.sign("k1", nil, claims("acme", object{"exp": nil})),
		"lives too long":      h.sign("k1", nil, claims("acme", object{"exp": now + 901})),
		"no beginning":        h.sign("k1", nil, claims("acme", object{"iat": nil})),
	} {
		who, err := v.Token(t.Context(), text)
		if !errors.Is(err, records.ErrToken) || who != (records.Caller{}) {
			t.Errorf("%s: %+v, %v", name, who, err)
		} else if len(text) > 20 && strings.Contains(err.Error(), text[:20]) {
			t.Errorf("%s: the reason repeats it: %v", name, err)
		}
	}
	// A clock that is 25 s behind takes a new one.
	h.set(func() { h.moved = -25 * time.Second })
	if _, err := v.Token(t.Context(), good); err != nil {
		t.Errorf("by a clock that is behind: %v", err)
	}
}

// TestKeys: an unknown kid has the keys asked for, at most once in 10 s; where Hearth does not answer the old ones serve for a while.
func TestKeys(t *testing.T) {
	t.Parallel()
	h := newHearth(t)
	v := h.verifier(t)
	check := func(what, token string, want error, asked int64) {
		t.Helper()
		if _, err := v.Token(t.Context(), token); !errors.Is(err, want) || h.asked.Load() != asked {
			t.Errorf("%s: %v, asked %d times; want %v, %d", what, err, h.asked.Load(), want, asked)
		}
	}
	fresh := func(kid string) string {
		return h.sign(kid, nil, claims("acme", object{"iat": h.now().Unix(), "nbf": nil, "exp": h.now().Unix() + 900}))
	}
	pass := func(d time.Duration) { h.set(func() { h.moved += d }) }
	h.set(func() { h.broken = true })
	check("nobody answers", fresh("k1"), records.ErrKeys, 1)
	check("at once again", fresh("k1"), records.ErrKeys, 1)
	h.set(func() { h.broken = false })
	pass(10 * time.Second)
	check("it answers", fresh("k1"), nil, 2)
	check("known", fresh("k1"), nil, 2)
	for range 50 {
		check("made up", fresh("made-up"), records.ErrToken, 2)
	}
	h.set(func() { h.keys["k2"] = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{3}, 32)) })
	check("a new key, too soon", fresh("k2"), records.ErrToken, 2)
	pass(10 * time.Second)
	// Who comes first asks, even if it goes away; the others wait for that.
	gone, leave := context.WithCancel(t.Context())
	leave()
	token := fresh("k2")
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			ctx := t.Context()
			if i == 0 {
				ctx = gone
			}
			if _, err := v.Token(ctx, token); err != nil && i > 0 {
				t.Errorf("a new key: %v", err)
			}
		})
	}
	all.Wait()
	check("a new key", fresh("k2"), nil, 3)
	pass(5 * time.Minute)
	check("after five minutes", fresh("k1"), nil, 4)
	h.set(func() { h.broken = true; delete(h.keys, "k2") })
	pass(5 * time.Minute)
	check("nobody answers for five minutes", fresh("k1"), nil, 5)
	pass(10 * time.Minute)
	check("nobody answers for fifteen", fresh("k1"), records.ErrKeys, 6)
	pass(10 * time.Second)
	h.set(func() { h.broken = false })
	check("it answers again", fresh("k1"), nil, 7)
	check("a key that it took back", h.sign("k2", nil, claims("acme", nil)), records.ErrToken, 7)
}

// TestRecords: a record is its customer's, whoever names it; nobody learns what another has, nor takes its room.
//
// Broken to see it fail: one map for all, with an owner a record; one number of records for all.
func TestRecords(t *testing.T) {
	t.Parallel()
	h := newHearth(t)
	s := records.New(h.verifier(t))
	ask := func(method, id, authorization, body string) (int, string) {
		t.Helper()
		req := httptest.NewRequestWithContext(t.Context(), method, "/records/"+id, strings.NewReader(body))
		if authorization != "" {
			req.Header.Set("Authorization", authorization)
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, req)
		return w.Code, strings.TrimSpace(w.Body.String())
	}
	acme, globex := "Bearer "+h.token("acme"), "Bearer "+h.token("globex")
	const none = `{"error":"you have no such record"}`
	for _, c := range []struct {
		method, id, who, body string
		status                int
		says                  string
	}{
		{"GET", "a", acme, "", 404, none},
		{"PUT", "a", acme, `{"total":42}`, 200, `{"record":{"total":42}}`},
		{"GET", "a", acme, "", 200, `{"record":{"total":42}}`},
		{"GET", "a", globex, "", 404, none},
		{"GET", "z", globex, "", 404, none},
		{"PUT", "a", globex, `{"total":1}`, 200, `{"record":{"total":1}}`},
		{"GET", "a", globex, "", 200, `{"record":{"total":1}}`},
		{"GET", "a", "Bearer " + h.token("Acme"), "", 404, none},
		{"GET", "a", acme, "", 200, `{"record":{"total":42}}`},
		{"PUT", "a", acme, `[1]`, 200, `{"record":[1]}`},
		{"GET", "a", "", "", 401, ""},
		{"GET", "a", acme[len("Bearer "):], "", 401, ""},
		{"GET", "a", "Basic " + acme[len("Bearer "):], "", 401, ""},
		{"PUT", "b", "Bearer x", `{}`, 401, ""},
		{"PUT", "b", acme, `{`, 400, ""},
		{"PUT", "b%2f", acme, `{}`, 400, ""},
		{"PUT", strings.Repeat("b", 65), acme, `{}`, 400, ""},
		{"PUT", "b", acme, `"` + strings.Repeat("x", 64<<10) + `"`, 413, ""},
		{"DELETE", "a", acme, "", 405, ""},
		{"GET", "b", acme, "", 404, ""},
	} {
		if status, body := ask(c.method, c.id, c.who, c.body); status != c.status || c.says != "" && body != c.says {
			t.Errorf("%s %.20s: %d %s, want %d %s", c.method, c.id, status, body, c.status, c.says)
		}
	}
	fill := func(who string, most int, body string) {
		t.Helper()
		for i := range most + 1 {
			if status, said := ask("PUT", fmt.Sprint("n", i), who, body); (status == 200) != (i < most) || i == most && status != 507 {
				t.Fatalf("record %d: %d %s", i, status, said)
			}
		}
		if status, said := ask("PUT", "n0", who, body); status != 200 {
			t.Errorf("in the place of one: %d %s", status, said)
		}
	}
	fill(globex, 99, `1`) // and the one that it has
	fill("Bearer "+h.token("large"), 16, `"`+strings.Repeat("x", 64<<10-2)+`"`)
	if status, said := ask("PUT", "b", acme, `1`); status != 200 {
		t.Errorf("a customer beside full ones: %d %s", status, said)
	}
	for i := range 500 {
		if status, said := ask("PUT", "a", "Bearer "+h.token(fmt.Sprint("c", i)), `1`); (status == 200) != (i < 497) {
			t.Fatalf("customer %d: %d %s", i, status, said)
		}
	}
	h.set(func() { h.broken = true })
	closed := records.New(h.verifier(t))
	w := httptest.NewRecorder()
	req := httptest.NewRequestWithContext(t.Context(), "GET", "/records/a", nil)
	req.Header.Set("Authorization", acme)
	if closed.ServeHTTP(w, req); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("without keys: %d %v", w.Code, w.Header())
	}
}

// TestFunction runs the function in Node, at the service, for two customers.
func TestFunction(t *testing.T) {
	t.Parallel()
	node, err := exec.LookPath("node")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("node is not installed, and CI must run this example")
		}
		t.Skip("node is not installed")
	}
	h := newHearth(t)
	service := httptest.NewServer(records.New(h.verifier(t)))
	t.Cleanup(service.Close)
	cmd := exec.CommandContext(t.Context(), node, "--input-type=module", "-e", `
		import { handler } from "../nodejs/index.mjs";
		const [acme, globex] = process.argv.slice(1).map((hearthToken, i) =>
			({ tenantId: ["acme", "globex"][i], hearthToken, getRemainingTimeInMillis: () => 20000 }));
		const said = [];
		for (const [event, context] of [[{ id: "i", record: { total: 42 } }, acme], [{ id: "i" }, acme], [{ id: "i" }, globex], [{ id: "a/b" }, acme], [{}, acme], [null, acme]]) {
			said.push(await handler(event, context).catch((error) => error.name));
		}
		console.log(JSON.stringify(said));`, h.token("acme"), h.token("globex"))
	cmd.Env = append(os.Environ(), "RECORDS="+service.URL)
	out, err := cmd.Output()
	const want = `[{"customer":"acme","status":200,"record":{"total":42}},{"customer":"acme","status":200,"record":{"total":42}},` +
		`{"customer":"globex","status":404,"error":"you have no such record"},` +
		`{"customer":"acme","status":400,"error":"an id has 1 to 64 of a-z, A-Z, 0-9, - and _"},"TypeError","TypeError"]`
	if err != nil || strings.TrimSpace(string(out)) != want {
		t.Errorf("%v\n%s\nwant\n%s", err, out, want)
	}
}
