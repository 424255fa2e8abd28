package callers

import (
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/hearth-run/hearth/schema"
)

const (
	fresh     = 5 * time.Minute  // keys are not asked for again
	stale     = 15 * time.Minute // keys are used where the provider does not answer
	again     = 10 * time.Second // between two questions to a provider
	leeway    = 30 * time.Second // between its clock and ours
	fetchTime = 5 * time.Second
	maxToken  = 16 << 10
	maxSet    = 1 << 20
	maxKeys   = 256
	maxKnown  = 4096 // tokens remembered
	minRSA    = 2048 // bits
)

// algorithms are those of public keys: what is signed by a secret would let whoever checks sign too.
var algorithms = []jose.SignatureAlgorithm{jose.EdDSA, jose.ES256, jose.ES384, jose.ES512, jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512}

// ErrKeys says that the provider's keys are needed first: [Callers.Fetch], then ask again.
var ErrKeys = errors.New("the keys of the tenant policy are not here")

// Policy is what a token is held against.
type Policy struct {
	JWKS     string // URL of the provider's keys
	Audience string // that must be among the token's
	Claim    string // whose value is the sub-tenant, or a list of them
}

// Config is what a Callers may be told.
type Config struct {
	Now    func() time.Time  // nil: [time.Now]
	Client http.RoundTripper // nil: [http.DefaultTransport]
}

// Callers remembers keys and tokens that were good. Safe for concurrent use; it has no goroutine of its own.
type Callers struct {
	now    func() time.Time
	client *http.Client
	turn   chan struct{} // held by who fetches

	mu    sync.RWMutex
	url   string // where keys are from
	keys  map[string]jose.JSONWebKey
	got   time.Time             // keys
	asked time.Time             // the provider, last
	why   string                // it did not answer then
	known map[[32]byte]verified // by hash of the token
}

// verified is a token whose signature is good.
type verified struct {
	policy  Policy
	begins  time.Time
	ends    time.Time
	tenants []string
}

// New makes one that knows nothing.
func New(cfg Config) *Callers {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Callers{
		now: cfg.Now, turn: make(chan struct{}, 1),
		client: &http.Client{
			Transport: cfg.Client, Timeout: fetchTime,
			// Whom the policy names is asked, nobody else.
			CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("it redirects; name where it leads to") },
		},
	}
}

// Names reports whether the holder of a token may name a sub-tenant: nil, [ErrKeys], or a [schema.Error] that says why not and holds
// nothing of the token. It waits for nothing.
func (c *Callers) Names(p Policy, text, tenant string) error {
	if p.JWKS == "" {
		return &schema.Error{Code: schema.CodeUnavailable, Message: "the tenant policy is jwt and no keys are named: `hearth fabric set tenant-jwks=URL`"}
	}
	if text == "" {
		return denied("none came: send it as " + schema.HeaderToken + ", or over HTTP as Authorization: Bearer")
	}
	if len(text) > maxToken {
		return denied(fmt.Sprintf("it has %d bytes; at most %d are read", len(text), maxToken))
	}
	now, hash := c.now(), sha256.Sum256([]byte(text))
	c.mu.RLock()
	v, ok := c.known[hash]
	here, due, usable := c.url == p.JWKS, c.due(now), now.Sub(c.got) < stale
	c.mu.RUnlock()
	if !here || due {
		return ErrKeys
	}
	if !ok || !usable || v.policy != p {
		var err error
		if v, err = c.verify(p, text, now); err != nil {
			return err
		}
		c.remember(hash, v)
	}
	switch {
	case !now.Before(v.ends.Add(leeway)):
		return denied("it has expired, at " + v.ends.UTC().Format(time.RFC3339))
	case now.Before(v.begins.Add(-leeway)):
		return denied("it is not good before " + v.begins.UTC().Format(time.RFC3339))
	case !slices.Contains(v.tenants, tenant):
		return denied(fmt.Sprintf("its claim %q does not name this sub-tenant", p.Claim))
	}
	return nil
}

func denied(why string) error {
	return &schema.Error{Code: schema.CodeAccessDenied, Message: "the tenant policy is jwt, and the caller's token does not let it act for this sub-tenant: " + why}
}

