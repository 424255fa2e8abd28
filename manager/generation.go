package manager

import (
	"strconv"
	"time"
)

// kind is one of the sides of an arc.
type kind uint8

const (
	idle kind = iota
	room
	caught
	kinds
)

type side struct {
	gen *generation
	due time.Time

	// Of the idle side: pulls that are too many because claims that came otherwise, by room's or the catcher's pull or one of
	// a generation gone by, took environments. They are not taken back at once: the next environments that come free are
	// offered by them. Taking them back would replace the generation, what is on its way by the old one would again be
	// claims that came otherwise, and so on: at 256 calls in flight that cost eight pulls a call, and every twelfth call came
	// to the catcher.
	astray   int
	astrayAt time.Time // the last

	waits bool // it is one of offers.waiting
}

// generation is pulls of one side of an arc that are taken back together.
type generation struct {
	arc    *arc
	kind   kind
	class  int
	rank   int // when it was made
	at     *inbox
	reply  string  // of its pulls
	open   int     // pulls that the server holds, as far as is known; guarded by Manager.mu
	retire bool    // replaced: counts no more; guarded by Manager.mu
	stale  bool    // to be replaced, for its count is not known; guarded by Manager.mu
	line   *lineup // of its inbox; nil of what came otherwise
}

// took counts a pull that brought a message. Manager.mu is held.
func (g *generation) took() {
	if !g.retire {
		g.open = max(0, g.open-1)
	}
}

// pull is n pulls to be sent on a generation; the zero value is none.
type pull struct {
	gen *generation
	n   int
}

// generation makes one with an inbox of its own. Manager.mu is held.
func (o *offers) generation(a *arc, k kind, class int) *generation {
	g := &generation{arc: a, kind: k, class: class, rank: a.rank}
	(&inbox{subject: o.newInbox()}).add(g)
	return g
}

func (o *offers) newInbox() string {
	o.made++
	return o.inbox + strconv.FormatUint(o.made, 36)
}

// tookOtherwise notes that a claim took an environment that is offered on an arc by a pull that stays open. Manager.mu is held.
func (a *arc) tookOtherwise(g *generation, now time.Time) {
	if g.kind == idle && !g.retire {
		return
	}
	s := &a.sides[idle]
	s.astray++
	s.astrayAt = now
}
