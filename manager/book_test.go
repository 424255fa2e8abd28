package manager_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/manager"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// publishVersion gives a function its version 1, as the control handlers do.
func publishVersion(rec *schema.FunctionRecord) {
	v := rec.Latest
	v.Version = "1"
	rec.Versions = []schema.VersionRecord{v}
}

// book is the records of reservations as frontends and the controller write them.
type book struct {
	*caller
	shares *statuses
}

// statuses hears what managers tell.
type statuses struct {
	mu   sync.Mutex
	last map[string]schema.ManagerStatus
	arcs map[string]map[string]schema.ArcStatus // by manager and arc, partial ones laid over whole ones
	bad  []string                               // what came out of order
	part int
}

func newBook(t testing.TB, f *natstest.Fabric) *book {
	t.Helper()
	b := &book{caller: newCaller(t, f, "f1"), shares: &statuses{
		last: make(map[string]schema.ManagerStatus), arcs: make(map[string]map[string]schema.ArcStatus),
	}}
	if _, err := b.nc.Subscribe(b.names.ManagerStatuses(), b.shares.hear); err != nil {
		t.Fatal(err)
	}
	if err := b.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return b
}

func (s *statuses) hear(msg *nats.Msg) {
	var m schema.ManagerStatus
	if err := schema.Unmarshal(msg.Data, &m); err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if was := s.last[m.ID]; was.Incarnation == m.Incarnation && m.Number <= was.Number {
		s.bad = append(s.bad, fmt.Sprintf("%s: %d after %d", m.ID, m.Number, was.Number))
	}
	s.last[m.ID] = m
	if s.arcs[m.ID] == nil || !m.Partial {
		s.arcs[m.ID] = make(map[string]schema.ArcStatus)
	}
	if m.Partial {
		s.part++
	}
	for _, a := range m.Arcs {
		s.arcs[m.ID][a.Arc] = a
	}
}

// told is what a manager last told of an arc.
func (b *book) told(id, arc string) schema.ArcStatus {
	b.shares.mu.Lock()
	defer b.shares.mu.Unlock()
	return b.shares.arcs[id][arc]
}

// sum is the ready members of an arc over all managers.
func (b *book) sum(arc string) int {
	b.shares.mu.Lock()
	defer b.shares.mu.Unlock()
	n := 0
	for _, arcs := range b.shares.arcs {
		n += arcs[arc].Ready
	}
	return n
}

// write stores a record, and gives the name of its arc.
func (b *book) write(name string, limit int, state schema.ReservationState, change ...func(*schema.ReservationRecord)) string {
	b.t.Helper()
	rec := schema.ReservationRecord{
		V: schema.Version, Account: subjects.DefaultAccount, Function: name, FunctionID: "id-" + name, Version: "1", Limit: limit,
		State: state, Epoch: 5, Marker: 9, Updated: time.Unix(0, 0),
	}
	for _, f := range change {
		f(&rec)
	}
	kv, err := b.js.KeyValue(b.t.Context(), b.names.Bucket(topology.Reservations))
	if err != nil {
		b.t.Fatal(err)
	}
	value, err := schema.Marshal(rec)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := kv.Put(b.t.Context(), subjects.ReservationKey(rec.Account, rec.Function, rec.Version), value); err != nil {
		b.t.Fatal(err)
	}
	return arcOf(name, rec.Epoch)
}

func arcOf(name string, epoch uint64) string {
	return subjects.ArcCall{Reserved: true, Account: subjects.DefaultAccount, Function: name, Version: "1", Epoch: epoch}.ArcName()
}

