// Package tokens is the built-in provider of tokens: a manager's own Ed25519 keys, by which it signs for the environments that
// it has bound.
//
// # A key's life
//
//	made, kept in the folder ──► next: published, signs nothing ── 10 min ──► signing ── the next one signs ──► retired ── 30 min ──► gone
//	                                                                  ▲                                          (published on)
//	                    a manager that has none yet: signs at once ───┘
//
// Private halves lie in one file of the manager's data folder (0600, named after the manager) and outlast a restart; public
// halves stand in bucket keys, under a key that this manager alone may write. Their union over the managers is the fabric's
// JWKS (internal/token). A record says of each key until when it is served. Of one that signs that is moved on every quarter
// of an hour, and no token is made unless the published time is at least 30 min away: so however a manager ends, its key is
// served for 30 to 60 min after its last token, and the record of a manager that never comes back is over by itself.
//
// # Clocks that jump
//
// What has to have passed (10 min until a key signs, 30 min until one goes, a day until the next is made) is counted on the
// clock that never jumps; after a restart, which has no such clock, the 10 and the 30 min begin anew. The wall clock goes into
// tokens and records alone. When it jumps, either way, the records are written again for the new time within a minute, and
// what a jump forward may do is make the next key early: a key's age at a restart is by the wall clock.
//
// # What it never does
//
// It knows nothing of environments: whoever asks for a token says for what, and the manager asks for bindings of its own alone.
// It hands no private key out, and none to the other managers: each has its own. SECURITY 4.
package tokens
