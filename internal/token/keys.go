package token

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"github.com/hearth-run/hearth/schema"
)

// Set is a JWKS.
type Set struct {
	Keys []schema.TokenJWK `json:"keys"`
}

// KeyID is the name of a key: its thumbprint (RFC 7638, 8037).
func KeyID(public ed25519.PublicKey) string {
	sum := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + base64.RawURLEncoding.EncodeToString(public) + `"}`))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// KeyOf is a public key in a set.
func KeyOf(public ed25519.PublicKey) schema.TokenJWK {
	return schema.TokenJWK{Kind: "OKP", Curve: "Ed25519", ID: KeyID(public), X: base64.RawURLEncoding.EncodeToString(public), Algorithm: Algorithm, Use: "sig"}
}

// public is a key's bytes, if it is one that may sign tokens and has its own name.
func public(k *schema.TokenJWK) (ed25519.PublicKey, bool) {
	if k.Kind != "OKP" || k.Curve != "Ed25519" || k.Algorithm != "" && k.Algorithm != Algorithm || k.Use != "" && k.Use != "sig" {
		return nil, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(k.X)
	if err != nil || len(b) != ed25519.PublicKeySize || KeyID(b) != k.ID {
		return nil, false
	}
	return b, true
}

// Find is the key of that name.
func (s *Set) Find(id string) (ed25519.PublicKey, bool) {
	for i := range s.Keys {
		if s.Keys[i].ID == id {
			return public(&s.Keys[i])
		}
	}
	return nil, false
}

// Union is what several managers publish as one set, in the order of the keys' names. Left out are keys whose time is over and
// keys under a name that is not theirs.
func Union(records []schema.TokenKeysRecord, now time.Time) Set {
	all := Set{Keys: []schema.TokenJWK{}} // never null
	for _, r := range records {
		for _, k := range r.Keys[:min(len(r.Keys), schema.MaxTokenKeys)] {
			if len(k.Public) == ed25519.PublicKeySize && KeyID(k.Public) == k.ID && now.Before(k.Until) {
				all.Keys = append(all.Keys, KeyOf(k.Public))
			}
		}
	}
	slices.SortFunc(all.Keys, func(a, b schema.TokenJWK) int { return strings.Compare(a.ID, b.ID) })
	all.Keys = slices.Compact(all.Keys)
	return all
}
