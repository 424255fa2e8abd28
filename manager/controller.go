package manager

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/watch"
	"github.com/hearth-run/hearth/schema"
)

// controller writes the ring (DESIGN 6). Every manager has one; it acts while it holds the lease `controller`, and every
// act is a compare-and-set, so that two of them are harmless. It opens and retires the arcs of reservations (keeper). It alone
// watches the members' leases, and judges them by their arrival on its own monotonic clock, up to the last moment at which its
// own lease arrived too: the silence of a watch says nothing of the members while the watch itself is silent. Who renews its
// lease and does not hear of it is deaf, and leaves the office to others for a while.
type controller struct {
	m     *Manager
	lease lease
	ring  jetstream.KeyValue

	keeper  atomic.Pointer[keeper] // nil without the lease
	renewed moment                 // when the lease was renewed last

	watching conc.WaitGroup
	stop     context.CancelFunc // of the watch, nil without one
	view     standing           // as the watch began
	began    time.Duration      // when it did
	away     time.Duration      // until when the office is left to others

	mu      sync.Mutex
	members map[string]seenMember // by key
	listed  bool                  // all present leases have been seen since the watch began
}

type seenMember struct {
	record  schema.MemberRecord
	arrived time.Duration
}

// standing changes when this process may have missed something: what was seen before is then listed anew, for members
// whose leases did not arrive meanwhile are not dead by that.
type standing struct{ reconnects, gaps uint64 }

func (m *Manager) standing() standing { return standing{m.reconnects(), m.pulse.gaps.Load()} }

// step renews or tries for the lease, and writes the ring if it is not as the members are. It belongs to the member loop.
func (c *controller) step(ctx context.Context) {
	if c.stop != nil && c.view != c.m.standing() {
		c.resign()
	}
	if c.deaf() {
		c.m.log.Warn("the watch of the members says nothing: another manager may be the controller", "manager", c.m.cfg.ID)
		c.resign()
		if err := c.giveUp(ctx); err != nil && ctx.Err() == nil {
			c.m.log.Warn("give the controller's lease up", "error", err)
		}
		c.away = c.m.now() + awayFor + c.m.jitter(awayFor)
	}
	if c.m.now() < c.away {
		return
	}
	value, err := schema.Marshal(schema.LeaseRecord{V: schema.Version, Holder: c.m.cfg.ID, Incarnation: c.m.incarnation})
	if err != nil {
		c.m.log.Error("take the controller's lease", "error", err)
		return
	}
	asked := c.m.now()
	held, err := c.lease.put(ctx, value)
	if err == nil && held {
		c.renewed.set(asked)
	}
	switch {
	case err != nil:
		if ctx.Err() == nil {
			c.m.log.Debug("take the controller's lease", "error", err)
		}
	case !held:
		c.resign()
	case c.stop == nil:
		c.m.log.Info("controller", "manager", c.m.cfg.ID)
		ctx, c.stop = context.WithCancel(ctx)
		standing := c.m.standing()
		c.view, c.began = standing, c.m.now()
		k := newKeeper(c.m)
		c.keeper.Store(k)
		c.watching.Go(func() { c.watch(ctx, standing) })
		c.watching.Go(func() { k.run(ctx) })
	default:
		c.write(ctx, c.view)
	}
}

// awayFor is the least time for which a deaf controller lets others try.
const awayFor = 2 * topology.LeaseTTL

// deaf reports whether this manager's lease is renewed and the watch does not show it.
func (c *controller) deaf() bool {
	if c.stop == nil {
		return false
	}
	c.mu.Lock()
	heard := max(c.began, c.members[c.m.lease.key].arrived)
	c.mu.Unlock()
	now := c.m.now()
	return now-heard > 2*topology.LeaseTTL && now-c.m.renewed.get() < 2*leaseEvery
}

// giveUp ends the lease before its time.
func (c *controller) giveUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, leaseCall, errors.New("giving a lease up"))
	defer cancel()
	return c.lease.drop(ctx)
}

// ownRecord reports whether the controller's lease in this value is this manager's.
func (c *controller) ownRecord(b []byte) bool {
	var rec schema.LeaseRecord
	return schema.Unmarshal(b, &rec) == nil && rec.Incarnation == c.m.incarnation
}

// resign stops to watch the members and to work the reservations. What is on its way is cut off: it may be repeated.
func (c *controller) resign() {
	if c.stop != nil {
		c.keeper.Store(nil)
		c.stop()
		c.watching.Wait()
		c.stop = nil
	}
}

// stirred hears that managers tell something else of reserved arcs, turned that the ring may be another.
func (c *controller) stirred(arcs []string) {
	if k := c.keeper.Load(); k != nil && len(arcs) > 0 {
		k.stirred(arcs)
	}
}

