package records

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	tokenType = "hearth-env+jwt"
	maxToken  = 16 << 10
	maxLife   = 15 * time.Minute // of a token

	fresh   = 5 * time.Minute  // keys are not asked for again, unless a token names another
	stale   = 15 * time.Minute // keys are still used where Hearth does not answer
	again   = 10 * time.Second // between two questions: strangers who make kids up cannot have us ask all the time
	waiting = 5 * time.Second  // for an answer
	maxKeys = 1 << 20          // bytes
)

// ErrToken is wrapped by the errors of tokens that are none, or not for this service. Their texts hold nothing of the token.
var ErrToken = errors.New("the token is refused")

// ErrKeys is wrapped where a token cannot be checked, since Hearth's keys cannot be had.
var ErrKeys = errors.New("the keys of Hearth cannot be had")

// Config says whose tokens are taken. All but Client and Now are needed.
type Config struct {
	JWKS     string // URL of the keys: http://<a frontend of Hearth>/.well-known/jwks.json
	Issuer   string // as `hearth fabric get issuer` says; "hearth" unless it was set
	Audience string // this service's name, which functions are deployed with: --audience records
	// Account is the account of Hearth whose functions may come. Every account of a fabric has the same issuer and keys, and
	// writes what it likes into the audiences of its functions.
	Account string

	Client *http.Client     // nil: one that waits 5 s and follows no redirects
	Now    func() time.Time // nil: time.Now
}

// Caller is who a token speaks for.
type Caller struct {
	Tenant   string // the customer
	Function string
	Version  string
}

// Verifier checks tokens. It keeps the keys and asks for them when a token names one that it does not have, at most every 10 s.
// Safe for concurrent use.
type Verifier struct {
	cfg  Config
	turn chan struct{} // held by who asks for keys

	mu    sync.RWMutex // guards what follows
	keys  map[string]ed25519.PublicKey
	got   time.Time // keys
	asked time.Time
	why   error // keys did not come, last time
}

