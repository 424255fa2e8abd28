package manager

import (
	"strconv"
	"time"

	"github.com/hearth-run/hearth/subjects"
)

// arc is what this manager has to do with one arc: an unreserved one by its number, or the reserved one of an opening
// (reserved.go).
type arc struct {
	name         string
	next         string   // where pulls go
	calls        string   // subject of a reserved one's calls
	number       int      // of an unreserved one
	of           *opening // as the arc became known: whose it is never changes, so it is read without Manager.mu; nil of an unreserved one
	opening      *opening // of a reserved one, else nil
	gone         bool     // of a reserved one: nothing is offered there any more
	rank, length int
	class        int // of idle pulls
	after        int // class of a reserved one's surplus pulls
	sides        [kinds]side
	held, heldAt time.Time // neither idle pulls nor room's until then; since when
	soonest      time.Time // of an unreserved one: nothing is due before; see nextDue
	turn, place  int       // of a reserved one, in offers.turns
	watched      bool      // one of offers.watched
	hot          bool      // a reserved one by which claims came lately; see catches
	claims, seen uint      // that came, and that had come at its last turn
	calmAt       time.Time // until then it shares no inbox
	backoff      time.Time // no pulls at all until then: the server refused some
	refusals     int       // of pulls, one after the other
	refusedAt    time.Time // the last
	need                   // of its last rank, and of another
}

// arc is the arc of this name, made known if need be; nil for none that is open. Manager.mu is held.
func (o *offers) arc(m *Manager, name string) *arc {
	if a := o.arcs[name]; a != nil {
		return a
	}
	if subjects.IsReservedName(name) {
		return o.reservedArc(m, name)
	}
	nn, ok := unreservedNumber(name)
	if !ok {
		return nil
	}
	a := &arc{
		name: name, number: nn, rank: subjects.OffArc,
		next: "$JS.API.CONSUMER.MSG.NEXT." + m.names.CallsOf(nn) + "." + m.names.UnreservedDurable(nn),
	}
	m.view.Load().place(m.cfg.ID, a)
	o.arcs[name] = a
	o.plain = append(o.plain, a)
	return a
}

// stagger is the time to an unreserved arc's first renewal: spread over a second, for all arcs at once would be a burst.
func (a *arc) stagger() time.Duration {
	return renewEvery * time.Duration(1+a.number%turnCount) / turnCount
}

func unreservedNumber(name string) (int, bool) {
	if len(name) < 3 || name[:2] != "u." {
		return 0, false
	}
	nn, err := strconv.Atoi(name[2:])
	return nn, err == nil && nn >= 0 && nn < subjects.MaxArcs
}