func (c *controller) turned(v *view) {
	if k := c.keeper.Load(); k != nil {
		k.turned(v)
	}
}

// moment is a moment of the own clock that several goroutines look at.
type moment struct{ at atomic.Int64 }

func (m *moment) set(at time.Duration) { m.at.Store(int64(at)) }
func (m *moment) get() time.Duration   { return time.Duration(m.at.Load()) }

// watch hears of the members' leases until its context ends, beginning again where the watch breaks.
func (c *controller) watch(ctx context.Context, since standing) {
	for ctx.Err() == nil {
		c.mu.Lock()
		c.members, c.listed = make(map[string]seenMember), false
		c.mu.Unlock()
		if err := c.listen(ctx, since); err != nil && ctx.Err() == nil {
			c.m.log.Warn("watch the members", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(leaseEvery/2 + c.m.jitter(leaseEvery/2)):
			}
		}
	}
}

func (c *controller) listen(ctx context.Context, since standing) error {
	ctx, cancel := context.WithCancel(ctx)
	w, err := c.lease.kv.Watch(ctx, schema.MemberPrefix+">")
	if err != nil {
		cancel()
		return fmt.Errorf("watch bucket members: %w", err)
	}
	defer watch.Leave(w, cancel) // whoever resigns does so between two renewals of its lease
	for {
		select {
		case <-ctx.Done():
			return nil
		case entry, ok := <-w.Updates():
			if !ok {
				return errors.New("the watch ended")
			}
			c.see(entry)
			if len(w.Updates()) == 0 {
				c.write(ctx, since)
			}
		}
	}
}

// see takes one entry of the watch; nil says that all present ones were told.
func (c *controller) see(entry jetstream.KeyValueEntry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if entry == nil {
		c.listed = true
		return
	}
	if entry.Operation() != jetstream.KeyValuePut {
		delete(c.members, entry.Key())
		return
	}
	var rec schema.MemberRecord
	if err := schema.Unmarshal(entry.Value(), &rec); err != nil || memberKey(rec.ID) != entry.Key() {
		c.m.log.Warn("read a member's lease", "key", entry.Key(), "error", err)
		return
	}
	c.members[entry.Key()] = seenMember{rec, c.m.now()}
}

// live are the members whose lease arrived within its time before this manager's own did last: those on the ring and those that
// leave, sorted. Not ok where that cannot be told.
func (c *controller) live() (members, leaving []string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	own, ok := c.members[c.m.lease.key]
	if !ok || !c.listed {
		return nil, nil, false
	}
	for _, s := range c.members {
		switch {
		case own.arrived-s.arrived > topology.LeaseTTL+leaseEvery/2:
		case s.record.State == schema.MemberDraining:
			leaving = append(leaving, s.record.ID)
		case s.record.State == schema.MemberActive:
			members = append(members, s.record.ID)
		}
	}
	slices.Sort(members)
	slices.Sort(leaving)
	return members, leaving, true
}

// write makes the key ring say who is there, if it does not and nothing was missed since the watch began.
func (c *controller) write(ctx context.Context, since standing) {
	members, leaving, ok := c.live()
	if !ok || since != c.m.standing() || c.m.pulse.late(c.m.now()) {
		return
	}
	ctx, cancel := context.WithTimeoutCause(ctx, leaseCall, errors.New("writing the ring"))
	defer cancel()
	var was schema.RingRecord
	entry, err := c.ring.Get(ctx, schema.RingKey)
	switch {
	case err == nil:
		if err := schema.Unmarshal(entry.Value(), &was); err != nil {
			c.m.log.Error("read the ring", "error", err)
			return
		}
		if slices.Equal(was.Members, members) && slices.Equal(was.Leaving, leaving) {
			return
		}
	case !errors.Is(err, jetstream.ErrKeyNotFound):
		if ctx.Err() == nil {
			c.m.log.Warn("read the ring", "error", err)
		}
		return
	}
	next := schema.RingRecord{V: schema.Version, Epoch: was.Epoch + 1, Members: members, Leaving: leaving}
	value, err := schema.Marshal(next)
	if err != nil {
		c.m.log.Error("write the ring", "error", err)
		return
	}
	if entry == nil {
		_, err = c.ring.Create(ctx, schema.RingKey, value)
	} else {
		_, err = c.ring.Update(ctx, schema.RingKey, value, entry.Revision())
	}
	switch {
	case err == nil:
		c.m.log.Info("ring", "epoch", next.Epoch, "members", next.Members, "leaving", next.Leaving)
	case !errors.Is(err, jetstream.ErrKeyExists) && ctx.Err() == nil:
		c.m.log.Warn("write the ring", "error", err)
	}
}
