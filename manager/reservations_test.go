package manager_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// setReserved starts a controller off the ring and managers that hold members on it.
func setReserved(t *testing.T, ids ...string) (*natstest.Fabric, *node, *crowd) {
	t.Helper()
	f := natstest.Start(t)
	n := aside(t, f, "c1")
	c := newCrowd(t, f, ids...)
	c.onRing(ids...)
	return f, n, c
}

// A reservation opens when all shares are ready, keeps its arc when it shrinks and grows, and goes without a trace when its limit is
// 0 and nobody holds a member any more; a manager that leaves counts as long as it has one (S34).
func TestReservationFromOpeningToGone(t *testing.T) {
	t.Parallel()
	_, _, c := setReserved(t, "m1", "m2", "m3")
	c.change(func() { c.unable["m1"], c.unable["m2"], c.unable["m3"] = 0, 0, 0 })
	c.change(func() { c.failed["m1"], c.failed["m2"], c.failed["m3"] = "slow", "slow", "slow"; clear(c.unable) })
	c.limit("resize", 6)
	natstest.Eventually(t, patience, func() bool {
		rec := c.record("resize")
		return rec.Epoch != 0 && strings.HasPrefix(rec.Failed, "slow (at manager m")
	}, "it has a place, and says why members are not made")
	if rec := c.record("resize"); rec.State != schema.ReservationProvisioning || c.takes(rec) {
		t.Fatalf("without its members: %+v", rec)
	}
	c.change(func() { clear(c.failed) })
	first := c.open("resize")
	if first.Length != 2 || first.Failed != "" || first.Shard != 0 {
		t.Errorf("%+v", first)
	}
	for _, limit := range []int{2, 40} {
		c.limit("resize", limit)
		want := subjects.ReservedLength(limit, subjects.DefaultT, 3)
		natstest.Eventually(t, patience, func() bool { return c.record("resize").Length == want }, "its length follows from the limit")
		if rec := c.record("resize"); rec.Marker != first.Marker || rec.Epoch != first.Epoch || rec.State != schema.ReservationActive {
			t.Errorf("limit %d: %+v", limit, rec)
		}
	}
	c.change(func() { c.hold["m2"], c.leaving["m2"] = 1, true })
	c.onRing("m1", "m3")
	c.limit("resize", 0)
	natstest.Eventually(t, patience, func() bool { return c.record("resize").State == schema.ReservationDraining }, "it drains")
	if rec := c.record("resize"); rec.Marker != first.Marker || !c.takes(rec) {
		t.Errorf("while a member is in use: %+v", rec)
	}
	c.limit("resize", 3)
	natstest.Eventually(t, patience, func() bool { return c.record("resize").State == schema.ReservationActive }, "it is active again")
	if rec := c.record("resize"); rec.Marker != first.Marker || rec.Epoch != first.Epoch {
		t.Errorf("reserved again while the marker stood: %+v", rec)
	}
	c.limit("resize", 0)
	natstest.Eventually(t, patience, func() bool { return c.record("resize").State == schema.ReservationDraining }, "it drains again")
	c.change(func() { clear(c.hold) })
	c.clean()
	records, err := c.js.Stream(t.Context(), topology.BucketStream(c.names, topology.Reservations))
	if err != nil {
		t.Fatal(err)
	}
	key := subjects.ReservationKey(first.Account, first.Function, first.Version)
	if marker, err := records.GetLastMsgForSubject(t.Context(), "$KV."+c.names.Bucket(topology.Reservations)+"."+key); err != nil ||
		marker.Header.Get(nats.MsgTTLHdr) == "" {
		t.Errorf("its key has a marker that stays for ever: %+v, %v", marker, err)
	}
	c.limit("resize", 1)
	if again := c.open("resize"); again.Epoch <= first.Epoch || again.Marker <= first.Marker {
		t.Errorf("opened again with epoch %d after %d, marker %d after %d", again.Epoch, first.Epoch, again.Marker, first.Marker)
	}
}

// Managers that cannot hold their share are left out; a change of the ring asks them again; with nobody left it is said what is free.
func TestReservationThatDoesNotFit(t *testing.T) {
	t.Parallel()
	_, _, c := setReserved(t, "m1", "m2", "m3")
	order := subjects.NewRing(0, []string{"m1", "m2", "m3"}).Places(nil, "default", "resize", "1", 10, subjects.DefaultT, nil)
	c.change(func() { c.unable[order[0].Manager] = 2 })
	c.limit("resize", 10)
	rec := c.open("resize")
	if !slices.Equal(rec.Skip, []string{order[0].Manager}) {
		t.Fatalf("skip %v, want %v", rec.Skip, order[0].Manager)
	}
	c.change(func() {
		clear(c.unable)
		c.unable["m1"], c.unable["m2"], c.unable["m3"] = 1, 1, 1
	})
	c.limit("resize", 11)
	natstest.Eventually(t, patience, func() bool {
		rec := c.record("resize")
		return rec.Skip == nil && strings.Contains(rec.Failed, "places of 128 MB are free at 3 managers")
	}, "nobody is left")
	c.change(func() { clear(c.unable) })
	natstest.Eventually(t, patience, func() bool { return c.record("resize").Failed == "" }, "it fits after all")
}

