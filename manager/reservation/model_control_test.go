package reservation_test

import (
	"fmt"

	"github.com/hearth-run/hearth/manager/reservation"
	"github.com/hearth-run/hearth/schema"
)

// control is everything that controller c may do: read the record, take the next step by what it knows, crash, sweep.
func (s *state) control(c int, b bounds, how broken, known thoughts, do func(string, func(*state) string)) {
	who := fmt.Sprintf("controller %d: ", c+1)
	me := &s.ctl[c]
	if !me.read || me.rec != s.rec {
		do(who+"reads", func(n *state) string { n.ctl[c].see(n.rec, n); return "" })
	}
	if s.crashes > 0 && *me != (controller{}) {
		do(who+"crashes", func(n *state) string { n.crashes--; n.ctl[c] = controller{}; return "" })
	}
	for i := range s.arcs {
		a, g := &s.arcs[i], &me.sights[i]
		if a.epoch == 0 {
			continue
		}
		if g.looked && (g.consumer != a.consumer || g.marker != a.marker) {
			do(who+"finds what it knew wrong", func(n *state) string {
				n.ctl[c].sights[i] = narrow(g.wide().Doubted(), g.stray)
				return ""
			})
		}
		if how == neverSwept {
			continue
		}
		if a.standing() && !s.rec.names(a.epoch) && !g.stray {
			do(who+"sweeps", func(n *state) string { // saw it, then read the record
				n.ctl[c].see(n.rec, n)
				n.ctl[c].sights[i] = sight{stray: true}
				return ""
			})
		}
		if g.stray {
			step := reservation.Stray(reservation.Opening{Epoch: uint64(a.epoch)}, g.wide())
			if step.Act != reservation.Nothing {
				do(who+"sweeps: "+step.Act.String(), func(n *state) string { return n.act(c, step, how) })
			} else {
				do(who+"has swept", func(n *state) string { n.ctl[c].sights[i] = sight{}; return "" })
			}
		}
	}
	if b.deletes && s.stream && me.read && me.rec.epoch == 0 && me.rec.closing == [2]uint8{} {
		do(who+"deletes the stream", func(n *state) string { return n.deleteStream(how) })
	}
	if !me.read || !me.rec.present {
		return
	}
	steps := s.thinks(me, known)
	for told, step := range steps {
		if step.Act != reservation.Nothing && (told == 0 || step.Act != steps[0].Act) {
			do(who+step.Act.String(), func(n *state) string { return n.act(c, step, how) })
		}
	}
}

// thoughts are steps that were decided already: with no member told, and with all of them, by what else they were decided from.
type thoughts map[thought][2]reservation.Step

type thought struct {
	c     controller
	epoch [openings]uint8
}

func (s *state) thinks(c *controller, known thoughts) [2]reservation.Step {
	from := thought{c: *c}
	for i := range s.arcs {
		from.epoch[i] = s.arcs[i].epoch
	}
	steps, had := known[from]
	if !had {
		rec := c.rec.schema()
		for i := range steps {
			steps[i] = reservation.Next(&rec, uint64(c.rec.rev), s.facts(c, i))
		}
		known[from] = steps
	}
	return steps
}

func (r *record) names(epoch uint8) bool {
	return r.present && (r.epoch == epoch || r.closing[0] == epoch || r.closing[1] == epoch)
}

// see takes in the record as it is now. What was looked at is doubted if another has written it.
func (c *controller) see(r record, s *state) {
	if i := s.slot(r.epoch); i >= 0 && r != c.rec {
		c.sights[i] = narrow(c.sights[i].wide().Doubted(), c.sights[i].stray)
	}
	c.read, c.rec = true, r
}

// deleteStream asks what the stream holds and deletes it if that is nothing.
func (s *state) deleteStream(how broken) string {
	for i := range s.arcs {
		if a := &s.arcs[i]; a.marker != 0 || a.calls > 0 {
			if how != deletedBlind {
				return ""
			}
			if a.calls > 0 {
				return "a call is lost"
			}
		}
	}
	s.stream = false
	for i := range s.arcs {
		s.arcs[i].marker, s.arcs[i].consumer = 0, false
	}
	return ""
}

// act does one step of a controller, or what a broken one does in its place.
func (s *state) act(c int, step reservation.Step, how broken) string {
	me := &s.ctl[c]
	if step.Act == reservation.Write || step.Act == reservation.Remove {
		if how == undecided && step.Act == reservation.Write && decides(me, &step.Record) {
			if i := s.slot(me.rec.epoch); !me.sights[i].removed {
				next := reservation.Stray(reservation.Opening{Epoch: uint64(me.rec.epoch)}, me.sights[i].wide())
				if next.Act == reservation.Nothing {
					next.Act, next.Opening.Epoch = reservation.LookEmpty, uint64(me.rec.epoch)
				}
				return s.onArc(me, next, how)
			}
		}
		s.store(me, step, how)
		return ""
	}
	return s.onArc(me, step, how)
}

// decides reports whether a record says that an arc closes which could still be opened.
func decides(me *controller, next *schema.ReservationRecord) bool {
	return me.rec.marker != 0 && next.State == schema.ReservationDraining && next.Marker == 0
}

// store is a compare-and-set.
func (s *state) store(me *controller, step reservation.Step, how broken) {
	if !s.rec.present || s.rec.rev != me.rec.rev {
		me.read = false
		return
	}
	if step.Act == reservation.Remove {
		s.seq++
		s.rec = record{}
		me.rec = s.rec
		return
	}
	s.write(compact(&step.Record))
	me.rec = s.rec
	i := s.slot(s.rec.epoch)
	if i < 0 {
		for i = 0; s.arcs[i].epoch != 0; i++ {
		}
		s.arcs[i].epoch = s.rec.epoch
	}
	if s.rec.marker != 0 {
		s.arcs[i].named = s.rec.marker
	}
}

// onArc is a step that does something to an arc.
func (s *state) onArc(me *controller, step reservation.Step, how broken) (violation string) {
	i := s.slot(uint8(step.Opening.Epoch))
	a, g := &s.arcs[i], me.sights[i].wide()
	var found reservation.Outcome
	switch step.Act {
	case reservation.Look:
		found.Consumer, found.Marker = a.consumer, uint64(a.marker)
		if how == markerFirst && states[me.rec.state] == schema.ReservationProvisioning {
			found.Consumer = true // it comes later
		}
	case reservation.MakeConsumer:
		s.stream, a.consumer = true, true
	case reservation.PublishMarker:
		if how == markerFirst {
			s.stream = true
		}
		if !s.stream {
			me.sights[i] = narrow(g.Doubted(), me.sights[i].stray)
			return ""
		}
		if a.marker == 0 {
			s.marks++
			a.marker = s.marks
		}
		found.Marker = uint64(a.marker)
	case reservation.PurgeMarker:
		if how != neverPurged && how != purgedLate && !(how == closingLast && me.rec.epoch != a.epoch) {
			a.marker = 0
		}
	case reservation.LookEmpty:
		found.Empty = a.calls == 0 || how == neverLooked
		if how == closingLast {
			a.marker = 0
		}
	case reservation.DeleteConsumer:
		if how == purgedLate {
			a.marker = 0
		}
		if a.consumer && a.calls > 0 {
			violation = "a consumer is deleted that still holds calls"
		}
		a.consumer = false
	}
	g = g.After(step.Act, found)
	if how == notConfirmed && step.Act == reservation.PublishMarker {
		g.Looked = true
	}
	me.sights[i] = narrow(g, me.sights[i].stray)
	return violation
}
