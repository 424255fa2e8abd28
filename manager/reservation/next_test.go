package reservation_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/hearth-run/hearth/manager/reservation"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

func ring(n int) *subjects.Ring {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprint("m", i+1)
	}
	return subjects.NewRing(0, ids)
}

// active is a record of a limit whose arc is open, with facts by which every manager of a ring has its share.
func active(limit, managers int) (schema.ReservationRecord, *reservation.Facts) {
	rec := schema.ReservationRecord{
		V: 1, Account: "default", Function: "resize", Version: "1", Limit: limit, State: schema.ReservationActive, Epoch: 7, Shard: 1, Marker: 90,
	}
	f := &reservation.Facts{
		Ring: ring(managers), RingEpoch: 3, T: 4, Told: true, Members: map[uint64][]reservation.Member{},
		Sights: map[uint64]reservation.Sight{7: {Looked: true, Consumer: true, Marker: 90}},
		Shard:  func() (int, bool) { return 2, true }, Used: func() bool { return false }, Free: "12 places are free at 2 managers",
	}
	share(&rec, f)
	rec.Length = len(f.Members[7])
	return rec, f
}

// share has every manager tell its share by the record, ready.
func share(rec *schema.ReservationRecord, f *reservation.Facts) {
	f.Members[rec.Epoch] = nil
	for _, p := range f.Ring.Places(nil, rec.Account, rec.Function, rec.Version, rec.Limit, f.T, rec.Skip) {
		f.Members[rec.Epoch] = append(f.Members[rec.Epoch], reservation.Member{Manager: p.Manager, Share: p.Share, Ready: p.Share})
	}
}

// next takes a step that has to be a write, or nothing.
func next(t *testing.T, rec *schema.ReservationRecord, f *reservation.Facts) bool {
	t.Helper()
	switch step := reservation.Next(rec, 50, f); step.Act {
	case reservation.Nothing:
		return false
	case reservation.Write:
		*rec = step.Record
		return true
	default:
		t.Fatalf("%v, want a write or nothing", step.Act)
		return false
	}
}

// Managers that cannot hold their share are left out one after the other; when nobody would be left, everybody is asked again for
// what it can hold, and the reservation says what is free; a change of the ring or of the limit begins anew.
func TestUnableManagers(t *testing.T) {
	t.Parallel()
	for _, again := range []func(*schema.ReservationRecord, *reservation.Facts){
		func(rec *schema.ReservationRecord, _ *reservation.Facts) { rec.Limit-- },
		func(_ *schema.ReservationRecord, f *reservation.Facts) { f.RingEpoch++ },
	} {
		rec, f := active(9, 3)
		if next(t, &rec, f) {
			t.Fatalf("all is well and %+v is written", rec)
		}
		for i := range 2 {
			m := &f.Members[7][0]
			m.Unable, m.Ready = true, 0
			m.Share--
			if next(t, &rec, f) {
				t.Fatal("a manager is left out that told of another share than it has")
			}
			m.Share++
			if !next(t, &rec, f) || len(rec.Skip) != i+1 || rec.SkipLimit != 9 || rec.SkipRing != 3 || rec.Failed != "" {
				t.Fatalf("skip %v at (%d, %d), failed %q", rec.Skip, rec.SkipLimit, rec.SkipRing, rec.Failed)
			}
			share(&rec, f)
			if next(t, &rec, f) {
				t.Fatal("written again")
			}
		}
		f.Members[7][0].Unable, f.Members[7][0].Ready = true, 1
		if !next(t, &rec, f) || rec.Skip != nil || !strings.Contains(rec.Failed, "12 places are free") || !strings.Contains(rec.Failed, "9 environments") {
			t.Fatalf("with nobody left: skip %v, failed %q", rec.Skip, rec.Failed)
		}
		short := rec
		share(&rec, f)
		f.Members[7][0].Unable, f.Members[7][0].Ready = true, 0
		if next(t, &rec, f) {
			t.Fatalf("nobody was left, and %+v is written", rec)
		}
		again(&rec, f)
		f.Members[7] = nil
		if !next(t, &rec, f) || rec.Failed != "" || rec.SkipRing != 0 {
			t.Fatalf("after a change: %+v", rec)
		}
		rec = short
		share(&rec, f)
		f.RingEpoch = rec.SkipRing
		if !next(t, &rec, f) || rec.Failed != "" || rec.SkipRing != 0 {
			t.Fatalf("ready after all: %+v", rec)
		}
	}
}

func TestFailedInits(t *testing.T) {
	t.Parallel()
	rec, f := active(4, 2)
	rec.State, rec.Marker, rec.Length = schema.ReservationProvisioning, 0, 0
	m := &f.Members[7][1]
	m.Ready, m.Failed = 0, "Runtime.ExitError: exit 1"
	if !next(t, &rec, f) || rec.Failed != "Runtime.ExitError: exit 1 (at manager "+m.Manager+")" || rec.State != schema.ReservationProvisioning {
		t.Fatalf("%+v", rec)
	}
	if next(t, &rec, f) {
		t.Fatal("written twice")
	}
	m.Failed = ""
	if !next(t, &rec, f) || rec.Failed != "" {
		t.Fatalf("%+v", rec)
	}
	m.Ready = m.Share
	f.Sights[7] = reservation.Sight{}
	if step := reservation.Next(&rec, 50, f); step.Act != reservation.Look {
		t.Fatalf("all are ready: %v", step.Act)
	}
}

