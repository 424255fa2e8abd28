// Package pool decides which environment runs a claim: the warm pool of one manager as a state machine. It does no I/O,
// reads no clock, starts no goroutine and is not locked; its owner holds one mutex around every call, does what the
// returned decision says after unlocking, and reports back what became of it.
//
// An environment's life, and what moves it:
//
//	Claim, … (cover is short), SetShare, … (members lack)
//	      │ Make
//	      ▼
//	 ┌─────────┐  Parked   ┌──────┐  Claim, or Parked with   ┌──────┐
//	 │starting │ ────────► │ idle │ ──a claim that waits───► │ busy │
//	 └────┬────┘           └──┬───┘ ◄──────Release────────── └──┬───┘
//	      │ Failed            │ ▲                               │ Finished
//	      │                   │ │ Parked        ┌───────────┐   │
//	      │ evicted, surplus, │ └────────────── │ finishing │ ◄─┘
//	      │ idle for too long,▼                 └─────┬─────┘
//	      │ gone by        ┌─────────┐                │
//	      └──────────────► │ closing │ ◄──────────────┘ not reusable
//	                       └────┬────┘
//	                            ▼ Gone
//
// Promise takes an idle one aside for a claim that another manager sends: Redeem makes it busy, and after [PromiseFor] Lapsed
// names it and Release gives it its turn.
//
// The rules, all of DESIGN 2:
//   - The most recently used idle environment first, so that surplus ones really go idle.
//   - Late binding: a claim for which an environment must be made waits for whichever of its group is ready first. What
//     waits is covered by environments that start or that have answered and not asked for the next call yet
//     (finishing). Only when more wait than are covered one more is made.
//   - A finishing environment covers for [Patience]; one that takes longer may be stuck, so another is made.
//   - Room is free places and those of idle environments that may be evicted; the least recently used ones go first,
//     and reserved ones never. What has been idle for less long than its init took is hot, and no room yet (hot.go).
//   - A sub-tenant has at most as many environments as its function's limit says, those that its claims will bind included: beyond it
//     its own least recently used idle one makes way, or its claim is throttled. Nobody else's makes way for it (tenants.go, DESIGN 7).
//   - A reserved home has a share, its members: they are made ahead of claims, and no claim of it makes another. What is above
//     the share is used while it is there, and ends as far as the reclaim window shows it idle (shares.go, DESIGN 6).
//   - A failed init fails one claim, the oldest, and only if nothing else covers it: so a broken function costs one
//     init a claim and never loops by itself.
//
// What a pool returns are facts ([Decision], [Turn], [Plan]); recording them is the owner's.
package pool
