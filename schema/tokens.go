package schema

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"time"
)

// Token is what a function shows to its account's services to speak for the sub-tenant that its environment is bound to. It
// prints as "***" and no codec writes it: its text goes to that environment alone. SECURITY 4.
type Token struct {
	Text string        `json:"-" msgpack:"-"`
	Life time.Duration // from when it was made until it is no good any more
}

// Format prints [Hidden], whatever the verb.
func (Token) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(Hidden)) }

// LogValue is [Hidden].
func (Token) LogValue() slog.Value { return slog.StringValue(Hidden) }

// TokenPath is where the Runtime API gives an environment its token.
const TokenPath = "/hearth/v1/token"

// MaxToken is the longest text of a token, MaxTokenLife the longest life that anybody is told of one.
const (
	MaxToken     = 16 << 10
	MaxTokenLife = 15 * time.Minute
)

// MaxTokenKeys is how many keys one manager may publish: the one that signs, the next, and those whose tokens live on.
const MaxTokenKeys = 8

// TokenSource gives a new token of one environment, which the worker says is bound to this sub-tenant: its manager attaches the
// source, and signs only if the first call that it started there was that sub-tenant's. It may be asked again at any time, and
// obeys ctx. An error means that there is none now.
type TokenSource func(ctx context.Context, tenant string) (Token, error)

// TokenKeysRecord is the public halves of a manager's keys for tokens: in bucket keys under [TokenKeysName], where that manager
// alone may write. Their union is the fabric's JWKS. SECURITY 4.
type TokenKeysRecord struct {
	V       int        `msgpack:"v"`
	Manager string     `msgpack:"manager"`
	Keys    []TokenKey `msgpack:"keys"`
}

// TokenKey is one of them.
type TokenKey struct {
	ID     string    `msgpack:"id"`     // RFC 7638 thumbprint
	Public []byte    `msgpack:"public"` // 32 bytes, Ed25519
	Until  time.Time `msgpack:"until"`  // it is served until then, which its manager moves on as long as it signs
}

// TokenKeysName is the key of the [TokenKeysRecord] of the manager with this id, whose escaped form it takes.
func TokenKeysName(escaped string) string { return MemberPrefix + escaped }

// TokenKeysOutput answers GetTokenKeys: what is needed to check a token.
type TokenKeysOutput struct {
	Issuer string     `json:"Issuer"`
	Keys   []TokenJWK `json:"keys"`
}

// TokenJWK is a public key in its JSON form (RFC 7517, 8037).
type TokenJWK struct {
	Kind      string `json:"kty"`
	Curve     string `json:"crv"`
	ID        string `json:"kid"`
	X         string `json:"x"`
	Algorithm string `json:"alg"`
	Use       string `json:"use"`
}

// TokenIssuer is the iss of the fabric's tokens: its number `issuer`, or the prefix of its subjects where none is set.
func (f *Fabric) TokenIssuer(prefix string) string { return cmp.Or(f.Issuer, prefix) }
