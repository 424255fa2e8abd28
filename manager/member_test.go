package manager_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/lifecycle"
	"github.com/hearth-run/hearth/internal/lifecycle/lifecycletest"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/manager"
	"github.com/hearth-run/hearth/schema"
)

// ring reads the key ring.
func (c *caller) ring() schema.RingRecord {
	c.t.Helper()
	kv := c.bucket(topology.Ring)
	entry, err := kv.Get(c.t.Context(), schema.RingKey)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return schema.RingRecord{}
	}
	if err != nil {
		c.t.Fatal(err)
	}
	var rec schema.RingRecord
	if err := schema.Unmarshal(entry.Value(), &rec); err != nil {
		c.t.Fatal(err)
	}
	return rec
}

func (c *caller) bucket(kind string) jetstream.KeyValue {
	c.t.Helper()
	kv, err := c.js.KeyValue(c.t.Context(), c.names.Bucket(kind))
	if err != nil {
		c.t.Fatal(err)
	}
	return kv
}

func (c *caller) holds(ids ...string) func() bool {
	return func() bool { return slices.Equal(c.ring().Members, ids) }
}

// A manager whose connection dies leaves the ring, whether it was the controller or not; one that stops leaves at once.
func TestRingFollowsMembers(t *testing.T) {
	t.Parallel()
	for _, controller := range []bool{false, true} {
		t.Run(fmt.Sprintf("controller dies %v", controller), func(t *testing.T) {
			t.Parallel()
			f := natstest.Start(t)
			c := newCaller(t, f, "f1")
			nodes := map[string]*node{}
			for _, id := range []string{"m1", "m2", "m3"} {
				nodes[id] = startNode(t, f, f.Connect(t), id)
			}
			natstest.Eventually(t, patience, c.holds("m1", "m2", "m3"), "the ring holds all three")
			epoch := c.ring().Epoch
			// The first to start took the controller's lease.
			dies, stays := "m2", []string{"m1", "m3"}
			if controller {
				dies, stays = "m1", []string{"m2", "m3"}
			}
			nodes[dies].nc.Close()
			natstest.Eventually(t, patience, c.holds(stays...), "the ring is without it")
			if c.ring().Epoch <= epoch {
				t.Errorf("epoch %d after %d", c.ring().Epoch, epoch)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := nodes[stays[0]].Stop(ctx); err != nil {
				t.Fatal(err)
			}
			natstest.Eventually(t, patience, c.holds(stays[1]), "the ring is without the one that stopped")
			key := c.deploy("resize")
			if got := c.invoke("resize", key).Header.Get(schema.HeaderManager); got != stays[1] {
				t.Errorf("a call ran at %s", got)
			}
		})
	}
}

// rings tells of every ring that is written from now on, as far as one is not written over before it is told.
func (c *caller) rings() func() []schema.RingRecord {
	c.t.Helper()
	w, err := c.bucket(topology.Ring).Watch(c.t.Context(), schema.RingKey)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = w.Stop() })
	return func() (all []schema.RingRecord) {
		for {
			select {
			case entry := <-w.Updates():
				if entry == nil {
					continue // all that was there before
				}
				var rec schema.RingRecord
				if err := schema.Unmarshal(entry.Value(), &rec); err != nil {
					c.t.Fatal(err)
				}
				all = append(all, rec)
			default:
				return all
			}
		}
	}
}

// Two controllers are harmless: every act is a compare-and-set towards the same ring, so that none is done twice.
func TestTwoControllers(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	c := newCaller(t, f, "f1")
	nodes := []*node{startNode(t, f, f.Connect(t), "m1"), startNode(t, f, f.Connect(t), "m2")}
	natstest.Eventually(t, patience, c.holds("m1", "m2"), "the ring holds both")
	natstest.Eventually(t, patience, func() bool { return nodes[0].Holding() }, "the first is the controller")
	written := c.rings()
	// The lease is torn out of its holder's hands until the other takes it.
	kv := c.bucket(topology.Members)
	natstest.Eventually(t, patience, func() bool {
		if err := kv.Delete(t.Context(), schema.ControllerKey); err != nil {
			t.Fatal(err)
		}
		return nodes[1].Holding()
	}, "the second becomes controller too")
	startNode(t, f, f.Connect(t), "m3")
	var all []schema.RingRecord
	natstest.Eventually(t, patience, func() bool {
		all = append(all, written()...)
		return len(all) > 0 && slices.Equal(all[len(all)-1].Members, []string{"m1", "m2", "m3"})
	}, "the ring holds all three")
	for i := range all[1:] {
		was, is := all[i], all[i+1]
		if is.Epoch == was.Epoch+1 && slices.Equal(is.Members, was.Members) && slices.Equal(is.Leaving, was.Leaving) {
			t.Errorf("ring %+v was written twice", is)
		}
	}
}

