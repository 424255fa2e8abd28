// Package control is the operations on functions, versions, aliases and the fabric: once, behind every door. The micro
// service of `hearth.api` is one door (this package serves it too); the Lambda API over HTTP is another. DESIGN 9.
//
//	NATS hearth.api.<account>.<Operation> -> take -> queue -> work --\
//	                                          | full: 429             +-> Do -> operation -> buckets -> settle -> answer
//	HTTP, other doors ----------------------------------------------/
//
// # A function is one record
//
// A function with its versions and aliases is one key of bucket functions, changed by compare-and-set on its revision
// and by nobody but these handlers. Who loses the race reads again: a change that may follow any other (an alias, a
// deleted version) is applied to the new record, in a bounded number of attempts; a deploy, which would leave one's code
// with the other's configuration, is refused with the time, revision and code of the one that won.
//
//	absent --create (new id)--> $LATEST --publish--> $LATEST, 1, 2, … --delete--> absent
//	                            code changes   change CodeSHA256      \
//	                            configuration changes raise ConfigRevision -> other environments (DESIGN 1)
//
// A deleted name gets another function id when it comes again, so old environments, calls and sealed variables never
// meet the new function.
//
// # What a write waits for
//
// Code lies in the object store before a function names it; it is read once, hashed, and opened as a zip. Variables are
// sealed to the managers' key (internal/seal) and written to bucket secrets before the record that refers to them, each
// set under a key of its own; a frontend can seal and not open. Sets to which no version refers go after the record is
// written; those of a $LATEST that was replaced half a minute later, for the calls that were accepted before. The answer waits until every live frontend has told that it has seen the record, at most 1 s: deploy, then
// call through another frontend, works.
//
// Code that no function names any more stays in the store. Removing it safely needs a mark on each upload: a client that
// finds its zip there uploads nothing, and names it a moment later.
//
// # Who waits for log lines
//
// GetLogs reads stream LOGS by direct gets, which need no consumer, and its cursor is a place in the stream. A request that
// finds nothing and may wait leaves the worker that took it: it waits apart on a goroutine of its own, in one of a bounded
// number of seats, and without a free one it is answered at once. There an ephemeral consumer tells it of the first message.
// Stop ends all such waits; they answer what there is.
//
// # Events
//
// What happens to a function's events stands in its record (eventconfig.go). The events themselves lie in streams, of which
// these handlers read without a consumer: counts from the streams and from the pollers' consumers, items message by message
// (messages.go), so that looking never takes an event from a poller. Dead letters outlive their function; redriving one
// publishes it anew, waits for the PubAck, and only then deletes it, so that a handler that dies between the two leaves a dead
// letter and never nothing (redrive.go).
//
// # What it trusts
//
// The buckets, and the [View] of its frontend for the ring and for records newer than a replica's. Not the requests:
// JSON is read strictly (schema.DecodeInput), within bounds of size, and every bad field is named; reply subjects are
// checked before anything is answered (SECURITY 2). No value of a variable reaches a log, an error or an answer.
package control
