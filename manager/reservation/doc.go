// Package reservation decides what the controller does next for one reservation (DESIGN 6). It does no I/O, reads no clock,
// starts no goroutine and holds nothing: [Next] goes from a record, its revision and what is known besides to the one next
// step; the controller in package manager does it, tells what it found by [Sight.After], and asks again.
//
//	                       frontends write the limit L, and nothing else
//	(no key) ── L > 0 ──► provisioning, epoch 0
//	                          │ Write: epoch = the revision that asked for it, shard
//	                          ▼
//	     ┌──────────── provisioning ── all shares ready: MakeConsumer, PublishMarker, Look, Write ──┐
//	     │ L = 0                                                                                    ▼
//	     │                 ┌──────────────── L > 0, the same epoch ──────────────────────────── active ◄─┐ marker or consumer
//	     ▼                 │                                                                        │ └──┘ missing: made anew
//	draining, marker 0 ◄───┴── S = 0: Write ── draining, marker kept ◄──────────── L = 0 ───────────┘
//	 "it closes"                                (calls go on in what is left)
//	     │
//	     ├── L > 0: Write: the old opening goes to closing, a new epoch begins (provisioning)
//	     ▼
//	PurgeMarker ─► LookEmpty until nothing is left ─► DeleteConsumer ─► Remove the key by its revision (or drop it from closing)
//
// # Why nothing is lost or stranded, whoever else acts
//
//   - An arc takes calls while its open marker stands with the sequence that the record names: the server checks it for each
//     call, where it stores it. PublishMarker comes after MakeConsumer, and the record names it only after a look that found
//     both, so that a server which lost its memory in between is noticed: a call is never accepted where no consumer is.
//   - The one point of no return is a compare-and-set: marker 0 in a draining record. An opening for which it succeeded is
//     never opened again, so that purge, look and deletion may be repeated by anybody and come as late as they like. What
//     may still bring it back, a raised limit, is a compare-and-set on the same revision: exactly one of the two happens.
//     (Purging first and deciding afterwards lets a slow second controller delete the consumer of an arc that was reopened:
//     the model finds it.)
//   - After the purge the calls of that subject can only become fewer, so the first look that finds none is final.
//   - No opening gets a marker before those that close have lost theirs: never do two epochs take calls.
//   - A marker or consumer that a slow controller makes for an opening gone by is named by no record: no call can expect it.
//     The sweeper removes it ([Stray]).
//
// The model in model_test.go runs two controllers with stale views, crashes between any two of their steps, a stale
// frontend, members that come and go, and a server that loses its memory, through every interleaving that the bounds allow.
package reservation
