package frontend_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"testing"
	"time"

	"crypto/ed25519"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/internal/token"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// publishKeys writes what manager id has published, under the name of manager as.
func (b *bundle) publishKeys(t testing.TB, id, as string, until time.Time, seeds ...byte) (names []string) {
	t.Helper()
	js := natstest.JetStream(t, b.caller)
	kv, err := js.KeyValue(t.Context(), b.Names.Bucket(topology.Keys))
	if err != nil {
		t.Fatal(err)
	}
	r := schema.TokenKeysRecord{V: schema.Version, Manager: id}
	for _, s := range seeds {
		public := ed25519.NewKeyFromSeed(slices.Repeat([]byte{s}, ed25519.SeedSize)).Public().(ed25519.PublicKey)
		r.Keys = append(r.Keys, schema.TokenKey{ID: token.KeyID(public), Public: public, Until: until})
		names = append(names, token.KeyID(public))
	}
	value, err := schema.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), schema.TokenKeysName(subjects.Escape(as)), value); err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

// jwks is the set as anybody gets it.
func (b *bundle) jwks(t testing.TB) (names []string, resp *http.Response) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.url+"/.well-known/jwks.json", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp = b.do(t, req)
	var set token.Set
	if err := json.Unmarshal([]byte(bodyOf(t, resp)), &set); err != nil || set.Keys == nil {
		t.Fatalf("%+v, %v", set, err)
	}
	names = []string{}
	for _, k := range set.Keys {
		names = append(names, k.ID)
	}
	return names, resp
}

// TestJWKS is the union of what managers publish, as it is now: without one that is over, and without what stands under another
// manager's name.
func TestJWKS(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{http: true})
	if names, resp := b.jwks(t); len(names) != 0 || resp.Header.Get("Cache-Control") != "public, max-age=300" {
		t.Errorf("of nobody: %v, %v", names, resp.Header)
	}
	later := time.Now().Add(time.Hour)
	first := b.publishKeys(t, "m.1", "m.1", later, 1, 2)
	second := b.publishKeys(t, "m2", "m2", later, 3)
	b.publishKeys(t, "m2", "m3", later, 4)
	is := func(want []string) {
		t.Helper()
		slices.Sort(want)
		natstest.Eventually(t, patience, func() bool { names, _ := b.jwks(t); return slices.Equal(names, want) }, "the union of the managers' keys")
		out := b.f.TokenKeys()
		if len(out.Keys) != len(want) || out.Issuer != b.Names.Prefix() {
			t.Errorf("over NATS: %+v", out)
		}
	}
	is(slices.Concat(first, second))
	b.publishKeys(t, "m.1", "m.1", time.Now().Add(-time.Second), 1, 2) // it never came back
	is(second)
}

// TestJWKSGuard: it is public, and yet no page and no foreign name gets it from here.
func TestJWKSGuard(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{http: true})
	for _, c := range []struct {
		name, method, host string
		header             http.Header
		status             int
	}{
		{"HEAD", http.MethodHead, "", nil, 200},
		{"POST", http.MethodPost, "", nil, 405},
		{"a page", http.MethodGet, "", http.Header{"Origin": {"http://a.example"}}, 403},
		{"a page without Origin", http.MethodGet, "", http.Header{"Sec-Fetch-Site": {"cross-site"}}, 403},
		{"a foreign name", http.MethodGet, "a.example", nil, 421},
		{"through a proxy", http.MethodGet, "", http.Header{"X-Forwarded-For": {"192.0.2.1"}}, 200},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, b.url+"/.well-known/jwks.json", nil)
		if err != nil {
			t.Fatal(err)
		}
		if req.Host = c.host; c.header != nil {
			req.Header = c.header
		}
		if resp := b.do(t, req); resp.StatusCode != c.status {
			t.Errorf("%s: %s, want %d", c.name, resp.Status, c.status)
		}
	}
}
