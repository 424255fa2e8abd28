package token

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// MaxText is the longest token that is looked at.
const MaxText = 16 << 10

// Why a token is refused.
const (
	Malformed      = "malformed"
	WrongAlgorithm = "wrong-algorithm"
	WrongType      = "wrong-type"
	UnknownKey     = "unknown-key"
	BadSignature   = "bad-signature"
	Expired        = "expired"
	NotYetValid    = "not-yet-valid"
	TooLong        = "lives-too-long"
	ForeignIssuer  = "foreign-issuer"
	WrongAudience  = "wrong-audience"
	Inconsistent   = "inconsistent"
)

// Refusal is why a token is refused: one of the reasons, and a text that holds nothing of the token but, where its signature
// is good, values of its claims.
type Refusal struct {
	Reason string
	Text   string
}

// Error is the text.
func (r *Refusal) Error() string { return r.Text }

func refuse(reason, format string, args ...any) error {
	return &Refusal{reason, fmt.Sprintf(format, args...)}
}

// Check is what a token is held against.
type Check struct {
	Keys     Set
	Issuer   string    // that it must have
	Audience string    // that must be among its own; "" means that any will do
	Now      time.Time // by the clock of who checks
}

// Verify reads a token. Its error is a [*Refusal]: claims that come back are good.
func (c *Check) Verify(text string) (*Claims, error) {
	parser := jwt.NewParser(jwt.WithValidMethods([]string{Algorithm}), jwt.WithoutClaimsValidation(), jwt.WithStrictDecoding())
	key, err := c.key(parser, text)
	if err != nil {
		return nil, err
	}
	claims := new(Claims)
	if _, err := parser.ParseWithClaims(text, claims, func(*jwt.Token) (any, error) { return key, nil }); err != nil {
		if errors.Is(err, jwt.ErrTokenMalformed) {
			return nil, refuse(Malformed, "it is no token")
		}
		return nil, refuse(BadSignature, "its signature is not of the key that it names: it was changed, or made by somebody else")
	}
	if err := c.claims(claims); err != nil {
		return nil, err
	}
	return claims, nil
}

// key is the key that the token names, once its head is what the head of a token has to be.
func (c *Check) key(parser *jwt.Parser, text string) (ed25519.PublicKey, error) {
	if len(text) > MaxText {
		return nil, refuse(Malformed, "it has %d bytes; a token has at most %d", len(text), MaxText)
	}
	if strings.ContainsAny(text, "\r\n") { // which base64 reads over, in the signature too (RFC 7515, 2: none)
		return nil, refuse(Malformed, "a line breaks in it; a token is one line")
	}
	t, _, err := parser.ParseUnverified(text, new(Claims))
	alg := ""
	if t != nil {
		alg, _ = t.Header["alg"].(string)
	}
	switch {
	case errors.Is(err, jwt.ErrTokenUnverifiable), err == nil && alg != Algorithm:
		return nil, refuse(WrongAlgorithm, "its alg is not %s, the only one that signs tokens", Algorithm)
	case err != nil:
		return nil, refuse(Malformed, "it is no token: three parts of base64url with dots between, of which two are JSON, are wanted")
	case !isString(t.Header["typ"], Type):
		return nil, refuse(WrongType, "its typ is not %s: it was made for something else", Type)
	}
	for name := range t.Header {
		if name != "alg" && name != "typ" && name != "kid" {
			return nil, refuse(WrongType, "its head says more than alg, typ and kid: it was made for something else")
		}
	}
	id, _ := t.Header["kid"].(string)
	key, ok := c.Keys.Find(id)
	if !ok {
		return nil, refuse(UnknownKey, "no key of its kid is among the %d of the set: another fabric signed it, or long ago; if it was "+
			"made within 5 minutes, fetch the set again", len(c.Keys.Keys))
	}
	return key, nil
}

func isString(v any, want string) bool { s, ok := v.(string); return ok && s == want }

// claims holds what a token that is genuine says against the check.
func (c *Check) claims(t *Claims) error {
	if t.ExpiresAt == nil || t.NotBefore == nil || t.IssuedAt == nil || t.ID == "" {
		return refuse(Inconsistent, "it lacks one of exp, nbf, iat and jti")
	}
	exp, nbf, iat := t.ExpiresAt.Time, t.NotBefore.Time, t.IssuedAt.Time
	switch {
	case t.Issuer != c.Issuer:
		return refuse(ForeignIssuer, "its issuer is %q, not %q", clip(t.Issuer), c.Issuer)
	case exp.Sub(iat) > MaxLife:
		return refuse(TooLong, "it is good for %v, a token is for %v at most", exp.Sub(iat), MaxLife)
	case !c.Now.Before(exp):
		return refuse(Expired, "it expired %s ago, at %s", c.Now.Sub(exp).Round(time.Second), exp.UTC().Format(time.RFC3339))
	case c.Now.Before(nbf):
		return refuse(NotYetValid, "it is good from %s on, in %s: one of the clocks is wrong", nbf.UTC().Format(time.RFC3339), nbf.Sub(c.Now).Round(time.Second))
	case t.Account == "" || t.Tenant == "" || t.Function == "" || t.Version == "" || t.Environment == "" || t.Subject != Sub(t.Account, t.Tenant):
		return refuse(Inconsistent, "its sub is not that of its account and tenant, or one of account, tenant, function, version and env is missing")
	case len(t.Audience) == 0:
		return refuse(WrongAudience, "it has no audience")
	case c.Audience != "" && !slices.Contains(t.Audience, c.Audience):
		return refuse(WrongAudience, "it is for %s, not for %q", clip(strings.Join(t.Audience, ", ")), c.Audience)
	}
	return nil
}

func clip(s string) string {
	const most = 256
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "?") + "..."
	}
	return s
}
