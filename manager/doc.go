// Package manager is a node on the ring: it owns environments on its worker and claims calls for them.
//
// # An open pull is a warm environment
//
// Every arc has one durable consumer with prioritized pulls. A manager keeps as many pulls open on it as it has idle
// environments to offer there, each with the class of its rank (offers.go, DESIGN 2), and a credit of pulls for room. The
// server hands a call to the best open pull; nobody else decides.
//
// What no such pull takes comes to the catchers of the arc, its last two ranks (catcher.go). They know from the statuses
// that all managers tell (peers.go) whether to wait, to make the arc longer (arcs.go) or to say that the fabric is full. An
// arc whose last rank is not needed for a while gets shorter again. A pull of an unreserved arc does not say of which function
// something is idle: a claim for which nothing is warm here is handed to a manager that tells it has it, once, if that one
// promises it (handover.go).
//
// A reserved arc has no room: only the members of its opening are offered there, by the managers that hold some, in ring order
// (reserved.go). Its catchers, ranks 0 and 1, make nothing either: they move a call that found no idle member to the unreserved
// arc of its function, under the lock (overflow.go). They are open while calls come or no member is idle. There may be a thousand
// such arcs on which nothing happens: they take turns at having their pulls renewed, and share inboxes (turns.go). One goroutine
// takes in what comes to all of them, so that calls of different arcs are acknowledged by one write (crowd.go).
//
// # How a call passes
//
//	server ── delivery ──► deliver ─► read, judge ─► pool.Claim            claim.go, manager/pool
//	                                                   │ run         │ wait            │ refuse
//	                                                   ▼             ▼                 ▼
//	server ◄─ +ACK, or the lock ──────────────────── begin ◄── an environment parks   NAK
//	                                                   │                               startline.go
//	worker ◄─ Start ───────────────────────────────────┘
//	server ◄─ the next pull ───────── end ◄─ the worker has the answer     before the answer goes out
//	frontend ◄─ Ends ────────────────── off the caller's path              ends.go
//	            (not where the answer goes to the frontend itself)
//
// A call whose payload its frontend holds passes by fetch.go first: without it nothing starts.
//
// A delivery goes to its environment on the goroutine that takes it in, without a hop. A warm call costs one
// acknowledgement and one pull; claims whose deliveries queued up are acknowledged by one write (lineup.go), and where many
// environments are offered, those that come free within a millisecond are by one request (offers.go). Nothing is looked up in
// a bucket, no timer is set and no map grows.
//
// # Who may move what
//
// Manager.mu guards the pool, the counts of offers and the lists of claims. Nothing blocks under it: decisions are made
// under it and carried out after. One loop (offersLoop) renews offers and takes back what is too much; the path of a call
// only adds what is lacking. A pull that is sent on an inbox which the loop has just replaced is dropped by the server,
// for nobody listens there; the loop counted it anew.
//
// # Leaving the ring
//
// Drain takes a manager off the ring in order and keeps it alive, Undrain lets it back (drain.go); a frontend asks for
// either on hearth.m.<id>.ctl, for whoever operates the fabric (hear.go). Stop is a drain that nobody takes back, and the end.
//
// # What it trusts, and for how long
//
//   - An acknowledgement that was written out is the start line: in the stream = not started, gone = may have started. In
//     doubt (delivered before, maybe unseen for a second, close to its start-by, age unknown) it takes the message out of
//     the stream itself, which exactly one of several can (startline.go, DESIGN 3). While disconnected nothing starts.
//   - Its view of ring, fabric and arcs comes from watches (ring.go). A stale one costs a rank, never a call.
//   - Its lease is renewed each half second (member.go). The manager that holds the lease `controller` writes the ring, by
//     compare-and-set, from the leases' arrivals on its own clock (controller.go, DESIGN 6), and opens, keeps and retires the
//     arcs of reservations: package reservation decides, reservations.go, opening.go and sweeper.go do.
//   - A frontend whose status says that it has come back is named everything again: calls that run, and those that ended in the
//     last half minute, which it may not have heard (returns.go).
//   - After a reconnect the server may have lost what lay in memory: the set-up runs again and everything is offered anew
//     (setup.go).
//
// It never decides which arc a call takes, never sees HTTP, starts no process, and keeps no variable in clear beyond the
// binding that it hands to its worker.
package manager
