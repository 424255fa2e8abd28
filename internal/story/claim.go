package story

import (
	"time"

	"github.com/hearth-run/hearth/schema"
)

// Claim says which delivery a manager speaks of.
type Claim struct {
	Token    uint64
	Attempt  uint32
	Tries    int    // that the call's event has had
	Arc      string // short name, one that lives on
	Reserved bool
	Sequence uint64
	Delivery uint64
	Rank     int
	Pull     Pull
	Handed   bool // by another manager
	Doubt    bool // it starts only by the lock
	Age      time.Duration
	Reason   schema.Reason
}

// Pull is what brought a claim.
type Pull uint8

// The kinds of pulls.
const (
	PullNone Pull = iota // it was handed over
	PullIdle             // of an idle environment
	PullRoom             // of room for one
	PullCatcher
	PullSurplus // of a reservation's member above its share
)

// Claimed is that a manager was given the call.
func Claimed(c *Claim) Step {
	s := Publication{c.Token, c.Attempt}.step(claimed)
	s.long = int64(c.Sequence)
	s.n = [5]int32{number(int64(c.Rank)), number(int64(min(c.Delivery, 1<<30))), micros(c.Age), number(int64(c.Tries)), int32(c.Pull)}
	s.s, s.t = c.Arc, reason(c.Reason)
	if c.Handed {
		s.flags |= flagHanded
	}
	if c.Doubt {
		s.flags |= flagDoubt
	}
	if c.Reserved {
		s.flags |= flagReserved
	}
	return s
}

// reason is the constant of a reason: the string of a call's envelope would keep that alive.
func reason(r schema.Reason) string {
	for _, known := range [...]schema.Reason{
		schema.ReasonUnreserved, schema.ReasonReserved, schema.ReasonSpillover, schema.ReasonScale, schema.ReasonOverflow,
	} {
		if r == known {
			return string(known)
		}
	}
	return ""
}

// Waits is that no environment is free: one is made for the call, or it takes the first that comes.
func Waits(made bool) Step {
	s := Step{Code: waits}
	if made {
		s.flags = flagMade
	}
	return s
}

// Kept is that a catcher keeps the call for a moment before it gives it back.
func Kept(d time.Duration) Step { return Step{Code: kept, n: [5]int32{micros(d)}} }

// GivenBack is a NAK, after which the call comes again, to whoever has the best pull open then. why is a constant.
func GivenBack(why string, after time.Duration) Step {
	return Step{Code: givenBack, n: [5]int32{micros(after)}, s: why}
}

// Fetched is that the payload came, which the frontend held.
func Fetched(bytes int) Step { return Step{Code: fetched, n: [5]int32{number(int64(bytes))}} }

// HandedOn is that another manager runs the call, which promised a warm environment.
func HandedOn(to string) Step { return Step{Code: handedOn, s: to} }

// Unpromised is that another manager was asked for its environment and promised none.
func Unpromised(by string) Step { return Step{Code: unpromised, s: by} }

// MovedOff is that a catcher moved the call from its reserved arc to an unreserved one.
func MovedOff(arc int) Step { return Step{Code: movedOff, n: [5]int32{4: number(int64(arc))}} }

// Dropped is that a claim came, or waited, past its start-by.
func Dropped() Step { return Step{Code: dropped} }

// NotOurs is that the start line was not crossed: another has the call (lost), or nobody can tell.
func NotOurs(taken bool) Step {
	s := Step{Code: notOurs}
	if taken {
		s.flags = flagDoubt
	}
	return s
}

// Started is that the start line was crossed, by the lock or an acknowledgement, and the environment told to run the call.
func Started(environment string, start schema.Start, init, waited time.Duration, locked bool) Step {
	s := Step{Code: started, s: environment, t: string(start), n: [5]int32{micros(init), micros(waited)}}
	if locked {
		s.flags = flagDoubt
	}
	return s
}

// Finished is how the call ended in its environment; nil: nobody can tell.
func Finished(o *schema.Outcome) Step {
	s := Step{Code: finished}
	if o == nil {
		s.flags, s.s = flagFailed, string(schema.CodeExecutionLost)
		return s
	}
	s.long = int64(o.Duration)
	if o.Reusable {
		s.flags |= flagReusable
	}
	if o.Error != nil {
		s.flags |= flagFailed
		// A function's own type of error is text of the function, even where it reads like a code.
		s.s = string(o.Error.PlatformCode())
	}
	return s
}

// TurnedDown is that a manager refused the call: nothing of it ran.
func TurnedDown(err error) Step {
	return Step{Code: turnedDown, s: string(schema.CodeOf(err)), t: message(err)}
}

// InitFailed is that the environment that was made for the call failed its init, which is an error of the function.
func InitFailed() Step { return Step{Code: initFailed} }

// Redirected is that an event's call was given to the frontend that asked for it.
func Redirected(to string) Step { return Step{Code: redirected, s: to} }
