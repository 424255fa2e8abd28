package subjects

import (
	"math"
	"strings"
)

// Ack is what the reply subject of a delivery says: which message it is of which stream and consumer, and how often and
// when it came. Its strings are parts of the subject that was parsed.
type Ack struct {
	Stream, Consumer string
	Delivered        uint64 // 1 for the first delivery
	StreamSeq        uint64
	ConsumerSeq      uint64
	Timestamp        int64 // of the message in the stream, Unix ns on the server's clock
	Pending          uint64
}

const ackPrefix = "$JS.ACK."

// An ack subject counts its tokens, because a domain and a hash of the account came between later (nats-server ADR-15):
//
//	$JS.ACK.                        <stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<Unix ns>.<pending>
//	$JS.ACK.<domain>.<account hash>.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<Unix ns>.<pending>[.<random>]
const (
	ackTokens       = 9
	ackDomainTokens = 11
)

// ParseAck reads the reply subject of a delivered message, in the form without a domain (9 tokens) and in that with one
// (11 or 12). It reports false for anything else, an empty token or a number not in its one decimal spelling. It allocates
// nothing: a manager parses one for every claim.
func ParseAck(subject string) (Ack, bool) {
	var a Ack
	if len(subject) > MaxSubject || !strings.HasPrefix(subject, ackPrefix) {
		return a, false
	}
	tokens := 1 + strings.Count(subject, ".")
	rest := subject[len(ackPrefix):]
	ok := true
	next := func() (token string) {
		token, rest, _ = strings.Cut(rest, ".")
		ok = ok && token != ""
		return token
	}
	count := func() uint64 {
		v, is := number64(next())
		ok = ok && is
		return v
	}
	switch tokens {
	case ackTokens:
	case ackDomainTokens, ackDomainTokens + 1:
		next()
		next()
	default:
		return a, false
	}
	a.Stream, a.Consumer = next(), next()
	a.Delivered, a.StreamSeq, a.ConsumerSeq = count(), count(), count()
	nanos := count()
	a.Timestamp = int64(nanos)
	a.Pending = count()
	if tokens == ackDomainTokens+1 {
		next()
	}
	if !ok || a.Timestamp < 0 {
		return Ack{}, false
	}
	return a, true
}

// AckAllowed reports whether an ack subject that another node named may be published to: literal, at most [MaxReply]
// bytes, and the acknowledgement of a message of this fabric's CALLS streams and of an arc's consumer there. Anything else
// would make a manager publish with its own rights where the sender has none. SECURITY 2.
func (n Names) AckAllowed(subject string) bool {
	a, ok := ParseAck(subject)
	if !ok || len(subject) > MaxReply || !literal(subject) {
		return false
	}
	if stream, ok := n.UnreservedNumber(a.Stream); ok {
		digits, ok := strings.CutPrefix(a.Consumer, "u-")
		nn, is := number64(digits)
		return ok && is && nn < MaxArcs && int(nn)%UnreservedStreams == stream
	}
	calls, ok := strings.CutPrefix(a.Stream, n.upper)
	return ok && numbered(calls, "CALLS_R", MaxShards-1) && numbered(a.Consumer, "r-", math.MaxUint64)
}

// numbered reports whether s is the prefix and one number, at most most.
func numbered(s, prefix string, most uint64) bool {
	digits, ok := strings.CutPrefix(s, prefix)
	v, is := number64(digits)
	return ok && is && v <= most
}
