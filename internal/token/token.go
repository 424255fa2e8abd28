package token

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/hearth-run/hearth/subjects"
)

// Type is the typ of every token, and Algorithm its alg.
const (
	Type      = "hearth-env+jwt"
	Algorithm = "EdDSA"
)

// MaxLife is how long a token is good at most, and Early how much before it was made it is good already: clocks of those that
// check it may be behind.
const (
	MaxLife = 15 * time.Minute
	Early   = 30 * time.Second
)

// Subject is a bound environment as its token names it.
type Subject struct {
	Issuer      string // of the fabric
	Account     string
	Tenant      string
	Function    string
	Version     string
	Environment string
	Audiences   []string // of the function's configuration, at least one
}

// Claims is what a token says.
type Claims struct {
	jwt.RegisteredClaims
	Account     string `json:"account"`
	Tenant      string `json:"tenant"`
	Function    string `json:"function"`
	Version     string `json:"version"`
	Environment string `json:"env"`
}

// NewClaims are the claims of s for a token that is made now and good for life, at most [MaxLife]. What has no audience, no
// issuer or no sub-tenant gets none: the error says which.
func NewClaims(s Subject, now time.Time, life time.Duration) (*Claims, error) {
	for name, value := range map[string]string{
		"issuer": s.Issuer, "account": s.Account, "sub-tenant": s.Tenant, "function": s.Function, "version": s.Version, "environment": s.Environment,
	} {
		if value == "" {
			return nil, fmt.Errorf("a token needs an %s", name)
		}
	}
	if len(s.Audiences) == 0 {
		return nil, fmt.Errorf("function %q has no audience, and a token is for somebody: deploy it with --audience", s.Function)
	}
	if life <= 0 || life > MaxLife {
		return nil, fmt.Errorf("a token lives for at most %v, not %v", MaxLife, life)
	}
	now = now.Truncate(time.Second)
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	return &Claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: s.Issuer, Subject: Sub(s.Account, s.Tenant), Audience: s.Audiences, IssuedAt: jwt.NewNumericDate(now),
			NotBefore: jwt.NewNumericDate(now.Add(-Early)), ExpiresAt: jwt.NewNumericDate(now.Add(life)),
			ID: base64.RawURLEncoding.EncodeToString(id[:]),
		},
		Account: s.Account, Tenant: s.Tenant, Function: s.Function, Version: s.Version, Environment: s.Environment,
	}, nil
}

// Sub is the sub of an account's sub-tenant: both escaped, so that no two pairs have the same.
func Sub(account, tenant string) string {
	return subjects.Escape(account) + "." + subjects.Escape(tenant)
}

// Sign makes the token of claims with a key, under the name that [KeyID] gives it.
func Sign(key ed25519.PrivateKey, c *Claims) (string, error) {
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, c)
	t.Header["typ"], t.Header["kid"] = Type, KeyID(key.Public().(ed25519.PublicKey))
	text, err := t.SignedString(key)
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	return text, nil
}
