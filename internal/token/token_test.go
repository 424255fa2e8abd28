package token_test

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"

	"github.com/hearth-run/hearth/internal/token"
	"github.com/hearth-run/hearth/schema"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var now = time.Date(2026, 11, 28, 8, 30, 0, 0, time.UTC)

func keyFrom(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(slices.Repeat([]byte{seed}, ed25519.SeedSize))
}

func publicOf(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

func subject() token.Subject {
	return token.Subject{
		Issuer: "https://hearth.example", Account: "default", Tenant: "acme/eu 1", Function: "records", Version: "$LATEST",
		Environment: "4be2c1aa-7", Audiences: []string{"db", "https://api.example"},
	}
}

func claims(t testing.TB, change ...func(*token.Claims)) *token.Claims {
	t.Helper()
	c, err := token.NewClaims(subject(), now, token.MaxLife)
	if err != nil {
		t.Fatal(err)
	}
	c.ID = "AAECAwQFBgcICQoLDA0ODw" // drawn; here it must not change
	for _, f := range change {
		f(c)
	}
	return c
}

func sign(t testing.TB, key ed25519.PrivateKey, c *token.Claims) string {
	t.Helper()
	text, err := token.Sign(key, c)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func check(keys ...ed25519.PrivateKey) *token.Check {
	c := &token.Check{Issuer: "https://hearth.example", Now: now}
	for _, k := range keys {
		c.Keys.Keys = append(c.Keys.Keys, token.KeyOf(publicOf(k)))
	}
	return c
}

// TestGolden: the bytes of a token and of a JWKS, which a library of others reads and verifies.
func TestGolden(t *testing.T) {
	key := keyFrom(1)
	text := sign(t, key, claims(t))
	set, err := json.Marshal(check(key).Keys)
	if err != nil {
		t.Fatal(err)
	}
	for path, got := range map[string]string{"testdata/token.jwt": text, "testdata/jwks.json": string(set)} {
		if *update {
			if err := os.WriteFile(path, []byte(got+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got+"\n" != string(want) {
			t.Errorf("%s:\n%s\nwant\n%s", path, got, want)
		}
	}

	var theirs jose.JSONWebKeySet
	if err := json.Unmarshal(set, &theirs); err != nil {
		t.Fatal(err)
	}
	jws, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		t.Fatal(err)
	}
	head := jws.Signatures[0].Protected
	if head.ExtraHeaders["typ"] != token.Type || head.Algorithm != token.Algorithm {
		t.Errorf("head %+v", head)
	}
	found := theirs.Key(head.KeyID)
	if len(found) != 1 {
		t.Fatalf("%d keys of kid %q", len(found), head.KeyID)
	}
	thumb, err := found[0].Thumbprint(5) // crypto.SHA256
	if err != nil || base64.RawURLEncoding.EncodeToString(thumb) != head.KeyID {
		t.Errorf("kid %q is not the thumbprint %x, %v", head.KeyID, thumb, err)
	}
	payload, err := jws.Verify(found[0])
	if err != nil {
		t.Fatal(err)
	}
	var has map[string]any
	if err := json.Unmarshal(payload, &has); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"iss": "https://hearth.example", "sub": "default.acme=2Feu=201", "aud": []any{"db", "https://api.example"},
		"iat": float64(now.Unix()), "nbf": float64(now.Unix() - 30), "exp": float64(now.Unix() + 900), "jti": "AAECAwQFBgcICQoLDA0ODw",
		"account": "default", "tenant": "acme/eu 1", "function": "records", "version": "$LATEST", "env": "4be2c1aa-7",
	}
	for _, name := range slices.Sorted(maps.Keys(has)) {
		if g, w := asJSON(has[name]), asJSON(want[name]); g != w {
			t.Errorf("claim %s is %s, want %s", name, g, w)
		}
	}
	if len(has) != len(want) {
		t.Errorf("claims %v", has)
	}
}

func asJSON(v any) string { b, _ := json.Marshal(v); return string(b) }

func TestVerify(t *testing.T) {
	t.Parallel()
	key := keyFrom(1)
	c := check(key)
	c.Audience = "db"
	got, err := c.Verify(sign(t, key, claims(t)))
	if err != nil || got.Tenant != "acme/eu 1" || got.Account != "default" || got.Environment != "4be2c1aa-7" {
		t.Errorf("%+v, %v", got, err)
	}
}

// forge makes a token of any head over the claims, signed by sign.
func forge(head map[string]any, body any, sign func(input string) []byte) string {
	h, _ := json.Marshal(head)
	b, _ := json.Marshal(body)
	input := base64.RawURLEncoding.EncodeToString(h) + "." + base64.RawURLEncoding.EncodeToString(b)
	return input + "." + base64.RawURLEncoding.EncodeToString(sign(input))
}

// TestRefused: what is forged, foreign, old or for others, each by its reason. No text holds the token.
func TestRefused(t *testing.T) {
	t.Parallel()
	key, other := keyFrom(1), keyFrom(2)
	kid := token.KeyID(publicOf(key))
	head := func(more ...any) map[string]any {
		h := map[string]any{"alg": "EdDSA", "typ": token.Type, "kid": kid}
		for i := 0; i < len(more); i += 2 {
			if more[i+1] == nil {
				delete(h, more[i].(string))
			} else {
				h[more[i].(string)] = more[i+1]
			}
		}
		return h
	}
	edDSA := func(k ed25519.PrivateKey) func(string) []byte {
		return func(input string) []byte { return ed25519.Sign(k, []byte(input)) }
	}
	hs256 := func(secret []byte) func(string) []byte {
		return func(input string) []byte {
			m := hmac.New(sha256.New, secret)
			m.Write([]byte(input))
			return m.Sum(nil)
		}
	}
	good := sign(t, key, claims(t))
	parts := strings.Split(good, ".")
	x := token.KeyOf(publicOf(key)).X
	changed, _ := json.Marshal(claims(t, func(c *token.Claims) { c.Tenant = "other" }))
	for name, c := range map[string]struct {
		text   string
		reason string
		change func(*token.Check)
	}{
		"empty":                 {text: "", reason: token.Malformed},
		"no token":              {text: "hello", reason: token.Malformed},
		"two parts":             {text: parts[0] + "." + parts[1], reason: token.Malformed},
		"four parts":            {text: good + ".x", reason: token.Malformed},
		"padded":                {text: parts[0] + "=." + parts[1] + "." + parts[2], reason: token.Malformed},
		"huge":                  {text: strings.Repeat("a", token.MaxText+1), reason: token.Malformed},
		"alg none":              {text: forge(head("alg", "none"), claims(t), func(string) []byte { return nil }), reason: token.WrongAlgorithm},
		"alg none, signed":      {text: forge(head("alg", "none"), claims(t), edDSA(key)), reason: token.WrongAlgorithm},
		"alg nOnE":              {text: forge(head("alg", "nOnE"), claims(t), func(string) []byte { return nil }), reason: token.WrongAlgorithm},
		"no alg":                {text: forge(head("alg", nil), claims(t), edDSA(key)), reason: token.WrongAlgorithm},
		"alg is a number":       {text: forge(head("alg", 5), claims(t), edDSA(key)), reason: token.WrongAlgorithm},
		"HS256 by the key":      {text: forge(head("alg", "HS256"), claims(t), hs256(publicOf(key))), reason: token.WrongAlgorithm},
		"HS256 by the JWK's x":  {text: forge(head("alg", "HS256"), claims(t), hs256([]byte(x))), reason: token.WrongAlgorithm},
		"another typ":           {text: forge(head("typ", "JWT"), claims(t), edDSA(key)), reason: token.WrongType},
		"no typ":                {text: forge(head("typ", nil), claims(t), edDSA(key)), reason: token.WrongType},
		"brings its key":        {text: forge(head("jwk", token.KeyOf(publicOf(other))), claims(t), edDSA(other)), reason: token.WrongType},
		"names a key's address": {text: forge(head("jku", "http://evil.example"), claims(t), edDSA(other)), reason: token.WrongType},
		"crit":                  {text: forge(head("crit", []string{"exp"}), claims(t), edDSA(key)), reason: token.WrongType},
		"no kid":                {text: forge(head("kid", nil), claims(t), edDSA(key)), reason: token.UnknownKey},
		"foreign key":           {text: sign(t, other, claims(t)), reason: token.UnknownKey},
		"kid of another":        {text: forge(head(), claims(t), edDSA(other)), reason: token.BadSignature},
		"kid of another that is known": {text: forge(head(), claims(t), edDSA(other)), reason: token.BadSignature,
			change: func(c *token.Check) { *c = *check(key, other) }},
		"changed":  {text: parts[0] + "." + base64.RawURLEncoding.EncodeToString(changed) + "." + parts[2], reason: token.BadSignature},
		"unsigned": {text: parts[0] + "." + parts[1] + ".", reason: token.BadSignature},
		"a key under a name that is not its": {text: forge(head("kid", "mine"), claims(t), edDSA(other)), reason: token.UnknownKey,
			change: func(c *token.Check) {
				k := token.KeyOf(publicOf(other))
				k.ID = "mine"
				c.Keys.Keys = append(c.Keys.Keys, k)
			}},
		"expired":                {text: good, reason: token.Expired, change: func(c *token.Check) { c.Now = now.Add(token.MaxLife) }},
		"not yet":                {text: good, reason: token.NotYetValid, change: func(c *token.Check) { c.Now = now.Add(-token.Early - time.Second) }},
		"lives too long":         {text: sign(t, key, claims(t, func(c *token.Claims) { c.ExpiresAt = jwt.NewNumericDate(now.Add(16 * time.Minute)) })), reason: token.TooLong},
		"no exp":                 {text: sign(t, key, claims(t, func(c *token.Claims) { c.ExpiresAt = nil })), reason: token.Inconsistent},
		"no iat":                 {text: sign(t, key, claims(t, func(c *token.Claims) { c.IssuedAt = nil })), reason: token.Inconsistent},
		"no jti":                 {text: sign(t, key, claims(t, func(c *token.Claims) { c.ID = "" })), reason: token.Inconsistent},
		"issuer of others":       {text: good, reason: token.ForeignIssuer, change: func(c *token.Check) { c.Issuer = "https://other.example" }},
		"audience of others":     {text: good, reason: token.WrongAudience, change: func(c *token.Check) { c.Audience = "d" }},
		"no audience":            {text: sign(t, key, claims(t, func(c *token.Claims) { c.Audience = nil })), reason: token.WrongAudience},
		"sub of another":         {text: sign(t, key, claims(t, func(c *token.Claims) { c.Tenant = "b" })), reason: token.Inconsistent},
		"without an environment": {text: sign(t, key, claims(t, func(c *token.Claims) { c.Environment = "" })), reason: token.Inconsistent},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ch := check(key)
			if c.change != nil {
				c.change(ch)
			}
			got, err := ch.Verify(c.text)
			var refusal *token.Refusal
			if got != nil || !errors.As(err, &refusal) || refusal.Reason != c.reason {
				t.Fatalf("%v, %v, want %s", got, err, c.reason)
			}
			for _, part := range strings.Split(c.text, ".") {
				if len(part) > 8 && strings.Contains(refusal.Text, part) {
					t.Errorf("the refusal tells the token: %s", refusal.Text)
				}
			}
		})
	}
}

// TestNewClaimsNeedAll: no token for nobody, of nobody, or for too long.
func TestNewClaimsNeedAll(t *testing.T) {
	t.Parallel()
	for says, change := range map[string]func(*token.Subject){
		"audience":    func(s *token.Subject) { s.Audiences = nil },
		"issuer":      func(s *token.Subject) { s.Issuer = "" },
		"sub-tenant":  func(s *token.Subject) { s.Tenant = "" },
		"environment": func(s *token.Subject) { s.Environment = "" },
	} {
		s := subject()
		change(&s)
		if c, err := token.NewClaims(s, now, token.MaxLife); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("without %s: %v, %v", says, c, err)
		}
	}
	if c, err := token.NewClaims(subject(), now, token.MaxLife+time.Second); err == nil {
		t.Errorf("too long: %v", c)
	}
}