// NewVerifier makes one without keys; it asks nobody yet.
func NewVerifier(cfg Config) (*Verifier, error) {
	for _, needed := range [][2]string{{"JWKS", cfg.JWKS}, {"issuer", cfg.Issuer}, {"audience", cfg.Audience}, {"account", cfg.Account}} {
		if needed[1] == "" {
			return nil, fmt.Errorf("tokens cannot be checked without the %s that they are to have", needed[0])
		}
	}
	if cfg.Client == nil {
		cfg.Client = &http.Client{Timeout: waiting, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Verifier{cfg: cfg, turn: make(chan struct{}, 1)}, nil
}

// Verify says who a request comes from, by its header `Authorization: Bearer TOKEN`. Errors: [ErrToken], [ErrKeys].
func (v *Verifier) Verify(r *http.Request) (Caller, error) {
	text, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || len(r.Header["Authorization"]) != 1 {
		return Caller{}, refuse("Authorization: Bearer TOKEN is wanted, once")
	}
	return v.Token(r.Context(), text)
}

// Token says who a token speaks for.
func (v *Verifier) Token(ctx context.Context, text string) (Caller, error) {
	if len(text) > maxToken {
		return Caller{}, refuse("it is too long")
	}
	// The algorithm is ours to say, not the token's: "none", or an HMAC keyed with a public key, ends here.
	token, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil || len(token.Headers) != 1 {
		return Caller{}, refuse("it is no JWT with a signature of EdDSA")
	}
	if token.Headers[0].ExtraHeaders[jose.HeaderType] != tokenType {
		return Caller{}, refuse("its typ is not " + tokenType + ": it was made for something else")
	}
	key, err := v.key(ctx, token.Headers[0].KeyID)
	if err != nil {
		return Caller{}, err
	}
	var claims jwt.Claims
	var own struct {
		Account  string `json:"account"` // go-jose looks at the case of names
		Tenant   string `json:"tenant"`
		Function string `json:"function"`
		Version  string `json:"version"`
	}
	if err := token.Claims(key, &claims, &own); err != nil {
		return Caller{}, refuse("its signature is not good, or its claims are none")
	}
	now := v.cfg.Now()
	// No leeway, and no look at iat but for the life: tokens are good from 30 s before they were made, for clocks that are behind, and
	// environments have the next one minutes before they end.
	switch {
	case claims.Issuer != v.cfg.Issuer:
		return Caller{}, refuse("its issuer is another")
	case !claims.Audience.Contains(v.cfg.Audience):
		return Caller{}, refuse("it is for others, not for " + v.cfg.Audience)
	case own.Account != v.cfg.Account:
		return Caller{}, refuse("it is of another account")
	case own.Tenant == "":
		return Caller{}, refuse("it names no tenant")
	case claims.Expiry == nil || claims.IssuedAt == nil || claims.Expiry.Time().Sub(claims.IssuedAt.Time()) > maxLife:
		return Caller{}, refuse("it does not end, or lives too long")
	case !now.Before(claims.Expiry.Time()):
		return Caller{}, refuse("it has expired")
	case claims.NotBefore != nil && now.Before(claims.NotBefore.Time()):
		return Caller{}, refuse("it is not good yet")
	}
	return Caller{Tenant: own.Tenant, Function: own.Function, Version: own.Version}, nil
}

func refuse(why string) error { return fmt.Errorf("%w: %s", ErrToken, why) }

// key is the key of that name, asked for if need be.
func (v *Verifier) key(ctx context.Context, id string) (ed25519.PublicKey, error) {
	key, age := v.look(id)
	if key != nil && age < fresh {
		return key, nil
	}
	select {
	case v.turn <- struct{}{}:
		v.fetch(ctx)
		<-v.turn
	default: // somebody asks already: who has a key goes on with it
		if key != nil && age < stale {
			return key, nil
		}
		select {
		case v.turn <- struct{}{}:
			<-v.turn
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrKeys, context.Cause(ctx))
		}
	}
	key, age = v.look(id)
	switch {
	case age >= stale:
		v.mu.RLock()
		defer v.mu.RUnlock()
		return nil, fmt.Errorf("%w: %w", ErrKeys, v.why)
	case key == nil:
		return nil, refuse("no key of its kid is Hearth's")
	}
	return key, nil
}

// look gives a key, nil if it is not here, and the age of all.
func (v *Verifier) look(id string) (ed25519.PublicKey, time.Duration) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if v.got.IsZero() {
		return nil, stale
	}
	return v.keys[id], v.cfg.Now().Sub(v.got)
}

// fetch asks for the keys, unless they were asked for a moment ago. The caller has the turn. Whose request it is may go away
// meanwhile: the answer is everybody's.
func (v *Verifier) fetch(ctx context.Context) {
	now := v.cfg.Now()
	v.mu.Lock()
	early := !v.asked.IsZero() && now.Sub(v.asked) < again
	if !early {
		v.asked = now
	}
	v.mu.Unlock()
	if early {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), waiting)
	defer cancel()
	keys, err := v.ask(ctx)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.why = err; err == nil {
		v.keys, v.got = keys, now
	}
}

func (v *Verifier) ask(ctx context.Context) (map[string]ed25519.PublicKey, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, v.cfg.JWKS, nil)
	if err != nil {
		return nil, err
	}
	res, err := v.cfg.Client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxKeys+1))
	var set jose.JSONWebKeySet
	if err = cmp.Or(err, json.Unmarshal(body, &set)); err != nil || res.StatusCode != http.StatusOK || len(body) > maxKeys {
		return nil, fmt.Errorf("%s answered %s, and no JWKS", v.cfg.JWKS, res.Status)
	}
	keys := make(map[string]ed25519.PublicKey)
	for _, k := range set.Keys {
		if public, ok := k.Key.(ed25519.PublicKey); ok && k.KeyID != "" && (k.Use == "" || k.Use == "sig") {
			keys[k.KeyID] = public
		}
	}
	return keys, nil
}