// What has no place yet, or an epoch that its bucket never gave out, begins anew; what it had closes.
func TestBegin(t *testing.T) {
	t.Parallel()
	rec, f := active(4, 2)
	rec.Epoch, rec.State, rec.Marker = 900, schema.ReservationActive, 5
	if !next(t, &rec, f) || rec.Epoch != 50 || rec.Shard != 2 || rec.State != schema.ReservationProvisioning || rec.Marker != 0 ||
		!reflect.DeepEqual(rec.Closing, []schema.ClosingArc{{Epoch: 900, Shard: 1}}) {
		t.Fatalf("void: %+v", rec)
	}
	if step := reservation.Next(&rec, 51, f); step.Act != reservation.PurgeMarker || step.Opening.Epoch != 900 {
		t.Fatalf("what closes is to be shut first, not %v", step)
	}

	rec, f = active(4, 2)
	rec.Epoch, rec.Marker, rec.State = 0, 0, schema.ReservationProvisioning
	f.Used = func() bool { return true }
	before := rec
	if !next(t, &rec, f) || !reflect.DeepEqual(rec, before) {
		t.Fatalf("an epoch that another reservation has: %+v", rec)
	}
	f.Used, f.Shard = func() bool { return false }, func() (int, bool) { return 0, false }
	if !next(t, &rec, f) || rec.Epoch != 0 || rec.Failed == "" {
		t.Fatalf("without a free place: %+v", rec)
	}
	if next(t, &rec, f) {
		t.Fatal("written twice")
	}
	f.Shard = func() (int, bool) { return 63, true }
	if !next(t, &rec, f) || rec.Epoch != 50 || rec.Shard != 63 || rec.Failed != "" {
		t.Fatalf("with one: %+v", rec)
	}

	rec, f = active(4, 2)
	rec.State, rec.Marker = schema.ReservationDraining, 0
	for e := range uint64(reservation.MaxClosing) {
		rec.Closing = append(rec.Closing, schema.ClosingArc{Epoch: e + 1})
		f.Sights[e+1] = reservation.Sight{Shut: true, Empty: true, Removed: true}
		f.Members[e+1] = []reservation.Member{{Manager: "m1", Ready: 1}}
	}
	if next(t, &rec, f) {
		t.Fatalf("too many close: %+v", rec)
	}
	f.Members[3] = nil
	if !next(t, &rec, f) || len(rec.Closing) != reservation.MaxClosing-1 || rec.Epoch != 7 {
		t.Fatalf("one has gone: %+v", rec)
	}
	if !next(t, &rec, f) || rec.Epoch != 50 || len(rec.Closing) != reservation.MaxClosing {
		t.Fatalf("there is room: %+v", rec)
	}
}

// Members of a manager that nobody has heard of lately are not gone.
func TestDrainWaitsForWhatIsTold(t *testing.T) {
	t.Parallel()
	rec, f := active(0, 2)
	if !next(t, &rec, f) || rec.State != schema.ReservationDraining || rec.Marker != 90 {
		t.Fatalf("%+v", rec)
	}
	f.Told = false
	if next(t, &rec, f) {
		t.Fatalf("not everybody told: %+v", rec)
	}
	f.Told, f.Members[7] = true, []reservation.Member{{Manager: "m9", Starting: 1}}
	if next(t, &rec, f) {
		t.Fatalf("a member starts: %+v", rec)
	}
	f.Members[7] = nil
	if !next(t, &rec, f) || rec.Marker != 0 {
		t.Fatalf("%+v", rec)
	}
}

func TestStrayArcs(t *testing.T) {
	t.Parallel()
	o := reservation.Opening{Epoch: 5, Shard: 3}
	seen := reservation.Sight{}
	for _, want := range []reservation.Act{reservation.PurgeMarker, reservation.LookEmpty, reservation.DeleteConsumer, reservation.Nothing} {
		step := reservation.Stray(o, seen)
		if step.Act != want {
			t.Fatalf("%v, want %v", step.Act, want)
		}
		seen = seen.After(step.Act, reservation.Outcome{Empty: true})
	}
	held := reservation.Sight{Shut: true}.After(reservation.LookEmpty, reservation.Outcome{})
	if step := reservation.Stray(o, held); step.Act != reservation.Nothing || !held.Held {
		t.Fatalf("%v for one that holds calls", step.Act)
	}
	rec, f := active(4, 2)
	rec, ok := reservation.Adopt(&rec, o)
	if !ok || !reservation.Names(&rec, 5) || !reservation.Names(&rec, 7) || reservation.Names(&rec, 6) {
		t.Fatalf("%+v", rec)
	}
	if _, ok := reservation.Adopt(&rec, o); ok {
		t.Error("adopted twice")
	}
	f.Sights[5] = held
	if step := reservation.Next(&rec, 60, f); step.Act != reservation.MakeConsumer || step.Opening != o {
		t.Errorf("what holds calls without a consumer gets %v", step)
	}
}

func TestShards(t *testing.T) {
	t.Parallel()
	var s reservation.Shards
	rec, _ := active(4, 2)
	rec.Shard, rec.Closing = 0, []schema.ClosingArc{{Epoch: 3, Shard: 1}, {Epoch: 4, Shard: 999}}
	s.Add(&rec)
	s.Add(&schema.ReservationRecord{})
	for _, c := range []struct{ most, barred, want int }{{2, -1, 0}, {2, 0, 1}, {1, -1, 2}, {1, 2, 3}} {
		if got, ok := s.Free(c.most, func(shard int) bool { return shard == c.barred }); !ok || got != c.want {
			t.Errorf("%+v: %d, %v", c, got, ok)
		}
	}
	if _, ok := s.Free(0, func(int) bool { return false }); ok {
		t.Error("a place where none is")
	}
}
