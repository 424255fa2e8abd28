package manager_test

import (
	"fmt"
	"testing"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// putBack deletes bucket reservations on the live server and makes it again with what it held before, as from a backup: these
// records at the revisions that they had then.
func (c *crowd) putBack(records map[uint64]schema.ReservationRecord) {
	c.t.Helper()
	name := topology.BucketStream(c.names, topology.Reservations)
	if err := c.js.DeleteStream(c.t.Context(), name); err != nil {
		c.t.Fatal(err)
	}
	config := topology.Bucket(c.names, topology.Reservations)
	least, most := uint64(0), uint64(0)
	for revision := range records {
		if least == 0 || revision < least {
			least = revision
		}
		most = max(most, revision)
	}
	config.FirstSeq = least
	if _, err := c.js.CreateStream(c.t.Context(), config); err != nil {
		c.t.Fatal(err)
	}
	for revision := least; revision <= most; revision++ {
		rec, ok := records[revision]
		if !ok { // something that is none any more
			if _, err := c.kv.Put(c.t.Context(), "gone.by.0", nil); err != nil {
				c.t.Fatal(err)
			}
			continue
		}
		value, err := schema.Marshal(rec)
		if err != nil {
			c.t.Fatal(err)
		}
		got, err := c.kv.Put(c.t.Context(), subjects.ReservationKey(rec.Account, rec.Function, rec.Version), value)
		if err != nil || got != revision {
			c.t.Fatalf("put back at %d, want %d: %v", got, revision, err)
		}
	}
	if err := c.kv.Purge(c.t.Context(), "gone.by.0"); err != nil {
		c.t.Fatal(err)
	}
}

// A bucket that is put back on a live server from a backup: what it says is what holds. An arc that it knows is opened as it knows it,
// one that it does not know is emptied and goes, and both also while the revisions are lower than those that were seen.
func TestReservationsPutBackOnALiveServer(t *testing.T) {
	t.Parallel()
	_, _, c := setReserved(t, "m1", "m2")
	c.limit("kept", 2)
	backup := map[uint64]schema.ReservationRecord{}
	old := c.open("kept")
	entry, err := c.kv.Get(t.Context(), subjects.ReservationKey(old.Account, old.Function, old.Version))
	if err != nil {
		t.Fatal(err)
	}
	backup[entry.Revision()] = *old
	c.limit("kept", 0)
	natstest.Eventually(t, patience, func() bool { return c.record("kept") == nil }, "it is gone")
	for i := range 10 {
		c.limit("kept", 1+i%2)
	}
	newer := c.open("kept")
	c.limit("new", 2)
	unknown := c.open("new")
	c.putBack(backup)
	natstest.Eventually(t, patience, func() bool {
		rec := c.record("kept")
		return rec != nil && rec.State == schema.ReservationActive && rec.Limit == 2 && c.takes(rec) && rec.Epoch != newer.Epoch && rec.Marker != old.Marker
	}, "the arc is as the bucket says")
	natstest.Eventually(t, patience, func() bool {
		return !c.takes(newer) && !c.consumer(newer) && !c.takes(unknown) && !c.consumer(unknown) && c.record("new") == nil
	}, "what the bucket does not know is gone")
	seen, _, ok := c.cache.Get(subjects.ReservationKey(old.Account, old.Function, old.Version))
	natstest.Eventually(t, patience, func() bool {
		seen, _, ok = c.cache.Get(subjects.ReservationKey(old.Account, old.Function, old.Version))
		rec := c.record("kept")
		return ok && rec != nil && seen.Epoch == rec.Epoch && seen.Marker == rec.Marker
	}, fmt.Sprintf("who watches sees it: %+v", seen))
	natstest.Eventually(t, patience, func() bool {
		_, _, ok := c.cache.Get(subjects.ReservationKey(old.Account, "new", old.Version))
		return !ok
	}, "who watches sees that the other is gone")
}

// In a bucket that was put back an epoch may come again at another reservation, while the arc of the one before still stands under it:
// that one is emptied and goes, and the other opens.
func TestEpochThatComesAgain(t *testing.T) {
	t.Parallel()
	_, _, c := setReserved(t, "m1", "m2")
	c.limit("busy", 2)
	// A revision that the bucket has passed, so no epoch that was never given out, and not the one that is in use.
	was := &schema.ReservationRecord{Account: subjects.DefaultAccount, Function: "was", Version: "1", Epoch: c.open("busy").Epoch + 1, Shard: 0}
	if err := topology.EnsureReservedArc(t.Context(), c.js, c.names, 0, was.Account, was.Function, was.Version, was.Epoch); err != nil {
		t.Fatal(err)
	}
	if _, err := c.js.Publish(t.Context(), c.names.ReservedMarker(0, was.Account, was.Function, was.Version, was.Epoch), nil); err != nil {
		t.Fatal(err)
	}
	c.put(&schema.ReservationRecord{
		V: schema.Version, Account: subjects.DefaultAccount, Function: "now", FunctionID: "id-now", Version: "1", Limit: 2,
		State: schema.ReservationProvisioning, Epoch: was.Epoch,
	})
	if rec := c.open("now"); rec.Epoch != was.Epoch {
		t.Errorf("%+v", rec)
	}
	if c.takes(was) {
		t.Error("what was there before takes calls")
	}
}