// The id of a live manager is refused to another; that of a dead one is not.
func TestHeldID(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for try := 1; ; try++ {
		f := natstest.Start(t)
		first := startNode(t, f, f.Connect(t), "m1")
		second := newNode(t, f, f.Connect(t), "m1")
		err := second.Start(ctx)
		if err == nil && try < 5 {
			continue // the first did not come to renew its lease for 2 s: this machine is busy with other things
		}
		if schema.CodeOf(err) != schema.CodeConflict {
			t.Fatalf("a second holder of a live id: %v, want %s", err, schema.CodeConflict)
		}
		first.nc.Close()
		third := newNode(t, f, f.Connect(t), "m1")
		if err := third.Start(ctx); err != nil {
			t.Fatalf("after the holder died: %v", err)
		}
		return
	}
}

// A manager whose id another has taken meanwhile offers nothing.
func TestFenced(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	c := newCaller(t, f, "f1")
	n := startNode(t, f, f.Connect(t), "m1")
	key := c.deploy("resize")
	c.invoke("resize", key)
	b, err := schema.Marshal(schema.MemberRecord{V: schema.Version, ID: "m1", Incarnation: "other", State: schema.MemberActive})
	if err != nil {
		t.Fatal(err)
	}
	kv := c.bucket(topology.Members)
	free := func() bool {
		for nn := range c.arcs {
			if c.waitingPulls(nn) > 0 {
				return false
			}
		}
		return true
	}
	natstest.Eventually(t, patience, func() bool {
		if _, err := kv.Put(t.Context(), schema.MemberPrefix+"m1", b); err != nil {
			t.Fatal(err)
		}
		return free()
	}, "the manager offers nothing while another holds its id")
	// The other's lease ends, and the manager serves again.
	if msg := c.invoke("resize", key); msg.Header.Get(schema.HeaderManager) != n.ID() {
		t.Errorf("the call ran at %q", msg.Header.Get(schema.HeaderManager))
	}
}

// A node whose explicit flags differ from the fabric's numbers is refused with both values; one that asks for nothing
// takes what there is.
func TestFabricNumbers(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	startNode(t, f, f.Connect(t), "m1", func(c *manager.Config, _ *echoWorker) {
		c.FabricSet = map[string]string{"arcs": "8", "t": "5"}
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	other := newNode(t, f, f.Connect(t), "m2", func(c *manager.Config, _ *echoWorker) {
		c.FabricSet = map[string]string{"arcs": "16", "t": "5"}
	})
	err := other.Start(ctx)
	if schema.CodeOf(err) != schema.CodeConflict {
		t.Fatalf("other numbers: %v, want %s", err, schema.CodeConflict)
	}
	var e *schema.Error
	if !errors.As(err, &e) || e.Message != "arcs: this node asks for 16, the fabric has 8; leave the flag out, or change the "+
		"fabric with `hearth fabric set`" {
		t.Errorf("message %q, want both values of arcs and nothing else", e.Message)
	}
	startNode(t, f, f.Connect(t), "m3")
}

// All managers of a fabric hold one key for variables.
func TestSealKey(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	seal := func(id string) setting {
		return func(c *manager.Config, _ *echoWorker) {
			c.Seal = &schema.SealKeyRecord{V: schema.Version, KeyID: id, Public: make([]byte, 32)}
		}
	}
	startNode(t, f, f.Connect(t), "m1", seal("one"))
	startNode(t, f, f.Connect(t), "m2", seal("one"))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := newNode(t, f, f.Connect(t), "m3", seal("two")).Start(ctx); schema.CodeOf(err) != schema.CodeConflict {
		t.Errorf("another key: %v, want %s", err, schema.CodeConflict)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	nc := f.Connect(t)
	for name, cfg := range map[string]manager.Config{
		"no id":       {Names: f.Names, Capacity: 1},
		"no names":    {ID: "m1", Capacity: 1},
		"no capacity": {ID: "m1", Names: f.Names},
		"bad number":  {ID: "m1", Names: f.Names, Capacity: 1, FabricSet: map[string]string{"theta": "7"}},
		"bad key":     {ID: "m1", Names: f.Names, Capacity: 1, FabricSet: map[string]string{"colour": "blue"}},
	} {
		if _, err := manager.New(nc, newEchoWorker(nc), cfg); schema.CodeOf(err) != schema.CodeInvalidParameter {
			t.Errorf("%s: %v, want %s", name, err, schema.CodeInvalidParameter)
		}
	}
}

func TestLifecycle(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	next := 0
	lifecycletest.Exercise(t, func(t *testing.T) lifecycle.Component {
		next++
		nc := f.Connect(t)
		m, err := manager.New(nc, newEchoWorker(nc), manager.Config{ID: fmt.Sprint("m", next), Names: f.Names, Capacity: 2})
		if err != nil {
			t.Fatal(err)
		}
		return m
	})
}

// A manager starts with a context that has no end of its own.
func TestStartWithoutDeadline(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	n := newNode(t, f, f.Connect(t), "m1")
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}
