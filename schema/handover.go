package schema

import "time"

// ManagerClaim is what a manager sends another on `hearth.m.<manager>.claim`, one of: Ask, a request that a [Promise] answers;
// Claim, which nothing answers; Way, a request that a [Way] answers. DESIGN 2, 5.
type ManagerClaim struct {
	V     int          `msgpack:"v"`
	Ask   *PromiseAsk  `msgpack:"ask,omitempty"`
	Claim *HandedClaim `msgpack:"claim,omitempty"`
	Way   *WayAsk      `msgpack:"way,omitempty"`
}

// One reports whether it is exactly one of them.
func (c *ManagerClaim) One() bool {
	n := 0
	for _, is := range []bool{c.Ask != nil, c.Claim != nil, c.Way != nil} {
		if is {
			n++
		}
	}
	return n == 1
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

// WayAsk asks for an idle environment to end that a cap counts which is reached, so that another may be made for a call.
type WayAsk struct {
	Account  string        `msgpack:"account"`
	Function string        `msgpack:"function,omitempty"` // whose cap it is; "": the account's
	Idle     time.Duration `msgpack:"idle,omitempty"`     // only one that has been idle for longer ends
	For      *PromiseAsk   `msgpack:"for,omitempty"`      // what would be made; where such a one is idle, none ends
}

// Way answers a [WayAsk].
type Way struct {
	V     int  `msgpack:"v"`
	Ended bool `msgpack:"ended,omitempty"` // one has gone, and its permits are back in bucket limits
	Warm  bool `msgpack:"warm,omitempty"`  // what is wanted is idle here
}
