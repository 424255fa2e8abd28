package reservation_test

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/hearth-run/hearth/manager/reservation"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// state is everything at one moment. It is comparable, and as small as may be: there are hundreds of thousands.
type state struct {
	rec    record
	seq    uint8 // of the bucket
	stream bool
	marks  uint8         // sequence of the last marker that was published
	arcs   [openings]arc // in the order of their epochs; epoch 0: not opened yet
	front  struct{ epoch, marker uint8 }
	ctl    [2]controller

	calls, changes, crashes, restarts uint8 // left
}

const openings = 3

type record struct {
	present                          bool
	rev, limit, state, epoch, marker uint8
	closing                          [2]uint8
}

// arc is one opening as the server and the manager have it.
type arc struct {
	epoch, marker uint8
	named         uint8 // the last marker of it that a record named
	calls         uint8 // stored: waiting, or claimed and not acknowledged
	consumer      bool
}

func (a *arc) open() bool     { return a.marker != 0 && a.marker == a.named }
func (a *arc) standing() bool { return a.marker != 0 || a.consumer || a.calls > 0 }

type controller struct {
	read   bool
	rec    record // as it was read
	sights [openings]sight
}

type sight struct {
	looked, consumer, shut, empty, removed, held, stray bool
	marker                                              uint8
}

var states = [...]schema.ReservationState{schema.ReservationProvisioning, schema.ReservationActive, schema.ReservationDraining}

func first(b bounds) state {
	return state{calls: b.calls, changes: b.changes, crashes: b.crashes, restarts: b.restarts}
}

// each yields every state that one action leads to, what it was, and what it violated.
func (s *state) each(b bounds, how broken, known thoughts, yield func(next state, what, violation string)) {
	do := func(what string, act func(n *state) string) {
		n := *s
		violation := act(&n)
		if open := n.opened(); violation == "" && open > 1 {
			violation = fmt.Sprintf("%d epochs take calls", open)
			if open == 2 {
				violation = "two epochs take calls"
			}
		}
		yield(n, what, violation)
	}
	if s.changes > 0 {
		do("user: limit", (*state).limit)
	}
	do("frontend: sees the record", func(n *state) string {
		n.front.epoch, n.front.marker = 0, 0
		if r := &n.rec; r.present && states[r.state] != schema.ReservationProvisioning {
			n.front.epoch, n.front.marker = r.epoch, r.marker
		}
		return ""
	})
	if s.calls > 0 {
		do("frontend: publishes", (*state).publish)
	}
	for i := range s.arcs {
		if s.arcs[i].calls > 0 && s.arcs[i].consumer {
			do("manager: starts a call, or moves it", func(n *state) string { n.arcs[i].calls--; return "" })
		}
	}
	if s.restarts > 0 {
		do("server: restarts", func(n *state) string {
			n.restarts--
			n.stream = false
			for i := range n.arcs {
				n.arcs[i].marker, n.arcs[i].calls, n.arcs[i].consumer = 0, 0, false
			}
			return ""
		})
	}
	if b.neighbour && !s.stream && s.restarts == 0 {
		do("another arc makes the stream", func(n *state) string { n.stream = true; return "" })
	}
	for c := range b.controllers {
		s.control(c, b, how, known, do)
	}
}

// String is the state on one line of a story.
func (s *state) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v; server %v:", &s.rec, s.stream)
	for i := range s.arcs {
		if a := &s.arcs[i]; a.epoch != 0 {
			fmt.Fprintf(&b, " [%d marker %d named %d calls %d consumer %v]", a.epoch, a.marker, a.named, a.calls, a.consumer)
		}
	}
	fmt.Fprintf(&b, "; frontend %v", s.front)
	for c := range s.ctl {
		fmt.Fprintf(&b, "; %v %v", s.ctl[c].read, &s.ctl[c].rec)
		for i := range s.ctl[c].sights {
			if s.arcs[i].epoch != 0 {
				fmt.Fprintf(&b, " %+v", s.ctl[c].sights[i].wide())
			}
		}
	}
	return b.String()
}

// String is the record in a story.
func (r *record) String() string {
	if !r.present {
		return "no record"
	}
	return fmt.Sprintf("%d: L %d %s epoch %d marker %d closing %v", r.rev, r.limit, states[r.state], r.epoch, r.marker, r.closing)
}

// normal gives markers new numbers in their order, and the controllers an order: what is only named otherwise is the same.
func (s *state) normal() {
	var all [16]*uint8
	n := 0
	add := func(m *uint8) {
		if *m != 0 {
			all[n] = m
			n++
		}
	}
	add(&s.rec.marker)
	add(&s.front.marker)
	for i := range s.arcs {
		add(&s.arcs[i].marker)
		add(&s.arcs[i].named)
	}
	for c := range s.ctl {
		add(&s.ctl[c].rec.marker)
		for i := range s.ctl[c].sights {
			add(&s.ctl[c].sights[i].marker)
		}
	}
	var used [32]bool
	for _, m := range all[:n] {
		used[*m] = true
	}
	var number [32]uint8
	s.marks = 0
	for m, u := range used {
		if u {
			s.marks++
			number[m] = s.marks
		}
	}
	for _, m := range all[:n] {
		*m = number[*m]
	}
	if one, two := s.ctl[0].code(), s.ctl[1].code(); bytes.Compare(two[:], one[:]) < 0 {
		s.ctl[0], s.ctl[1] = s.ctl[1], s.ctl[0]
	}
}

