package schema

import "time"

// ManagerClaim is what a manager sends another on `hearth.m.<manager>.claim`: either Ask, a request that a [Promise] answers,
// or Claim, which nothing answers. DESIGN 2.
type ManagerClaim struct {
	V     int          `msgpack:"v"`
	Ask   *PromiseAsk  `msgpack:"ask,omitempty"`
	Claim *HandedClaim `msgpack:"claim,omitempty"`
}

// PromiseAsk asks for an idle environment of exactly this kind, to be kept for a claim.
type PromiseAsk struct {
	FunctionID     string `msgpack:"id"`
	Version        string `msgpack:"version"`
	CodeSHA256     string `msgpack:"code"`
	ConfigRevision uint64 `msgpack:"config"`
	Tenant         string `msgpack:"tenant,omitempty"`
	Reservation    uint64 `msgpack:"reservation,omitempty"` // epoch; 0: unreserved
}

// Promise answers a [PromiseAsk]: the number of the promise, 0 for none. It ends after 100 ms.
type Promise struct {
	V      int    `msgpack:"v"`
	Number uint64 `msgpack:"n"`
}

// HandedClaim is a claim that the receiver runs from now on. Sequence, delivered count and time of the message stand in its
// ack subject, and nowhere else, so that they cannot differ.
type HandedClaim struct {
	Promise   uint64        `msgpack:"promise"`
	Subject   string        `msgpack:"subject"` // on which the call was published
	Ack       string        `msgpack:"ack"`
	Age       time.Duration `msgpack:"age"`       // of the call, at least
	Untouched time.Duration `msgpack:"untouched"` // since the server last heard that the claim is in hands
	Call      []byte        `msgpack:"call"`      // the envelope
}