// After a restart of the server, which takes markers, consumers and streams, every arc that the bucket calls active takes calls
// again, under the same epoch; so does one whose stream somebody deletes; a void record, as of a bucket that was put back, is
// opened anew.
func TestReservationsAfterARestart(t *testing.T) {
	t.Parallel()
	f, _, c := setReserved(t, "m1", "m2")
	const n = 5
	before := make([]*schema.ReservationRecord, n)
	for i := range before {
		c.limit(fmt.Sprint("f", i), 2)
	}
	for i := range before {
		before[i] = c.open(fmt.Sprint("f", i))
	}
	same := func(what string) {
		t.Helper()
		for i := range before {
			rec := c.open(fmt.Sprint("f", i))
			if rec.Epoch != before[i].Epoch || rec.Marker <= before[i].Marker {
				t.Errorf("%s: f%d has epoch %d after %d, marker %d after %d", what, i, rec.Epoch, before[i].Epoch, rec.Marker, before[i].Marker)
			}
			before[i] = rec
		}
	}
	f.Restart(t)
	same("after a restart")
	if err := c.js.DeleteStream(t.Context(), c.names.CallsR(0)); err != nil {
		t.Fatal(err)
	}
	same("after the stream was deleted")
	if err := c.js.DeleteConsumer(t.Context(), c.names.CallsR(0), c.names.ReservedDurable(before[0].Epoch)); err != nil {
		t.Fatal(err)
	}
	c.open("f0")
	rec := *before[1]
	rec.Epoch, rec.Marker = 1<<40, 5
	c.put(&rec)
	natstest.Eventually(t, patience, func() bool {
		rec := c.record("f1")
		return rec.Epoch > before[1].Epoch && rec.Epoch < 1<<40 && len(rec.Closing) == 0 && rec.State == schema.ReservationActive && c.takes(rec)
	}, "a void record has a new epoch")
	natstest.Eventually(t, patience, func() bool { return !c.takes(before[1]) && !c.consumer(before[1]) }, "the arc that no record names is gone")
}

func (c *crowd) put(rec *schema.ReservationRecord) {
	c.t.Helper()
	value, err := schema.Marshal(rec)
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.kv.Put(c.t.Context(), subjects.ReservationKey(rec.Account, rec.Function, rec.Version), value); err != nil {
		c.t.Fatal(err)
	}
}

func (c *crowd) consumer(rec *schema.ReservationRecord) bool {
	_, err := c.js.Consumer(c.t.Context(), c.names.CallsR(rec.Shard), c.names.ReservedDurable(rec.Epoch))
	return err == nil
}

// What no record names goes: markers and consumers at once; where calls are held, a record of its own has managers empty it first.
func TestSweeperRemovesWhatNoRecordNames(t *testing.T) {
	t.Parallel()
	_, _, c := setReserved(t, "m1", "m2")
	c.limit("resize", 1)
	kept := c.open("resize")
	lost := &schema.ReservationRecord{Account: subjects.DefaultAccount, Function: "lost", Version: "1", Epoch: 3, Shard: 0}
	if err := topology.EnsureReservedArc(t.Context(), c.js, c.names, 0, lost.Account, lost.Function, lost.Version, 3); err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{
		c.names.ReservedMarker(0, lost.Account, lost.Function, lost.Version, 3),
		c.names.ReservedCall(0, lost.Account, lost.Function, lost.Version, 3),
		c.names.ReservedMarker(0, lost.Account, "another", lost.Version, 4),
	} {
		if _, err := c.js.Publish(t.Context(), subject, nil); err != nil {
			t.Fatal(err)
		}
	}
	natstest.Eventually(t, patience, func() bool {
		rec := c.record("lost")
		return rec != nil && len(rec.Closing) == 1 && rec.Closing[0].Epoch == 3
	}, "what holds calls is in a record")
	if !c.consumer(lost) {
		t.Error("the consumer went before the calls")
	}
	if n := c.pull(0, 3); n != 1 {
		t.Errorf("%d calls were there to be taken", n)
	}
	natstest.Eventually(t, patience, func() bool { return c.record("lost") == nil && !c.consumer(lost) }, "emptied, it goes")
	s, err := c.js.Stream(t.Context(), c.names.CallsR(0))
	if err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, patience, func() bool {
		info, err := s.Info(t.Context(), jetstream.WithSubjectFilter(">"))
		return err == nil && len(info.State.Subjects) == 1 && info.State.Consumers == 1
	}, "only what the record names is left")
	if !c.takes(kept) {
		t.Error("the arc that a record names takes no calls")
	}
}
