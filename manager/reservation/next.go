package reservation

import (
	"slices"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// MaxClosing is how many openings of one reservation may be closing at once. Another one begins when the first has gone.
const MaxClosing = 8

// Facts is what is known beside the record.
type Facts struct {
	Ring      *subjects.Ring // nil: nobody is on it
	RingEpoch uint64
	T         int // reserved environments a manager

	// Told says that every manager of the ring, and each that leaves it, told a status lately: only then is no member no member.
	Told    bool
	Members map[uint64][]Member // by epoch
	Sights  map[uint64]Sight    // by epoch

	// Asked only where an opening begins: the lowest shard with a free place, and whether the revision that was read is the epoch
	// of another reservation.
	Shard func() (shard int, ok bool)
	Used  func() bool
	Free  string // what is free on the ring, in words
}

// Next is the next step for a reservation, given its record as it was read at that revision.
func Next(rec *schema.ReservationRecord, revision uint64, f *Facts) Step {
	for _, c := range rec.Closing {
		if !f.Sights[c.Epoch].Shut {
			return Step{Act: PurgeMarker, Opening: Opening{c.Epoch, c.Shard}}
		}
	}
	step := Step{}
	switch {
	case rec.Limit > 0 && (rec.Epoch == 0 || rec.Epoch > revision):
		step = begin(rec, revision, f) // a record with an epoch that was never given out came from another bucket: it is void
	case rec.Limit > 0:
		step = keep(rec, revision, f)
	case rec.Epoch != 0:
		step = drain(rec, f)
	}
	if step.Act != Nothing {
		return step
	}
	for i, c := range rec.Closing {
		step, gone := retire(Opening{c.Epoch, c.Shard}, f)
		if gone {
			next := clone(rec)
			next.Closing = slices.Delete(next.Closing, i, i+1)
			return Step{Act: Write, Record: next}
		}
		if step.Act != Nothing {
			return step
		}
	}
	if rec.Limit > 0 || len(rec.Closing) > 0 {
		return Step{}
	}
	if rec.Epoch != 0 {
		if !closes(rec) {
			return Step{}
		}
		if step, gone := retire(Name(rec), f); !gone {
			return step
		}
	}
	return Step{Act: Remove}
}

// closes reports whether the present opening will never take calls again.
func closes(rec *schema.ReservationRecord) bool {
	return rec.State == schema.ReservationDraining && rec.Marker == 0
}

// begin gives the reservation a new opening. What it had closes.
func begin(rec *schema.ReservationRecord, revision uint64, f *Facts) Step {
	if len(rec.Closing) >= MaxClosing {
		return Step{}
	}
	next := clone(rec)
	if f.Used() {
		return Step{Act: Write, Record: next} // which gets it a revision of its own
	}
	shard, ok := f.Shard()
	if !ok {
		next.Failed = "all places for reserved arcs are taken"
		if rec.Failed == next.Failed {
			return Step{}
		}
		return Step{Act: Write, Record: next}
	}
	if rec.Epoch != 0 {
		next.Closing = append(next.Closing, schema.ClosingArc{Epoch: rec.Epoch, Shard: rec.Shard})
	}
	next.State, next.Epoch, next.Shard, next.Marker = schema.ReservationProvisioning, revision, shard, 0
	next.Length, next.Failed = 0, ""
	next.Skip, next.SkipLimit, next.SkipRing = nil, 0, 0
	return Step{Act: Write, Record: next}
}

// keep is the next step while members are wanted.
func keep(rec *schema.ReservationRecord, revision uint64, f *Facts) Step {
	switch rec.State {
	case schema.ReservationProvisioning:
		if step := upkeep(rec, f); step.Act != Nothing {
			return step
		}
		if !ready(rec, f) {
			return Step{}
		}
		return open(rec, f)
	case schema.ReservationActive:
		if step := open(rec, f); step.Act != Nothing {
			return step
		}
		return upkeep(rec, f)
	case schema.ReservationDraining:
		if closes(rec) {
			return begin(rec, revision, f)
		}
		next := clone(rec)
		next.State = schema.ReservationActive
		return Step{Act: Write, Record: next}
	default:
		return Step{} // of a version that this build does not know
	}
}

// open makes the arc take calls, if it does not as the record says.
func open(rec *schema.ReservationRecord, f *Facts) Step {
	seen := f.Sights[rec.Epoch]
	switch {
	case !seen.Looked:
		return Step{Act: Look, Opening: Name(rec)}
	case !seen.Consumer:
		return Step{Act: MakeConsumer, Opening: Name(rec)}
	case seen.Marker == 0:
		return Step{Act: PublishMarker, Opening: Name(rec)}
	case rec.State == schema.ReservationActive && rec.Marker == seen.Marker:
		return Step{}
	}
	next := clone(rec)
	next.State, next.Marker = schema.ReservationActive, seen.Marker
	if f.Ring != nil {
		next.Length = len(places(&next, f))
	}
	return Step{Act: Write, Record: next}
}

// drain is the next step while no members are wanted and the arc may still take calls, or until it is shut.
func drain(rec *schema.ReservationRecord, f *Facts) Step {
	next := clone(rec)
	switch {
	case rec.State == schema.ReservationProvisioning || rec.State == schema.ReservationActive:
		next.State, next.Failed = schema.ReservationDraining, ""
		next.Skip, next.SkipLimit, next.SkipRing = nil, 0, 0
		return Step{Act: Write, Record: next}
	case rec.State != schema.ReservationDraining:
		return Step{}
	case closes(rec):
		if !f.Sights[rec.Epoch].Shut {
			return Step{Act: PurgeMarker, Opening: Name(rec)}
		}
		return Step{}
	}
	if none(rec.Epoch, f) {
		next.Marker = 0
		return Step{Act: Write, Record: next}
	}
	switch seen := f.Sights[rec.Epoch]; {
	case !seen.Looked:
		return Step{Act: Look, Opening: Name(rec)}
	case seen.Marker != 0 && !seen.Consumer:
		return Step{Act: MakeConsumer, Opening: Name(rec)}
	}
	return Step{}
}

// retire is the next step for an opening that is shut, and whether nothing of it is left.
func retire(o Opening, f *Facts) (step Step, gone bool) {
	seen := f.Sights[o.Epoch]
	switch {
	case !seen.Empty && seen.Held && !seen.Consumer:
		return Step{Act: MakeConsumer, Opening: o}, false // whoever deleted it left calls behind that nobody can take
	case !seen.Empty:
		return Step{Act: LookEmpty, Opening: o}, false
	case !none(o.Epoch, f):
		return Step{}, false
	case !seen.Removed:
		return Step{Act: DeleteConsumer, Opening: o}, false
	}
	return Step{}, true
}

// Stray is the next step for something of an opening that no record names, to whoever read its record after having seen it: an
// opening that was named and is not any more never comes back. [Nothing] means that it is gone, or that it holds calls
// (Held): those belong into a record, where its managers see them.
func Stray(o Opening, seen Sight) Step {
	switch {
	case !seen.Shut:
		return Step{Act: PurgeMarker, Opening: o}
	case !seen.Empty && !seen.Held:
		return Step{Act: LookEmpty, Opening: o}
	case seen.Empty && !seen.Removed:
		return Step{Act: DeleteConsumer, Opening: o}
	}
	return Step{}
}

// Adopt puts an opening that no record names and that holds calls among those that close.
func Adopt(rec *schema.ReservationRecord, o Opening) (next schema.ReservationRecord, ok bool) {
	if len(rec.Closing) >= MaxClosing || Names(rec, o.Epoch) {
		return next, false
	}
	next = clone(rec)
	next.Closing = append(next.Closing, schema.ClosingArc{Epoch: o.Epoch, Shard: o.Shard})
	return next, true
}

// none reports whether an opening surely has no member left.
func none(epoch uint64, f *Facts) bool {
	if !f.Told {
		return false
	}
	for _, m := range f.Members[epoch] {
		if m.Ready+m.Busy+m.Starting > 0 {
			return false
		}
	}
	return true
}

func clone(rec *schema.ReservationRecord) schema.ReservationRecord {
	next := *rec
	next.Skip, next.Closing = slices.Clone(rec.Skip), slices.Clone(rec.Closing)
	return next
}