// remove deletes a record, as the controller does at the end.
func (b *book) remove(name string) {
	b.t.Helper()
	kv, err := b.js.KeyValue(b.t.Context(), b.names.Bucket(topology.Reservations))
	if err == nil {
		err = kv.Delete(b.t.Context(), subjects.ReservationKey(subjects.DefaultAccount, name, "1"))
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// rule takes the controller's lease for the test, before there is a manager, so that the ring and the records are what it writes.
func (b *book) rule(ids ...string) {
	b.t.Helper()
	value, err := schema.Marshal(schema.LeaseRecord{V: schema.Version, Holder: "test", Incarnation: "test"})
	if err != nil {
		b.t.Fatal(err)
	}
	kv, err := b.js.KeyValue(b.t.Context(), b.names.Bucket(topology.Members))
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var keeping sync.WaitGroup
	b.t.Cleanup(func() { stop(); keeping.Wait() })
	if _, err := kv.Put(ctx, schema.ControllerKey, value); err != nil {
		b.t.Fatal(err)
	}
	keeping.Go(func() {
		tick := time.NewTicker(topology.LeaseTTL / 8)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				_, _ = kv.Put(ctx, schema.ControllerKey, value) // the ring would show it, if somebody else took it
			}
		}
	})
	b.setRing(1, ids...)
}

func (b *book) setRing(epoch uint64, ids ...string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience) // that of the test has ended when it cleans up
	defer cancel()
	kv, err := b.js.KeyValue(ctx, b.names.Bucket(topology.Ring))
	if err != nil {
		b.t.Fatal(err)
	}
	value, err := schema.Marshal(schema.RingRecord{V: schema.Version, Epoch: epoch, Members: ids})
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := kv.Put(ctx, schema.RingKey, value); err != nil {
		b.t.Fatal(err)
	}
}

// start starts a manager that does not wait, at the end of the test, for others to take its members over.
func (b *book) start(f *natstest.Fabric, id string, settings ...setting) *node {
	n := startNode(b.t, f, f.Connect(b.t), id, settings...)
	b.t.Cleanup(func() { b.setRing(1 << 40) })
	return n
}

// version1 gives the key of a function that was published.
func (b *book) version1(name string) schema.Key {
	key := b.deploy(name, publishVersion)
	key.Version = "1"
	return key
}

// run has a member of a manager run a call, if there is one that can, and gives where the answer comes.
func (b *book) run(n *node, name string, key schema.Key, reply string) bool {
	call := b.call(name, key, reply)
	call.Version, call.Reason = "1", schema.ReasonReserved
	return n.RunMember(b.names.ReservedCall(0, call.Account, call.Function, "1", 5), call)
}

// hearken is listen for answers to what is not published.
func (b *book) hearken() *answers {
	a := b.listen()
	if err := b.nc.Flush(); err != nil {
		b.t.Fatal(err)
	}
	return a
}

// loop makes calls one after the other, in members alone, until stop is closed, and counts those that found none.
func (b *book) loop(n *node, name string, key schema.Key, stop <-chan struct{}, refused *atomic.Int64) error {
	inbox := b.nc.NewInbox()
	sub, err := b.nc.SubscribeSync(inbox)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := b.nc.Flush(); err != nil { // the answers do not come by this connection's own calls
		return err
	}
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		if !b.run(n, name, key, inbox) {
			refused.Add(1)
			return nil
		}
		if _, err := sub.NextMsg(patience); err != nil {
			return err
		}
	}
}

func quickly(c *manager.Config, _ *echoWorker) {
	c.Fabric = schema.DefaultFabric()
	c.Fabric.T, c.Fabric.Reclaim = 5, 400*time.Millisecond
}

// barrier has calls run at the same time: so many, round by round, until it is opened.
type barrier struct {
	mu   sync.Mutex
	n    int
	here int
	next chan struct{}
	open bool

	rounds atomic.Int64
}

func (b *barrier) pass(*schema.Run) {
	b.mu.Lock()
	if b.next == nil {
		b.next = make(chan struct{})
	}
	next := b.next
	if b.here++; b.open || b.here == b.n {
		b.here, b.next = 0, nil
		b.rounds.Add(1)
		close(next)
	}
	b.mu.Unlock()
	<-next
}

func (b *barrier) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open = true; b.next != nil {
		close(b.next)
		b.here, b.next = 0, nil
	}
}
