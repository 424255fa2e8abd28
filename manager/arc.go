package manager

import (
	"strconv"
	"time"

	"github.com/hearth-run/hearth/subjects"
)

// arc is what this manager has to do with one arc.
type arc struct {
	name         string
	next         string // where pulls go
	number       int    // of an unreserved one
	rank, length int
	sides        [kinds]side
	held, heldAt time.Time // neither idle pulls nor room's until then; since when
	backoff      time.Time // no pulls at all until then: the server refused some
	need                   // of its last rank, and of another
}

// arc is the arc of this name, made known if need be. Manager.mu is held.
func (o *offers) arc(m *Manager, name string) *arc {
	if a := o.arcs[name]; a != nil {
		return a
	}
	nn, ok := unreservedNumber(name)
	if !ok {
		return nil
	}
	a := &arc{
		name: name, number: nn, rank: subjects.OffArc,
		next: "$JS.API.CONSUMER.MSG.NEXT." + m.names.CallsU() + "." + m.names.UnreservedDurable(nn),
	}
	m.view.Load().place(m.cfg.ID, a)
	o.arcs[name] = a
	return a
}

// stagger is the time to the first renewal: spread over a second, for all arcs at once would be a burst.
func (a *arc) stagger() time.Duration { return renewEvery * time.Duration(1+a.number%32) / 32 }

func unreservedNumber(name string) (int, bool) {
	if len(name) < 3 || name[:2] != "u." {
		return 0, false
	}
	nn, err := strconv.Atoi(name[2:])
	return nn, err == nil && nn >= 0 && nn < subjects.MaxArcs
}
