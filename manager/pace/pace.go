package pace

import "time"

// Paces of a manager.
const (
	StatusEvery = 500 * time.Millisecond // a status is told, of few arcs the whole
	StatusSoon  = 20 * time.Millisecond  // changes of it wait for others
	OffersEvery = 25 * time.Millisecond  // offers are looked at for what is due
	OffersAll   = 4 * OffersEvery        // all of them, where nobody asked for it
	RenewEvery  = time.Second            // pulls are sent anew
	RankEvery   = 100 * time.Millisecond // who holds members of a reservation is looked at again
	GrowEvery   = StatusEvery            // an arc grows by one
	RoomOut     = 20 * time.Millisecond  // without any room until its pulls are taken back: at full load it comes and goes
	AstrayFor   = 10 * time.Millisecond  // pulls are left open for environments that other claims took

	HoldOff   = 15 * time.Millisecond  // of an arc's pulls after a second refusal of one call
	HoldEvery = 300 * time.Millisecond // at most

	Later     = 10 * time.Millisecond // until a call that nobody could take comes again, at first
	LaterMost = 100 * time.Millisecond

	GrowthEvery = 10 * time.Second // a window of growth of a function

	// ReplaceAfter is how long the member that takes the place of one that was bound lets that one's call go before it.
	ReplaceAfter = 10 * time.Millisecond
)

// Numbers of pulls and catchers.
const (
	MinCredit        = 4
	MaxCredit        = 16
	CatchBatch       = 64 // calls that a catcher's pull takes
	ReservedCatchers = 2  // ranks of a reserved arc that catch
	LastCatch        = 16 // deliveries after which a call is refused though others of its arc find room

	// PressAfter is how many deliveries a call has behind it for which hot environments make way ([github.com/hearth-run/hearth/manager/pool]):
	// with the pauses of [Again] it has waited for about 140 ms, as long as many an init takes.
	PressAfter = 8
)

// Presses reports whether hot environments make way for a call that was delivered so often; room is that another manager tells enough of it.
func Presses(delivered uint64, room bool) bool {
	return delivered >= PressAfter && (!room || delivered >= LastCatch)
}

// Credit is how many room pulls each of so many arcs gets: room, in places, is shared by all in which a manager has a rank.
func Credit(room, arcs int) int {
	if room <= 0 || arcs <= 0 {
		return 0
	}
	return max(MinCredit, min(MaxCredit, room/arcs))
}

// Again is how long a caught claim stays away that was delivered so often: the longer the more often it came back, so that many that
// wait for room do not keep the server busy with themselves.
func Again(delivered uint64) time.Duration {
	return min(LaterMost, Later<<min(8, (max(2, delivered)-2)/2))
}

// Shortage is whether room is out, and has been for a while. Not safe for concurrent use.
type Shortage struct {
	Is, Lasts bool
	since     time.Time
	freed     uint64
}

// Look takes in how the pool stands, and reports whether there is room where there was none, or the other way round.
func (s *Shortage) Look(room int, freed uint64, now time.Time) (turned bool) {
	turned = s.Is != (room == 0)
	switch {
	case room > 0:
		*s = Shortage{}
	case !s.Is || s.freed != freed:
		*s = Shortage{Is: true, Lasts: s.Lasts, since: now, freed: freed}
	default:
		s.Lasts = s.Lasts || now.Sub(s.since) >= RoomOut
	}
	return turned
}
