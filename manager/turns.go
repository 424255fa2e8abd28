package manager

import "time"

// Pulls end after two seconds, so those of a thousand arcs on which nothing happens are renewed a thousand times a second. What
// that costs is less the pulls than the inbox of each: a subscription with its goroutine, made and drained every second. So
// reserved arcs, of which there may be that many, take turns, each once in [renewEvery], and those whose turn comes together share
// an inbox for each side:
//
//	turn 7 ──► listen to inbox B ──► a pull of each arc, answers to B.0, B.1, … ──► drain inbox A, that of their last turn
//
// An inbox is drained as a whole. A side whose pulls have to be taken back before its turn gets an inbox of its own until it has
// been calm for a while, and the others of the inbox that it leaves are renewed at once. A side that is new has one of its own
// until its turn comes.
const (
	turnCount = 16
	turnEvery = renewEvery / turnCount
	calmFor   = 5 * time.Second
)

// turns are the reserved arcs by the turn at which their pulls are renewed. Manager.mu guards it.
type turns struct {
	began time.Time
	next  int64 // turns that are over since then
	arcs  [turnCount][]*arc
}

// add gives an arc its turn, which follows from its epoch: they are about as many in each.
func (t *turns) add(a *arc) {
	a.turn = int(a.of.epoch * 0x9e3779b97f4a7c15 >> 60)
	a.place = len(t.arcs[a.turn])
	t.arcs[a.turn] = append(t.arcs[a.turn], a)
}

func (t *turns) remove(a *arc) {
	all := t.arcs[a.turn]
	last := all[len(all)-1]
	all[a.place], last.place = last, a.place
	all[len(all)-1] = nil
	t.arcs[a.turn] = all[:len(all)-1]
}

// due calls look with the arcs of every turn that came since it was called last, each of them once.
func (t *turns) due(now time.Time, look func([]*arc)) {
	if t.began.IsZero() {
		t.began = now
	}
	until := int64(now.Sub(t.began) / turnEvery)
	for t.next = max(t.next, until-turnCount); t.next < until; t.next++ {
		look(t.arcs[t.next%turnCount])
	}
}