// verify reads a token that is not known yet.
func (c *Callers) verify(p Policy, text string, now time.Time) (v verified, err error) {
	token, err := jwt.ParseSigned(text, algorithms)
	if err != nil || len(token.Headers) != 1 {
		return v, denied("it is no JWT that a public key signed (EdDSA, ES, RS or PS)")
	}
	key, err := c.key(p.JWKS, token.Headers[0].KeyID, now)
	if err != nil {
		return v, err
	}
	if key.Algorithm != "" && key.Algorithm != token.Headers[0].Algorithm {
		return v, denied("its key signs with " + key.Algorithm + ", and its head says otherwise")
	}
	var claims jwt.Claims
	var own map[string]json.RawMessage
	if err := token.Claims(key.Key, &claims, &own); err != nil {
		return v, denied("its signature is not of the key that it names, or its claims are none")
	}
	if claims.Expiry == nil {
		return v, denied("it does not say when it ends (exp)")
	}
	if !claims.Audience.Contains(p.Audience) {
		return v, denied(fmt.Sprintf("it is not for this fabric: its aud has to hold %q", p.Audience))
	}
	v = verified{policy: p, ends: claims.Expiry.Time(), begins: claims.NotBefore.Time()}
	var one string
	if json.Unmarshal(own[p.Claim], &one) == nil && one != "" {
		v.tenants = []string{one}
	} else if err := json.Unmarshal(own[p.Claim], &v.tenants); err != nil {
		return v, denied(fmt.Sprintf("its claim %q is not a sub-tenant, nor a list of them", p.Claim))
	}
	return v, nil
}

// key is the key of that name, as far as the keys here say.
func (c *Callers) key(url, id string, now time.Time) (*jose.JSONWebKey, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	key, ok := c.keys[id]
	switch {
	case c.url != url || !ok && c.may(now):
		return nil, ErrKeys
	case now.Sub(c.got) >= stale:
		return nil, &schema.Error{Code: schema.CodeUnavailable, Message: "the keys of the tenant policy cannot be had: " + c.why}
	case !ok:
		return nil, denied("no key of its kid is among the provider's")
	}
	return &key, nil
}

// may reports whether the provider may be asked again. The caller holds mu.
func (c *Callers) may(now time.Time) bool { return now.Sub(c.asked) >= again || now.Before(c.asked) }

// due reports whether the keys are to be asked for again. The caller holds mu.
func (c *Callers) due(now time.Time) bool {
	age := now.Sub(c.got)
	return (age >= fresh || age < 0) && c.may(now)
}

func (c *Callers) remember(hash [32]byte, v verified) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for other := range c.known { // any: a token costs a signature to read again
		if len(c.known) < maxKnown {
			break
		}
		delete(c.known, other)
	}
	c.known[hash] = v
}

// Fetch asks the provider for its keys, if nobody has meanwhile. What goes wrong is told by the next [Callers.Names]; the error is
// that of the context alone.
func (c *Callers) Fetch(ctx context.Context, url string) error {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	now := c.now()
	c.mu.Lock()
	if c.url == url && !c.may(now) {
		c.mu.Unlock()
		return nil
	}
	if c.url != url {
		c.url, c.keys, c.got, c.known = url, nil, time.Time{}, make(map[[32]byte]verified)
	}
	c.asked = now
	c.mu.Unlock()

	keys, err := c.ask(ctx, url)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.why = err.Error()
		return context.Cause(ctx)
	}
	// A key that the provider took back signs nothing more, so what it had signed is read again.
	c.keys, c.got, c.why, c.known = keys, now, "", make(map[[32]byte]verified)
	return nil
}

func (c *Callers) ask(ctx context.Context, url string) (map[string]jose.JSONWebKey, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	res, err := c.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", url, res.Status)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxSet+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxSet {
		return nil, fmt.Errorf("%s answered more than %d bytes", url, maxSet)
	}
	return readSet(body)
}

// readSet takes of a JWKS the keys that may sign tokens here. Others, of kinds that nobody here reads among them, are left aside, as
// RFC 7517 5 asks for.
func readSet(body []byte) (map[string]jose.JSONWebKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil || set.Keys == nil {
		return nil, errors.New("what it answered is no JWKS")
	}
	keys := make(map[string]jose.JSONWebKey)
	for _, raw := range set.Keys[:min(len(set.Keys), maxKeys)] {
		var key jose.JSONWebKey
		if json.Unmarshal(raw, &key) != nil || key.KeyID == "" || !key.Valid() || !key.IsPublic() || key.Use != "" && key.Use != "sig" {
			continue
		}
		if r, ok := key.Key.(*rsa.PublicKey); ok && r.N.BitLen() < minRSA {
			continue
		}
		keys[key.KeyID] = key
	}
	return keys, nil
}
