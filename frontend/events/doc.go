// Package events runs what was handed in without anybody waiting for the answer. A part of the frontend: its pollers claim
// events from the streams, run each through the frontend's sync path, so that there is one dispatch path, and see each of them
// to its end.
//
// # The promise
//
// The PubAck of stream EVENTS is the acceptance. From then on an event leaves a stream only once it has run to a good end, or
// once what becomes of it next is stored elsewhere, with a PubAck: acknowledged last, always. Whatever is killed in between
// costs a second run, never an event.
//
// # States of an event, and who moves them
//
//	          discover.go: a function has events and no poller here
//	EVENTS ──── pull ────► claimed ── its turn ───► running ──────────────── answer ────► acknowledged
//	   ▲                    │   │                    │   ▲                      OnSuccess: a record first, as an event
//	   │ no touch for 6 s,  │   │ delivered before   │   │ touched each 2 s
//	   │ or given back      │   └──► asked ── named ─┼───┘ joined: it runs already
//	   └────────────────────┘         100 ms, nobody │
//	                                  └──► running   │
//	                                                 ├─ function error, tries left ─────► RETRIES, due in 1 min, then 2
//	   ┌── due: the server's schedule ── RETRIES ◄───┼─ throttled, system error, lost ──► RETRIES, due in 1 s, 2 s ... 5 min
//	   └──────► claimed, as above                    ├─ no tries left, too old ─────────► OnFailure: a record, as an event
//	                                                 └─ cannot run as it is ────────────► or DEADLETTERS
//
// policy.go decides, purely, from the event, how its try ended, the function's numbers and the time; outcome.go carries that
// out: it writes to RETRIES, to DEADLETTERS or to a destination (destination.go), waits for the PubAck, then acknowledges. What
// a stream does not take is held and written again, then given back for minutes: nothing is dropped, and it is logged once in a
// while.
//
// # One function does not slow another
//
// Each function has one durable consumer on EVENTS and one on RETRIES, and a poller here (poll.go) that runs no more than its
// share of all managers' places (share.go). Where tries are quick it claims as many again ahead of their turn, each for a second at
// most (ahead.go). Refusals hold the share back, so that a backlog does not go round through RETRIES
// as fast as it is refused. The consumers are made by the first frontend that finds events of the function and go when nobody
// has pulled for minutes. What belongs to no function has no consumer at all: it is read, buried and deleted (stray.go).
//
// # What an event costs
//
// One that succeeds goes from its delivery to its arc on the goroutine of the pull's subscription, and from its answer to its
// acknowledgement on the goroutine that has the answer: no goroutine, no timer, no look at KV. One that was claimed ahead begins on
// the goroutine of its poller. One loop touches all that run. Pulls bring a quarter of the window at once. Acknowledgements are not confirmed: one that is lost has the event run again.
//
// # What it trusts, and for how long
//
// A claim is this poller's for as long as the server heard of it within 6 s; after that (a process that stood still, a
// connection that was cut) only a good end still counts, for another may have the event; nothing is given back then, which the server
// would take for the other's word. The start-by of a try is 4 s, and none begins 2 s after the server last heard of it, so that the
// unstarted call of a dead poller can start no more when its event comes back. Ages and delays go by the server's clock,
// which every answer of its API tells. What callers put into headers is read by the rules of sync calls and never copied;
// EVENTS refuses those by which a caller could act on the events of others.
//
// DESIGN 4, 12; Lambda C.
package events
