package pace

import "time"

const (
	fullFor = 2*StatusSoon + OffersEvery // until what came free when a call was caught has been told
	fullGap = fullFor                    // between looks, over which nobody knows whether there was room
)

// Need is what a manager remembers of an unreserved arc to judge by whether it is to grow, or its calls to be refused. The zero value
// knows nothing. Not safe for concurrent use.
type Need struct {
	grown     time.Duration // when it was made longer, or this manager tried
	fullSince time.Duration // since when catchers found nobody with room; 0: somebody has
	fullSeen  time.Duration
}

// Look is how things stand for a claim that came back and for which this manager has nothing.
type Look struct {
	Now       time.Duration // on the manager's monotonic clock, above 0
	Here      bool          // there is room here after all, or in a moment
	First     int           // rank of the first manager that tells enough room, counted over the whole ring; -1: none does
	Length    int           // of the arc
	Heard     bool          // every manager of the ring told its status lately
	Hot       bool          // somebody has hot environments that will make enough room in a moment, here too
	Delivered uint64        // how often the claim was
}

// Judge reports whether the call is to be refused since nobody has room, and whether the arc is to grow by one, which takes its turn.
func (n *Need) Judge(l Look) (full, grow bool) {
	full = l.Heard && !l.Here && l.First < 0 && (!l.Hot && n.full(l.Now) || l.Delivered >= LastCatch)
	if l.Here || l.Hot || l.First >= 0 {
		n.fullSince = 0
	}
	return full, !l.Here && l.First >= l.Length && n.mayGrow(l.Now)
}

// Longer notes that the arc became longer: for a round of statuses nobody makes it longer still.
func (n *Need) Longer(now time.Duration) { n.grown, n.fullSince = now, 0 }

// mayGrow reports whether the arc may be made longer now, and takes that turn.
func (n *Need) mayGrow(now time.Duration) bool {
	if n.grown != 0 && now-n.grown < GrowEvery {
		return false
	}
	n.grown = now
	return true
}

// full notes that nobody has room, and reports whether it has been so for long enough to be believed.
func (n *Need) full(now time.Duration) bool {
	if n.fullSince == 0 || now-n.fullSeen > fullGap {
		n.fullSince = now
	}
	n.fullSeen = now
	return now-n.fullSince >= fullFor
}
