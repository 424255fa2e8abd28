// Package token is the form of the tokens by which an account's services know for which sub-tenant a function speaks: a JWS
// with Ed25519 over JSON claims, and the JWKS by which anybody checks it. Keys, lives and who may have one are others'
// (manager/tokens makes them, the worker hands them out); here is only what is written and read.
//
//	{"alg":"EdDSA","kid":"<RFC 7638 thumbprint of the key>","typ":"hearth-env+jwt"}
//	{"iss":"<the fabric's issuer>","sub":"<escaped account>.<escaped sub-tenant>","aud":["<of the function's list>", ...],
//	 "iat":..,"nbf":<iat - 30 s>,"exp":<at most iat + 15 min>,"jti":"..",
//	 "account":"..","tenant":"..","function":"..","version":"..","env":".."}
//
// The algorithm is no choice of who sends a token: [Check.Verify] takes EdDSA, this type and a key that the set has under the
// kid, and nothing else, so neither `none` nor an HMAC keyed with a public key gets anywhere. A kid is the thumbprint of its key
// everywhere, so that a manager that was taken over cannot publish a key of its own under another's name. SECURITY 4; RFC 7515,
// 7517, 7518, 7519, 7638, 8037, 8725.
package token
