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
