package frontend_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// published is a function whose version 1 can be reserved.
func published(name string) *schema.FunctionRecord {
	fn := record(name)
	v := fn.Latest
	v.Version = "1"
	fn.Versions, fn.NextVersion = []schema.VersionRecord{v}, 2
	return fn
}

// one calls version 1.
func one(more ...string) nats.Header {
	h := nats.Header{schema.HeaderQualifier: {"1"}}
	for i := 0; i < len(more); i += 2 {
		h[more[i]] = []string{more[i+1]}
	}
	return h
}

// reservation is what a controller has made: a record, a stream, a consumer and a marker.
type reservation struct {
	b      *bundle
	record schema.ReservationRecord
	js     jetstream.JetStream
}

// reserve opens the reserved arc of a function's version 1, and waits until the frontend routes by it.
func (b *bundle) reserve(t testing.TB, function string, limit int) *reservation {
	t.Helper()
	r := &reservation{b: b, js: b.JetStream(t), record: schema.ReservationRecord{
		V: schema.Version, Account: subjects.DefaultAccount, Function: function, FunctionID: "id-" + function, Version: "1",
		Limit: limit, State: schema.ReservationProvisioning,
	}}
	r.record.Epoch = r.put(t)
	r.open(t)
	return r
}

// open makes stream, consumer and marker where they are missing, and has the record say so.
func (r *reservation) open(t testing.TB) {
	t.Helper()
	c := &r.record
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := topology.EnsureReservedArc(ctx, r.js, r.b.Names, c.Shard, c.Account, c.Function, c.Version, c.Epoch); err != nil {
		t.Fatal(err)
	}
	ack, err := r.js.PublishMsg(ctx, nats.NewMsg(r.marker()), jetstream.WithExpectLastSequencePerSubject(0))
	if err != nil {
		t.Fatal(err)
	}
	c.State, c.Marker = schema.ReservationActive, ack.Sequence
	r.put(t)
	r.seen(t)
}

func (r *reservation) put(t testing.TB) uint64 {
	t.Helper()
	return r.b.put(t, topology.Reservations, subjects.ReservationKey(r.record.Account, r.record.Function, r.record.Version), &r.record)
}

// seen waits until the frontend routes by the record.
func (r *reservation) seen(t testing.TB) {
	t.Helper()
	natstest.Eventually(t, patience, func() bool {
		return r.b.f.Sees(r.record.Account, r.record.Function, r.record.Version, r.record.Marker)
	}, "the frontend does not route by the record")
}

func (r *reservation) marker() string {
	c := &r.record
	return r.b.Names.ReservedMarker(c.Shard, c.Account, c.Function, c.Version, c.Epoch)
}

func (r *reservation) name() string {
	c := &r.record
	return subjects.ArcCall{
		Reserved: true, Number: c.Shard, Account: c.Account, Function: c.Function, Version: c.Version, Epoch: c.Epoch,
	}.ArcName()
}

func (r *reservation) stream() string { return r.b.Names.CallsR(r.record.Shard) }

// claimer pulls from the reserved arc, as a manager with an idle member does.
func (r *reservation) claimer(t testing.TB) *claimer {
	t.Helper()
	return r.b.claimerOf(t, r.stream(), r.b.Names.ReservedDurable(r.record.Epoch))
}

// waiting is how many calls stand in a shard, the marker aside.
func (r *reservation) waiting(t testing.TB) uint64 {
	t.Helper()
	stream, err := r.js.Stream(t.Context(), r.stream())
	if err != nil {
		t.Fatal(err)
	}
	return stream.CachedInfo().State.Msgs - 1
}

// arc is what a manager tells of the arc.
func (r *reservation) arc(ready, busy int) schema.ArcStatus {
	c := &r.record
	return schema.ArcStatus{
		Arc: r.name(), Account: c.Account, Function: c.Function, Version: c.Version, Ready: ready, Idle: ready - busy, Busy: busy,
	}
}

// teller is a manager that has members, and tells of them on the connection of the test's managers.
type teller struct {
	b      *bundle
	id     string
	mu     sync.Mutex
	status schema.ManagerStatus
}

// tells starts a manager that tells these arcs until the test ends.
func (b *bundle) tells(t testing.TB, id string, arcs ...schema.ArcStatus) *teller {
	t.Helper()
	m := &teller{b: b, id: id, status: schema.ManagerStatus{
		V: schema.Version, ID: id, Incarnation: "life-" + id, State: schema.MemberActive, Capacity: 4,
	}}
	m.tell(t, arcs...)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		ticker := time.NewTicker(50 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-stop:
				return
			case <-ticker.C:
				m.mu.Lock()
				m.publish(t, m.status)
				m.mu.Unlock()
			}
		}
	})
	t.Cleanup(func() { close(stop); wg.Wait() })
	return m
}

// tell tells these arcs, all of them, from now on; when it returns, the server has it.
func (m *teller) tell(t testing.TB, arcs ...schema.ArcStatus) {
	t.Helper()
	m.mu.Lock()
	m.status.Arcs = arcs
	m.publish(t, m.status)
	m.mu.Unlock()
	m.flush(t)
}

// change tells one arc that changed.
func (m *teller) change(t testing.TB, arc schema.ArcStatus) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.status.Arcs {
		if m.status.Arcs[i].Arc == arc.Arc {
			m.status.Arcs[i] = arc
		}
	}
	s := m.status
	s.Arcs, s.Partial = []schema.ArcStatus{arc}, true
	m.publish(t, s)
}

func (m *teller) flush(t testing.TB) {
	t.Helper()
	if err := m.b.manager.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
}

// publish is called with mu held.
func (m *teller) publish(t testing.TB, s schema.ManagerStatus) {
	m.status.Number++
	s.Number = m.status.Number
	data, err := schema.Marshal(&s)
	if err != nil {
		t.Error(err)
		return
	}
	_ = m.b.manager.Publish(m.b.Names.ManagerStatus(m.id), data) // fails while a test restarts the server
}

// run claims a call, checks its reason and its arc, and ends it.
func (c *claimer) run(t testing.TB, reason schema.Reason) {
	t.Helper()
	got := c.claim(t).ack(t)
	got.wants(t, reason)
	got.answer(t, []byte("1"), nil)
	got.end(t)
}

func (c *claim) wants(t testing.TB, reason schema.Reason) {
	t.Helper()
	reserved := reason == schema.ReasonReserved || reason == schema.ReasonSpillover
	if c.call.Reason != reason || c.arc.Reserved != reserved {
		t.Errorf("claimed from %s for reason %q, want %q", c.arc.ArcName(), c.call.Reason, reason)
	}
}

// held sends a call, has it claimed and started, and leaves it running.
func (c *claimer) held(t testing.TB, function string, reason schema.Reason) *claim {
	t.Helper()
	c.b.send(t, function, one())
	got := c.claim(t).ack(t)
	got.wants(t, reason)
	return got
}
