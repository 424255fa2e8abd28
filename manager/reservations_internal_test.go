package manager

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// A step is of the record that it was decided from: a limit that comes between its decision and its write is not lost, whether the
// watch has told it by then or not, and a key that is wanted again is not removed.
func TestLimitBetweenDecisionAndWrite(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	m, err := New(f.Connect(t), nil, Config{ID: "m1", Names: f.Names, Fabric: natstest.Small(), Capacity: 1})
	if err != nil {
		t.Fatal(err)
	}
	kv, err := m.js.KeyValue(t.Context(), f.Names.Bucket(topology.Reservations))
	if err != nil {
		t.Fatal(err)
	}
	for _, told := range []bool{false, true} {
		for from, to := range map[int]int{0: 5, 5: 0, 3: 4} {
			k := newKeeper(m)
			k.kv = kv
			rec := schema.ReservationRecord{
				V: schema.Version, Account: "default", Function: "resize", Version: "1", Limit: from, State: schema.ReservationProvisioning,
			}
			key := subjects.ReservationKey(rec.Account, rec.Function, rec.Version)
			put := func(limit int) uint64 {
				rec.Limit = limit
				value, err := schema.Marshal(rec)
				if err != nil {
					t.Fatal(err)
				}
				revision, err := kv.Put(t.Context(), key, value)
				if err != nil {
					t.Fatal(err)
				}
				return revision
			}
			k.changed(key, rec, put(from), false)
			task := k.tasks[key]
			step, ok := k.next(task)
			if !ok {
				t.Fatalf("limit %d: nothing to do", from)
			}
			revision := put(to)
			if told {
				k.changed(key, rec, revision, false)
			}
			if _, err := k.do(t.Context(), task, &step); err != nil {
				t.Fatal(err)
			}
			entry, err := kv.Get(t.Context(), key)
			if err != nil || entry.Revision() != revision {
				t.Errorf("limit %d to %d, told %v: the record was written over: %v", from, to, told, err)
			}
			if task.rec == nil || task.rec.Limit != to || task.revision != revision {
				t.Errorf("limit %d to %d, told %v: taken for %+v at %d", from, to, told, task.rec, task.revision)
			}
			if err := kv.Delete(t.Context(), key, jetstream.LastRevision(revision)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// What the watch told while a question was on its way is newer than an answer with an older revision, and is not told again: a limit of 0
// that was lost like that left a reservation as it was, for ever (S35).
func TestAnswerOlderThanWhatWasTold(t *testing.T) {
	t.Parallel()
	const before = 7
	rec := func(limit int) schema.ReservationRecord {
		return schema.ReservationRecord{V: schema.Version, Account: "default", Function: "resize", Version: "1", Limit: limit}
	}
	old, older, newer := rec(5), rec(6), rec(0)
	key := subjects.ReservationKey(old.Account, old.Function, old.Version)
	for _, test := range []struct {
		name     string
		told     uint64 // the revision that the watch told meanwhile, 0: none
		deleted  bool   // it told that the key is gone
		answer   *schema.ReservationRecord
		revision uint64
		limit    int // that is taken in, -1: there is no key
	}{
		{name: "an older record", told: 9, answer: &older, revision: 8, limit: 0},
		{name: "the same", told: 9, answer: &newer, revision: 9, limit: 0},
		{name: "a newer one", told: 8, answer: &older, revision: 9, limit: 6},
		{name: "no key, before there was one again", told: 9, revision: 8, limit: 0},
		{name: "no key, of which nothing is left", told: 9, limit: 0},
		{name: "no key any more", told: 8, revision: 9, limit: -1},
		{name: "a record of a key that is gone", told: 9, deleted: true, answer: &older, revision: 8, limit: -1},
		{name: "nothing told", answer: &older, revision: 8, limit: 6},
		{name: "nothing told, no key", revision: 8, limit: -1},
		{name: "nothing told, a bucket that was put back", answer: &older, revision: 3, limit: 6},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := newKeeper(&Manager{})
			k.changed(key, old, before, false)
			task := k.tasks[key]
			task.running = true
			if test.told > 0 {
				k.changed(key, newer, test.told, test.deleted)
			}
			k.answered(task, before, test.answer, test.revision)
			got := -1
			if task.rec != nil {
				got = task.rec.Limit
			}
			if got != test.limit {
				t.Errorf("limit %d is taken in, want %d", got, test.limit)
			}
		})
	}
}

// The stream of a shard is deleted only after it was empty for a while, and named by nobody all that time.
func TestShardRestsBeforeItGoes(t *testing.T) {
	t.Parallel()
	m, err := New(natstest.Start(t).Connect(t), nil, Config{ID: "m1", Names: mustNames(t), Capacity: 1})
	if err != nil {
		t.Fatal(err)
	}
	k := newKeeper(m)
	passed := func() { k.shards[3].empty -= emptyFor }
	for range 2 {
		if k.rests(3, true) {
			t.Error("it goes at once")
		}
	}
	passed()
	if k.rests(3, false) || k.rests(3, true) {
		t.Error("it goes though it held something a moment ago")
	}
	passed()
	k.tasks["x"] = &task{rec: &schema.ReservationRecord{Epoch: 9, Shard: 3}}
	if k.rests(3, true) {
		t.Error("it goes though a record names it")
	}
	delete(k.tasks, "x")
	if k.rests(3, true) {
		t.Error("it goes though a record named it a moment ago")
	}
	passed()
	if !k.rests(3, true) {
		t.Error("it never goes")
	}
}

func mustNames(t *testing.T) subjects.Names {
	t.Helper()
	names, err := subjects.NewNames("")
	if err != nil {
		t.Fatal(err)
	}
	return names
}
