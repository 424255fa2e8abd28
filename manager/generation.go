package manager

import (
	"strconv"
	"time"
)

// kind is one of the sides of an arc.
type kind uint8

const (
	idle    kind = iota // of a reserved arc: members within the share
	surplus             // of a reserved arc alone: idle members above the share
	room                // of an unreserved arc alone
	caught
	kinds
)

// exact reports whether a side has a pull for each environment. The pulls of the two that do so stand for any idle member: which
// class a call came by says nothing of the member that runs it.
func (k kind) exact() bool { return k <= surplus }

// twin is the other exact side.
func (k kind) twin() kind { return surplus - k }

type side struct {
	gen *generation
	due time.Time

	// Of an exact side: pulls that are too many because claims that came otherwise, by room's or the catcher's pull, the twin's or
	// one of a generation gone by, took environments. They are not taken back at once: the next environments that come free are
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
	reply  string // of its pulls
	open   int    // pulls that the server holds, as far as is known; guarded by Manager.mu
	retire bool   // replaced: counts no more; guarded by Manager.mu
	stale  bool   // to be replaced, for its count is not known; guarded by Manager.mu
}

// lineup is where claims of this generation wait for others, nil of what came otherwise than by a pull's inbox.
func (m *Manager) lineup(g *generation) *lineup {
	switch {
	case g.at == nil:
		return nil
	case g.arc.of != nil:
		return &m.crowd.line
	default:
		return &g.at.line
	}
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

// tookOtherwise notes that a claim took an environment that is offered on an arc by a pull that stays open, if it is: what a side
// does not have too many of is forgotten when it is looked at next. Manager.mu is held.
func (a *arc) tookOtherwise(g *generation, now time.Time) {
	for k := idle; k.exact(); k++ {
		s := &a.sides[k]
		if k == surplus && s.gen == nil || g.kind == k && !g.retire {
			continue
		}
		s.astray++
		s.astrayAt = now
	}
}

// tolerates reports whether so many pulls too many are left open for a while.
func (s *side) tolerates(excess int, now time.Time) bool {
	return excess <= s.astray && now.Sub(s.astrayAt) < astrayFor
}
