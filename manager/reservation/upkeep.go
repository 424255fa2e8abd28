package reservation

import (
	"fmt"
	"slices"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// places are who holds how many members by the record.
func places(rec *schema.ReservationRecord, f *Facts) []subjects.Place {
	if f.Ring == nil {
		return nil
	}
	return f.Ring.Places(nil, rec.Account, rec.Function, rec.Version, rec.Limit, f.T, rec.Skip)
}

// ready reports whether every manager has its share.
func ready(rec *schema.ReservationRecord, f *Facts) bool {
	all := places(rec, f)
	for _, p := range all {
		if member(rec.Epoch, p.Manager, f).Ready < p.Share {
			return false
		}
	}
	return len(all) > 0
}

func member(epoch uint64, manager string, f *Facts) Member {
	for _, m := range f.Members[epoch] {
		if m.Manager == manager {
			return m
		}
	}
	return Member{}
}

// upkeep writes what the record says of its managers, where it changed: who is left out because its share does not fit there,
// why members cannot be made, how long the arc is.
//
// Nobody is left out when there would be nobody left: then shares are computed over the whole ring again, so that each
// manager keeps what it can hold, and the reservation is FAILED with what is free until its limit or the ring changes,
// or until every share is ready after all.
func upkeep(rec *schema.ReservationRecord, f *Facts) Step {
	next := clone(rec)
	if next.SkipRing != 0 && (next.SkipLimit != next.Limit || next.SkipRing != f.RingEpoch) {
		next.Skip, next.SkipLimit, next.SkipRing, next.Failed = nil, 0, 0, ""
	}
	all := places(&next, f)
	if len(all) == 0 {
		return Step{} // nobody is on the ring
	}
	short := next.SkipRing != 0 && len(next.Skip) == 0
	unable, failed := "", ""
	for _, p := range all {
		m := member(rec.Epoch, p.Manager, f)
		if unable == "" && m.Unable && m.Share == p.Share {
			unable = p.Manager
		}
		if failed == "" && m.Failed != "" {
			failed = fmt.Sprintf("%s (at manager %s)", m.Failed, p.Manager)
		}
	}
	switch {
	case short && ready(&next, f):
		next.SkipLimit, next.SkipRing, next.Failed = 0, 0, ""
	case short:
	case unable != "" && len(next.Skip)+1 < f.Ring.Len():
		next.Skip = append(next.Skip, unable)
		slices.Sort(next.Skip)
		next.SkipLimit, next.SkipRing, next.Failed = next.Limit, f.RingEpoch, failed
	case unable != "":
		next.Skip, next.SkipLimit, next.SkipRing = nil, next.Limit, f.RingEpoch
		next.Failed = fmt.Sprintf("no managers are left that can hold their shares of %d environments: %s", next.Limit, f.Free)
	default:
		next.Failed = failed
	}
	if rec.State == schema.ReservationActive {
		next.Length = len(places(&next, f))
	}
	if next.Failed == rec.Failed && next.Length == rec.Length && next.SkipLimit == rec.SkipLimit && next.SkipRing == rec.SkipRing &&
		slices.Equal(next.Skip, rec.Skip) {
		return Step{}
	}
	return Step{Act: Write, Record: next}
}
