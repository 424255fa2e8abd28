// Package callers checks who may name a sub-tenant under the policy "jwt" (SECURITY 5): the caller's token, signed by the account's own
// identity provider, names the sub-tenants that its holder may act for. The provider's keys are a JWKS behind the URL `tenant-jwks`
// of `hearth fabric`.
//
//	a call ──► Names ──known token, or known key──► nil, or a refusal        (nothing waits)
//	             │
//	             └─ErrKeys: no keys, an unknown kid, keys of five minutes──► Fetch ──► Names again
//
// What a provider answers is kept for [fresh] and used for [stale], so that one that is down for a while stops nobody, and a key that
// it took back serves no longer than that. An unknown kid has the keys fetched at most once in [again]: strangers cannot have this
// frontend call the provider as often as they like.
package callers
