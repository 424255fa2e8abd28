package manager_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// From the record that a door writes to its key's end: members are offered when the controller has opened the arc, calls meet
// them, and with the arc everything that was open on it goes.
func TestReservationOpensAndEnds(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	var nodes []*node
	for _, id := range ids(3) {
		nodes = append(nodes, startNode(t, f, f.Connect(t), id, set("reclaim", "100ms")))
	}
	c := newCaller(t, f, "f1")
	settled(t, c, nodes)
	key := c.deployReserved("resize")
	kv, at := c.bucket(topology.Reservations), subjects.ReservationKey(subjects.DefaultAccount, "resize", "1")
	r := &reservation{caller: c, key: key, nodes: nodes, rec: reservationOf(key)}
	r.rec.State = schema.ReservationProvisioning
	value, err := schema.Marshal(r.rec)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Create(t.Context(), at, value); err != nil {
		t.Fatal(err)
	}
	var revision uint64
	natstest.Eventually(t, patience, func() bool {
		entry, err := kv.Get(t.Context(), at)
		if err != nil {
			return false
		}
		revision = entry.Revision()
		return schema.Unmarshal(entry.Value(), &r.rec) == nil && r.rec.State == schema.ReservationActive
	}, "the arc is open")
	name := r.arc().ArcName()
	natstest.Eventually(t, patience, func() bool {
		idle := 0
		for _, n := range nodes {
			if n.Class(name) < subjects.ClassReservedStranger {
				idle++
			}
		}
		return idle == 2
	}, "two managers offer their members")
	for _, n := range nodes {
		for _, e := range n.worker.bindings() {
			if !e.binding.Reserved {
				t.Error("a member's function is not told that it is one")
			}
		}
	}
	a := r.listen()
	for range 8 {
		r.publishReserved(r.reserved(a.inbox))
		if msg := a.want(1)[0]; start(msg) != schema.StartWarm || msg.Header.Get(schema.HeaderArc) != name ||
			msg.Header.Get(schema.HeaderRank) == fmt.Sprint(subjects.OffArc) {
			t.Errorf("%v", msg.Header)
		}
	}
	r.rec.Limit = 0
	if value, err = schema.Marshal(r.rec); err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Update(t.Context(), at, value, revision); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, patience, func() bool {
		_, err := kv.Get(t.Context(), at)
		open := 0
		for _, n := range nodes {
			open += n.Offers(name)
		}
		return errors.Is(err, jetstream.ErrKeyNotFound) && open == 0
	}, "the reservation is gone, and all that was offered on its arc")
}

// A closed loop with as many callers as members stays on the reserved arc, but for few (S59).
func TestClosedLoopAtTheLimit(t *testing.T) {
	t.Parallel()
	r := reserve(t, natstest.Start(t), 2)
	const callers = 10
	calls := natstest.Fewer(200, 100)
	r.members(callers/2, callers/2)
	cold := r.sum(func(n *node) int64 { return n.Counters().Cold })
	var wg sync.WaitGroup
	failed := make(chan error, callers)
	for range callers {
		a := r.listen()
		wg.Go(func() {
			for range calls {
				call := r.reserved(a.inbox)
				if err := r.tryPublish(call); err != nil {
					failed <- err
					return
				}
				msg, err := a.sub.NextMsg(patience)
				if err == nil && string(msg.Data) != string(call.Payload) {
					err = fmt.Errorf("answered %q, want %q", msg.Data, call.Payload)
				}
				if err != nil {
					failed <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(failed)
	for err := range failed {
		t.Error(err)
	}
	caught := r.sum(func(n *node) int64 { return n.Counters().Caught })
	t.Logf("%d calls: %d caught, %d moved, %d given back", callers*calls, caught, r.sum(moved), r.sum(func(n *node) int64 { return n.Counters().Nacks }))
	if n := r.sum(moved); n > int64(callers*calls/100) {
		t.Errorf("%d of %d calls were moved", n, callers*calls)
	}
	if n := r.sum(func(n *node) int64 { return n.Counters().Cold }) - cold; n > r.sum(moved) {
		t.Errorf("%d cold starts", n)
	}
	natstest.Eventually(t, patience, func() bool { return r.waits() == 0 }, "no call is left")
}