// code tells controllers apart.
func (c *controller) code() (b [9 + 2*openings]byte) {
	flags := func(all ...bool) (f byte) {
		for i, on := range all {
			if on {
				f |= 1 << i
			}
		}
		return f
	}
	r := &c.rec
	copy(b[:], []byte{flags(c.read, r.present), r.rev, r.limit, r.state, r.epoch, r.marker, r.closing[0], r.closing[1]})
	for i := range c.sights {
		g := &c.sights[i]
		b[9+2*i], b[10+2*i] = flags(g.looked, g.consumer, g.shut, g.empty, g.removed, g.held, g.stray), g.marker
	}
	return b
}

func (s *state) opened() int {
	n := 0
	for i := range s.arcs {
		if s.arcs[i].open() {
			n++
		}
	}
	return n
}

func (s *state) write(r record) {
	s.seq++
	r.rev, r.present = s.seq, true
	s.rec = r
}

// limit is what a control handler does.
func (s *state) limit() string {
	s.changes--
	r := s.rec
	if !r.present {
		r = record{}
	}
	r.limit = 1 - r.limit
	s.write(r)
	return ""
}

// publish stores a call if the marker that the frontend knows of still stands; a refused one goes to the unreserved arc.
func (s *state) publish() string {
	i := s.slot(s.front.epoch)
	if i < 0 || !s.stream || s.front.marker == 0 || s.arcs[i].marker != s.front.marker {
		return ""
	}
	s.calls--
	s.arcs[i].calls++
	if !s.arcs[i].consumer {
		return "a call is accepted where no consumer is"
	}
	return ""
}

func (s *state) slot(epoch uint8) int {
	for i := range s.arcs {
		if epoch != 0 && s.arcs[i].epoch == epoch {
			return i
		}
	}
	return -1
}

// ended reports whether all is as the limit says and nothing is left behind, and nobody has anything to do.
func (s *state) ended(b bounds) bool {
	r := &s.rec
	wanted := r.present && r.limit > 0
	if s.changes > 0 || r.present != wanted || r.closing != [2]uint8{} {
		return false
	}
	for i := range s.arcs {
		a := &s.arcs[i]
		if wanted && a.epoch == r.epoch {
			if states[r.state] != schema.ReservationActive || r.marker == 0 || a.marker != r.marker || !a.consumer || a.calls > 0 {
				return false
			}
			continue
		}
		if a.standing() {
			return false
		}
	}
	if !wanted {
		return !b.deletes || !s.stream
	}
	rec := r.schema()
	f := s.facts(&controller{}, 1)
	f.Sights[rec.Epoch] = reservation.Sight{Looked: true, Consumer: true, Marker: rec.Marker}
	return reservation.Next(&rec, uint64(r.rev), f).Act == reservation.Nothing
}

func (r *record) schema() schema.ReservationRecord {
	rec := schema.ReservationRecord{
		Function: "f", Limit: int(r.limit), State: states[r.state], Epoch: uint64(r.epoch), Marker: uint64(r.marker), Length: 1,
	}
	for _, epoch := range r.closing {
		if epoch != 0 {
			rec.Closing = append(rec.Closing, schema.ClosingArc{Epoch: uint64(epoch)})
		}
	}
	return rec
}

func compact(rec *schema.ReservationRecord) record {
	r := record{limit: uint8(rec.Limit), epoch: uint8(rec.Epoch), marker: uint8(rec.Marker)}
	for i, st := range states {
		if rec.State == st {
			r.state = uint8(i)
		}
	}
	for i, c := range rec.Closing {
		r.closing[i] = uint8(c.Epoch)
	}
	return r
}

var alone = subjects.NewRing(1, []string{"m1"})

// facts are what a controller goes by. What the managers tell may be anything that is true at some time: that every share is
// ready and members are left, or that none is. Nothing but time may rest on it.
func (s *state) facts(c *controller, told int) *reservation.Facts {
	f := &reservation.Facts{
		Ring: alone, RingEpoch: 1, T: 1, Told: true, Members: make(map[uint64][]reservation.Member, openings),
		Sights: make(map[uint64]reservation.Sight, openings), Shard: func() (int, bool) { return 0, true },
		Used: func() bool { return false },
	}
	for i := range s.arcs {
		if epoch := uint64(s.arcs[i].epoch); epoch != 0 {
			f.Members[epoch] = []reservation.Member{{Manager: "m1", Ready: told}}
			f.Sights[epoch] = c.sights[i].wide()
		}
	}
	return f
}

func (g sight) wide() reservation.Sight {
	return reservation.Sight{
		Looked: g.looked, Consumer: g.consumer, Marker: uint64(g.marker), Shut: g.shut, Empty: g.empty, Removed: g.removed, Held: g.held,
	}
}

func narrow(w reservation.Sight, stray bool) sight {
	return sight{
		looked: w.Looked, consumer: w.Consumer, marker: uint8(w.Marker), shut: w.Shut, empty: w.Empty, removed: w.Removed, held: w.Held,
		stray: stray,
	}
}