// TestUnion: of several managers, without what is over and what stands under a name that is not its.
func TestUnion(t *testing.T) {
	t.Parallel()
	record := func(until time.Time, seeds ...byte) (r schema.TokenKeysRecord) {
		for _, s := range seeds {
			public := publicOf(keyFrom(s))
			r.Keys = append(r.Keys, schema.TokenKey{ID: token.KeyID(public), Public: public, Until: until})
		}
		return r
	}
	hijack := record(now.Add(time.Hour), 9)
	hijack.Keys[0].ID = token.KeyID(publicOf(keyFrom(1)))
	short := record(now.Add(time.Hour), 8)
	short.Keys[0].Public = short.Keys[0].Public[:31]
	flood := record(now.Add(time.Hour), 11, 12, 13, 14, 15, 16, 17, 18, 19)
	set := token.Union([]schema.TokenKeysRecord{record(now.Add(time.Second), 1, 2), record(now.Add(time.Hour), 2, 3), record(now, 4), hijack, short, flood}, now)
	var want []string
	for _, s := range []byte{1, 2, 3, 11, 12, 13, 14, 15, 16, 17, 18} {
		want = append(want, token.KeyID(publicOf(keyFrom(s))))
	}
	slices.Sort(want)
	var got []string
	for _, k := range set.Keys {
		got = append(got, k.ID)
		if public, ok := set.Find(k.ID); !ok || token.KeyID(public) != k.ID {
			t.Errorf("key %s is %v, %v", k.ID, public, ok)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("union %v, want %v", got, want)
	}
	if b, err := json.Marshal(token.Union(nil, now)); err != nil || string(b) != `{"keys":[]}` {
		t.Errorf("of nobody: %s, %v", b, err)
	}
}

// FuzzVerify: whatever comes, nothing but what the key signed is good.
func FuzzVerify(f *testing.F) {
	key := keyFrom(1)
	good := sign(f, key, claims(f))
	for _, s := range []string{good, good + "=", "", "a.b.c", "e30.e30.", `eyJhbGciOiJub25lIn0.e30.`, strings.Replace(good, ".", "..", 1), good[:len(good)-9] + "\n" + good[len(good)-9:]} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := check(key).Verify(text)
		var refusal *token.Refusal
		if err == nil && text != good || err != nil && (c != nil || !errors.As(err, &refusal)) {
			t.Errorf("%q: %v, %v", text, c, err)
		}
	})
}
