package story

import (
	"errors"
	"math"
	"strings"
	"time"

	"github.com/hearth-run/hearth/schema"
)

// Code says what a step is.
type Code uint8

// The codes. Each has its words in words.go.
const (
	admitted Code = iota + 1
	decided
	stored
	spilled
	overflowed
	named
	gone
	refused
	answered
	ended
	untold
	lost
	repeated
	joined
	abandoned

	claimed
	waits
	kept
	givenBack
	fetched
	handedOn
	unpromised
	movedOff
	dropped
	notOurs
	started
	finished
	turnedDown
	initFailed
	redirected
)

// again reports whether a call may have many steps of a code: of those that go to and fro, some are left out in the end.
func (c Code) again() bool {
	return c == claimed || c == kept || c == givenBack || c == unpromised || c == waits || c == fetched
}

// Flags of a step.
const (
	flagHTTP uint8 = 1 << iota
	flagEvent
	flagHanded
	flagDoubt
	flagReserved
	flagFailed
	flagReusable
	flagMade
)

// Step is one thing that happened to a call. It is made by one of the functions below.
type Step struct {
	At      int64  // Unix ns by the node's own clock; 0: when it is recorded
	Of      uint64 // token of the publication that it belongs to
	long    int64
	n       [5]int32
	attempt uint16
	Code    Code
	flags   uint8
	s, t    string
}

// Publication says which publication of a call a frontend speaks of.
type Publication struct {
	Token   uint64
	Attempt uint32
}

func (p Publication) step(c Code) Step {
	return Step{Code: c, Of: p.Token, attempt: uint16(min(p.Attempt, math.MaxUint16))}
}

// micros is a duration in µs as far as it fits.
func micros(d time.Duration) int32 { return number(int64(d / time.Microsecond)) }

func number(n int64) int32 { return int32(max(math.MinInt32, min(math.MaxInt32, n))) }

// Door is how a call came to a frontend.
type Door uint8

// The doors.
const (
	NATS Door = iota
	HTTP
	Event // a poller's try
)

// Admitted is that a frontend took a call, whose payload has so many bytes and which has to start in so long. tries are those that
// its event has had.
func Admitted(p Publication, door Door, bytes int, startBy time.Duration, tries int) Step {
	s := p.step(admitted)
	s.long, s.n[0], s.n[1] = int64(startBy), number(int64(bytes)), number(int64(tries))
	switch door {
	case HTTP:
		s.flags = flagHTTP
	case Event:
		s.flags = flagEvent
	}
	return s
}

// Decided is the decision of DESIGN 5, and the publication to the arc: reserved by its name, or an unreserved one by its number.
func Decided(p Publication, reason schema.Reason, reserved string, arc, l, s, b, c int) Step {
	x := p.step(decided)
	x.n, x.s, x.t = [5]int32{number(int64(l)), number(int64(s)), number(int64(b)), number(int64(c)), number(int64(arc))}, reserved, string(reason)
	return x
}

// Stored is the stream's acknowledgement.
func Stored(p Publication, stream string, sequence uint64) Step {
	s := p.step(stored)
	s.long, s.s = int64(sequence), stream
	return s
}

// Spilled is that a reserved arc refused the publication, which goes to an unreserved arc.
func Spilled(p Publication, reason schema.Reason, arc int) Step {
	s := p.step(spilled)
	s.n[4], s.t = number(int64(arc)), string(reason)
	return s
}

// Overflowed is that a catcher moved the call to an unreserved arc, by what the stream there tells.
func Overflowed(p Publication, arc int, stream string, sequence uint64) Step {
	s := p.step(overflowed)
	s.n[4], s.long, s.s = number(int64(arc)), int64(sequence), stream
	return s
}

// Named is that a manager said for the first time that it runs the call.
func Named(p Publication, manager string) Step {
	s := p.step(named)
	s.s = manager
	return s
}

// Gone is that the message is not in its stream any more: somebody may have started it.
func Gone(p Publication, pastStartBy bool) Step {
	s := p.step(gone)
	if pastStartBy {
		s.flags = flagDoubt
	}
	return s
}

// Refused is that a frontend refused the call, which certainly did not start.
func Refused(p Publication, err error) Step {
	s := p.step(refused)
	s.s, s.t = string(schema.CodeOf(err)), message(err)
	return s
}

// Answered is that the answer came through the frontend; failed: it is an error of the function or its runtime.
func Answered(p Publication, failed bool) Step {
	s := p.step(answered)
	if failed {
		s.flags = flagFailed
	}
	return s
}

// AnsweredLate is [Answered] of a call whose time-out was over.
func AnsweredLate(p Publication) Step {
	s := Answered(p, true)
	s.s = string(schema.CodeTimedOut)
	return s
}

// Ended is that a manager told the call's end: the answer went to the caller without the frontend.
func Ended(p Publication) Step { return p.step(ended) }

// Untold is that the end of an answered call, or of one whose caller has gone, was never told.
func Untold(p Publication) Step { return p.step(untold) }

// Lost is that nobody can tell whether the call ran.
func Lost(p Publication) Step { return p.step(lost) }

// Repeated is that a lost call of an idempotent function is published again; p is the new publication.
func Repeated(p Publication) Step { return p.step(repeated) }

// Joined is that a frontend took over an event's call which another one had published.
func Joined(p Publication, tries int) Step {
	s := p.step(joined)
	s.n[1] = number(int64(tries))
	return s
}

// Abandoned is that the caller has gone; the call goes on.
func Abandoned(p Publication) Step { return p.step(abandoned) }

// message is what a refusal tells beside its code.
func message(err error) string {
	const longest = 240
	text := err.Error()
	if e := (*schema.Error)(nil); errors.As(err, &e) {
		text = e.Message
	}
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest], "") + "..."
	}
	return text
}
