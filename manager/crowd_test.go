package manager_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/internal/watch"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// crowd is managers that hold members and do nothing else: they renew their leases and tell, for every opening of every
// reservation, what a manager would that makes its members at once.
type crowd struct {
	t       testing.TB
	nc      *nats.Conn
	js      jetstream.JetStream
	names   subjects.Names
	kv      jetstream.KeyValue // reservations
	members jetstream.KeyValue
	cache   *watch.Cache[schema.ReservationRecord]
	kick    chan struct{}

	mu      sync.Mutex
	ids     []string
	leaving map[string]bool
	gone    map[string]bool
	unable  map[string]int    // by manager: how many members it can hold
	failed  map[string]string // by manager
	hold    map[string]int    // by manager: members that stay busy, whatever the share
	number  uint64
}

func newCrowd(t testing.TB, f *natstest.Fabric, ids ...string) *crowd {
	t.Helper()
	nc := f.Connect(t)
	js := natstest.JetStream(t, nc)
	c := &crowd{
		t: t, nc: nc, js: js, names: f.Names, ids: ids, kick: make(chan struct{}, 1), leaving: map[string]bool{}, gone: map[string]bool{},
		unable: map[string]int{}, failed: map[string]string{}, hold: map[string]int{},
	}
	for kind, kv := range map[string]*jetstream.KeyValue{topology.Reservations: &c.kv, topology.Members: &c.members} {
		var err error
		if *kv, err = js.KeyValue(t.Context(), f.Names.Bucket(kind)); err != nil {
			t.Fatal(err)
		}
	}
	c.cache = watch.New(nc, c.kv, ">", func(b []byte) (rec schema.ReservationRecord, err error) {
		return rec, schema.Unmarshal(b, &rec)
	}, nil)
	c.cache.OnChange(func(string, schema.ReservationRecord, uint64, bool) { c.change(func() {}) })
	if err := c.cache.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var loops sync.WaitGroup
	loops.Go(func() { c.run(ctx) })
	t.Cleanup(func() { cancel(); loops.Wait(); c.cache.Stop() })
	return c
}

