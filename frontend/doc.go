// Package frontend takes calls and sees that each of them is answered.
//
// # What it owns
//
// Admission, the choice of the arc, publication, the start-by, and the count of calls in flight (C). It never picks a
// manager: which one claims a call is decided by the server, by the priority of open pulls (DESIGN 2). It never touches
// the answer of a NATS caller, which goes straight from the worker to the caller's inbox; of an HTTP caller it is the
// inbox.
//
// # How a call passes (DESIGN 3)
//
//	door        endpoint.go (NATS), lambdaapi (HTTP): what only the door can see becomes a [schema.Request]
//	admission   admission.go: names, sizes, sub-tenant, the version that the qualifier names. A refusal ends here, with
//	            its code, and nothing is published
//	arc         route.go: the one decision, on what reservation.go (L, marker), members.go (S, B) and others.go (C of the
//	            other frontends) keep ready, after queue.go has taken in what was told before the call came
//	publication publish.go: one message, its reply subject this frontend's inbox, its time to live the start-by and a bit;
//	            to a reserved arc it expects the open marker. moved.go: a refusal there costs one more, on the unreserved arc
//	inbox       inbox.go: the PubAck (or why the stream did not take it), answers of HTTP callers, ends and beats;
//	            held.go: payloads over 64 KB, which never enter the stream, for whoever claims their calls
//
// From NATS the whole way to the publication runs on the subscription's goroutine, without a hop.
//
// An event that comes over HTTP passes the same admission and is then published as a client over NATS publishes its own
// (accept.go): the PubAck of stream EVENTS is the answer (DESIGN 4).
//
// # States of a call, and who moves them
//
//	            PubAck              start-by           delete: done
//	published ---------> stored ------------> deleting ------------> refused: CapacityExceeded, it did not start
//	    |                  |  \ beat             | delete: not found
//	    | PubAck: error    |   `-------.         v
//	    v                  |            `----> gone: it may have started
//	 refused at once       | look: gone ---------^  |        beat
//	                       |                        +------> running: named by its manager each 500 ms
//	                       v                        |           |
//	                     ended <--------------------|-----------'  end notice, or the answer that passes here
//	                                                v              beats stop for 3 s, or never came for 2 s
//	                                              lost: ExecutionLost, or published again (idempotent)
//
// Where a call's message lies, in which stream and under which sequence, its last PubAck says (moved.go, streams.go): a catcher
// may have moved it from a reserved arc to the unreserved one. That keeps its state; one that was found gone is stored again.
//
// pending.go holds the calls and is moved by inbox.go (messages), startby.go (time) and lost.go (the sweep, each 500
// ms). All silence is measured on clock.go's clock, which stands still while this frontend is cut off or stopped, so
// that nobody is declared lost for its own absence.
//
// # What it trusts, and for how long
//
// The caller: nothing; a reply subject that is not an inbox is dropped unanswered (SECURITY 2). The copy of functions:
// until the watch brings a change; a name that it lacks is read from KV before it is called unknown. Reservations:
// no further than the server does, which compares the marker with every publication; S and B of a manager for two seconds,
// busy for one, calls of another frontend for one. The ring: only
// whether anybody is on it. Managers' statuses and beats: for what is told by themselves, for two and three seconds.
// What it does not know for certain not to have started is never refused, and what may have started never leaves as an
// error that clients send again by themselves.
//
// # What it never does
//
// Wait for a time-out to learn that nobody is there: no responders, a full stream and an empty ring are told at once.
// Copy a client's header into a message of the fabric. Answer a call that it does not know.
//
// DESIGN 3, 5, 9, 10, 12; SECURITY 2, 5, 6.
package frontend
