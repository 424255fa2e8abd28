package manager

import (
	"sync/atomic"

	"github.com/hearth-run/hearth/schema"
)

// Counters are what a manager did since its start.
type Counters struct {
	Cold, Specialised, Warm int64 // starts
	Nacks                   int64 // claims given back
	LocksWon, LocksLost     int64
	Uncrossed               int64 // claims that turned out to be another's, or unclear
	Dropped                 int64 // claims past their start-by
	Garbage                 int64 // deliveries that were no calls
	Offers                  int64 // pulls sent
	Withdrawals             int64 // times that pulls were taken back because they were too many
	Made, Ended             int64 // environments: begun, told to end
	FailedInits             int64
	Redirected              int64 // calls of events that were given to the frontend that asked for them
	Fetched, Unfetched      int64 // payloads that frontends hold: brought here, and not to be had
	Caught                  int64 // deliveries that found no idle pull and no room
	TurnedAway              int64 // calls refused because nobody has room
	Moved                   int64 // calls that a reserved arc had no idle member for: overflow
	HandedOver, TakenOver   int64 // claims that another manager runs, and of others that this one took
	Unpromised              int64 // hand-overs that found no promise
	Signed, SignFailed      int64 // tokens that were asked for
	Evicted                 int64 // idle environments that made way for another
	Unpermitted             int64 // environments that were not made because a cap was reached
	Unsigned                int64 // tokens that a worker asked for and that were not of the sub-tenant it was given; must be 0
	Grown, Shrunk           int64 // arcs that this manager made longer, or shorter
}

type counters struct {
	cold, specialised, warm     atomic.Int64
	nacks, locksWon, locksLost  atomic.Int64
	uncrossed, dropped, garbage atomic.Int64
	offers, withdrawals         atomic.Int64
	made, ended, failedInits    atomic.Int64
	redirected                  atomic.Int64
	fetched, unfetched          atomic.Int64
	caught, turnedAway, moved   atomic.Int64
	grown, shrunk               atomic.Int64
	handedOver, takenOver       atomic.Int64
	unpromised, unsigned        atomic.Int64
	signed, signFailed          atomic.Int64
	evicted, unpermitted        atomic.Int64
}

func (c *counters) start(s schema.Start) {
	switch s {
	case schema.StartCold:
		c.cold.Add(1)
	case schema.StartSpecialised:
		c.specialised.Add(1)
	default:
		c.warm.Add(1)
	}
}

// Counters is a snapshot of what this manager did. Safe for concurrent use.
func (m *Manager) Counters() Counters {
	c := &m.count
	return Counters{
		Cold: c.cold.Load(), Specialised: c.specialised.Load(), Warm: c.warm.Load(), Nacks: c.nacks.Load(),
		LocksWon: c.locksWon.Load(), LocksLost: c.locksLost.Load(), Uncrossed: c.uncrossed.Load(), Dropped: c.dropped.Load(),
		Garbage: c.garbage.Load(), Offers: c.offers.Load(), Withdrawals: c.withdrawals.Load(), Made: c.made.Load(),
		Ended: c.ended.Load(), FailedInits: c.failedInits.Load(), Redirected: c.redirected.Load(),
		Fetched: c.fetched.Load(), Unfetched: c.unfetched.Load(),
		Caught: c.caught.Load(), TurnedAway: c.turnedAway.Load(), Moved: c.moved.Load(),
		Grown: c.grown.Load(), Shrunk: c.shrunk.Load(), HandedOver: c.handedOver.Load(), TakenOver: c.takenOver.Load(),
		Unpromised: c.unpromised.Load(), Unsigned: c.unsigned.Load(), Signed: c.signed.Load(), SignFailed: c.signFailed.Load(),
		Evicted: c.evicted.Load(), Unpermitted: c.unpermitted.Load(),
	}
}