// change changes what the crowd does, and has it told.
func (c *crowd) change(do func()) {
	c.mu.Lock()
	do()
	c.mu.Unlock()
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

func (c *crowd) run(ctx context.Context) {
	renew, tell := time.NewTicker(500*time.Millisecond), time.NewTicker(200*time.Millisecond)
	defer renew.Stop()
	defer tell.Stop()
	c.renew(ctx)
	for {
		c.tell(ctx)
		select {
		case <-ctx.Done():
			return
		case <-renew.C:
			c.renew(ctx)
		case <-tell.C:
		case <-c.kick: // changes wait for others
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
}

func (c *crowd) renew(ctx context.Context) {
	for _, id := range c.living() {
		state := schema.MemberActive
		if c.leaves(id) {
			state = schema.MemberDraining
		}
		value, err := schema.Marshal(schema.MemberRecord{V: schema.Version, ID: id, Incarnation: id, State: state, Capacity: 100, Reads: 1})
		if err != nil {
			c.t.Error(err)
		}
		once, cancel := context.WithTimeout(ctx, time.Second)
		_, _ = c.members.Put(once, schema.MemberPrefix+subjects.Escape(id), value) // the server may be restarting
		cancel()
	}
}

func (c *crowd) living() (ids []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range c.ids {
		if !c.gone[id] {
			ids = append(ids, id)
		}
	}
	return ids
}

func (c *crowd) leaves(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leaving[id]
}

// tell tells every manager's status.
func (c *crowd) tell(ctx context.Context) {
	var staying []string
	living := c.living()
	for _, id := range living {
		if !c.leaves(id) {
			staying = append(staying, id)
		}
	}
	ring := subjects.NewRing(0, staying)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range living {
		c.number++
		s := schema.ManagerStatus{V: schema.Version, ID: id, Incarnation: id, Number: c.number, State: schema.MemberActive, Room: 3, Capacity: 100}
		c.cache.Range(func(_ string, rec schema.ReservationRecord, _ uint64) bool {
			s.Arcs = append(s.Arcs, c.arcs(id, ring, &rec)...)
			return true
		})
		body, err := schema.Marshal(s)
		if err != nil {
			c.t.Error(err)
			return
		}
		_ = c.nc.Publish(c.names.ManagerStatus(id), body) // the server may be restarting
	}
}

// arcs are what a manager has of a reservation. The mutex is held.
func (c *crowd) arcs(id string, ring *subjects.Ring, rec *schema.ReservationRecord) (all []schema.ArcStatus) {
	arc := func(epoch uint64, shard int) schema.ArcStatus {
		name := subjects.ArcCall{
			Reserved: true, Number: shard, Account: rec.Account, Function: rec.Function, Version: rec.Version, Epoch: epoch,
		}.ArcName()
		return schema.ArcStatus{Arc: name, Account: rec.Account, Function: rec.Function, Version: rec.Version}
	}
	if rec.Epoch != 0 {
		a := arc(rec.Epoch, rec.Shard)
		for _, p := range ring.Places(nil, rec.Account, rec.Function, rec.Version, rec.Limit, subjects.DefaultT, rec.Skip) {
			if p.Manager == id {
				a.Share = p.Share
			}
		}
		a.Ready, a.Busy = max(a.Share, c.hold[id]), c.hold[id]
		if most, ok := c.unable[id]; ok && a.Share > most {
			a.Ready, a.Unable = most, true
		}
		if a.Failed = c.failed[id]; a.Failed != "" && a.Share > 0 {
			a.Ready = 0
		}
		a.Idle = a.Ready - min(a.Ready, a.Busy)
		if a.Share > 0 || a.Ready > 0 {
			all = append(all, a)
		}
	}
	for _, closing := range rec.Closing {
		if n := c.hold[id]; n > 0 {
			a := arc(closing.Epoch, closing.Shard)
			a.Ready, a.Busy = n, n
			all = append(all, a)
		}
	}
	return all
}

// limit does what a control handler does with a limit: it writes nothing else.
func (c *crowd) limit(function string, limit int) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	key := subjects.ReservationKey(subjects.DefaultAccount, function, "1")
	for ctx.Err() == nil {
		rec := schema.ReservationRecord{
			V: schema.Version, Account: subjects.DefaultAccount, Function: function, FunctionID: "id-" + function, Version: "1",
			State: schema.ReservationProvisioning,
		}
		entry, err := c.kv.Get(ctx, key)
		if err == nil {
			if err := schema.Unmarshal(entry.Value(), &rec); err != nil {
				c.t.Fatal(err)
			}
		} else if limit == 0 {
			return
		}
		rec.Limit = limit
		value, merr := schema.Marshal(rec)
		if merr != nil {
			c.t.Fatal(merr)
		}
		if err == nil {
			_, err = c.kv.Update(ctx, key, value, entry.Revision())
		} else {
			_, err = c.kv.Create(ctx, key, value)
		}
		if err == nil {
			return
		}
	}
	c.t.Fatalf("write limit %d of %s: %v", limit, function, ctx.Err())
}

// record is a reservation as the bucket has it; nil if there is none.
func (c *crowd) record(function string) *schema.ReservationRecord {
	entry, err := c.kv.Get(c.t.Context(), subjects.ReservationKey(subjects.DefaultAccount, function, "1"))
	if err != nil {
		return nil
	}
	var rec schema.ReservationRecord
	if err := schema.Unmarshal(entry.Value(), &rec); err != nil {
		c.t.Fatal(err)
	}
	return &rec
}

// open waits until a reservation is active and its arc takes calls: the marker stands as the record names it, the consumer is there.
func (c *crowd) open(function string) (rec *schema.ReservationRecord) {
	c.t.Helper()
	natstest.Eventually(c.t, patience, func() bool {
		rec = c.record(function)
		return rec != nil && rec.State == schema.ReservationActive && rec.Marker != 0 && c.takes(rec)
	}, function+" is open")
	return rec
}

// takes reports whether the arc of a record takes calls.
func (c *crowd) takes(rec *schema.ReservationRecord) bool {
	s, err := c.js.Stream(c.t.Context(), c.names.CallsR(rec.Shard))
	if err != nil {
		return false
	}
	msg, err := s.GetLastMsgForSubject(c.t.Context(), c.names.ReservedMarker(rec.Shard, rec.Account, rec.Function, rec.Version, rec.Epoch))
	if err != nil || msg.Sequence != rec.Marker {
		return false
	}
	consumer, err := s.Consumer(c.t.Context(), c.names.ReservedDurable(rec.Epoch))
	return err == nil &&
		consumer.CachedInfo().Config.FilterSubject == c.names.ReservedCall(rec.Shard, rec.Account, rec.Function, rec.Version, rec.Epoch)
}

// clean waits until nothing of any reservation is left: no key, no stream of a shard.
func (c *crowd) clean() {
	c.t.Helper()
	left := ""
	defer func() {
		if c.t.Failed() {
			c.t.Log(left)
		}
	}()
	natstest.Eventually(c.t, patience, func() bool {
		if keys, err := c.kv.Keys(c.t.Context()); err == nil && len(keys) > 0 {
			left = fmt.Sprint("keys ", keys)
			return false
		}
		for shard := range subjects.MaxShards {
			if s, err := c.js.Stream(c.t.Context(), c.names.CallsR(shard)); err == nil {
				info, err := s.Info(c.t.Context(), jetstream.WithSubjectFilter(">"))
				left = fmt.Sprintf("stream of shard %d: %v", shard, err)
				if err == nil {
					left = fmt.Sprintf("stream of shard %d: %+v", shard, info.State)
				}
				return false
			}
		}
		return true
	}, "every key and every stream of a shard is gone")
}

// aside starts a manager that is off the ring: it may be the controller, and has no members.
func aside(t testing.TB, f *natstest.Fabric, id string) *node {
	t.Helper()
	n := startNode(t, f, f.Connect(t), id)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := n.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	return n
}

// onRing waits until the ring holds exactly these.
func (c *crowd) onRing(ids ...string) {
	c.t.Helper()
	slices.Sort(ids)
	kv, err := c.js.KeyValue(c.t.Context(), c.names.Bucket(topology.Ring))
	if err != nil {
		c.t.Fatal(err)
	}
	natstest.Eventually(c.t, patience, func() bool {
		entry, err := kv.Get(c.t.Context(), schema.RingKey)
		var ring schema.RingRecord
		return err == nil && schema.Unmarshal(entry.Value(), &ring) == nil && slices.Equal(ring.Members, ids)
	}, "the managers are on the ring")
}
