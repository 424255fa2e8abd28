package manager

import (
	"context"
	"errors"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// unheard is a bucket whose server does what it is asked, while the one who asked has stopped waiting.
type unheard struct{ jetstream.KeyValue }

func (b unheard) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	if _, err := b.KeyValue.Update(ctx, key, value, revision); err != nil {
		return 0, err
	}
	return 0, context.Canceled
}

func (b unheard) Create(ctx context.Context, key string, value []byte, opts ...jetstream.KVCreateOpt) (uint64, error) {
	if _, err := b.KeyValue.Create(ctx, key, value, opts...); err != nil {
		return 0, err
	}
	return 0, context.Canceled
}

// tardy is a bucket whose first answers come too late, whether what was asked is done or not.
type tardy struct {
	jetstream.KeyValue
	tries int // whose answers are still to be late
	done  bool
}

func (b *tardy) Create(ctx context.Context, key string, value []byte, opts ...jetstream.KVCreateOpt) (uint64, error) {
	if b.tries == 0 {
		return b.KeyValue.Create(ctx, key, value, opts...)
	}
	if b.tries--; b.done {
		if _, err := b.KeyValue.Create(ctx, key, value, opts...); err != nil {
			return 0, err
		}
	}
	return 0, context.DeadlineExceeded
}

// A manager that starts asks for its lease again where the server did not answer in time, and knows it where it has it already.
func TestJoinOutlastsASlowServer(t *testing.T) {
	t.Parallel()
	for name, bucket := range map[string]*tardy{"done": {tries: 1, done: true}, "not done": {tries: 2}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := natstest.Start(t)
			m, err := New(f.Connect(t), &crowdWorker{}, Config{ID: "m1", Names: f.Names, Fabric: natstest.Small(), Capacity: 1})
			if err != nil {
				t.Fatal(err)
			}
			if bucket.KeyValue, err = f.JetStream(t).KeyValue(t.Context(), f.Names.Bucket(topology.Members)); err != nil {
				t.Fatal(err)
			}
			m.lease.kv, m.lease.key, m.lease.mine = bucket, memberKey("m1"), m.ownRecord
			if err := m.join(t.Context()); err != nil {
				t.Fatal(err)
			}
			entry, err := bucket.Get(t.Context(), m.lease.key)
			if err != nil || entry.Revision() != m.lease.revision || !m.lease.mine(entry.Value()) {
				t.Errorf("the lease is %v (%v), the manager holds revision %d", entry, err, m.lease.revision)
			}
		})
	}
}

// A manager that stops while a renewal is under way gives its lease up all the same, and never another's.
func TestLeaseGivenUp(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	bucket, err := f.JetStream(t).KeyValue(t.Context(), f.Names.Bucket(topology.Ring)) // nothing ends by itself in it
	if err != nil {
		t.Fatal(err)
	}
	value := func(incarnation string) []byte {
		b, err := schema.Marshal(schema.LeaseRecord{V: schema.Version, Holder: "m1", Incarnation: incarnation})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	mine := func(b []byte) bool {
		var rec schema.LeaseRecord
		return schema.Unmarshal(b, &rec) == nil && rec.Incarnation == "mine"
	}
	for name, c := range map[string]struct {
		held    bool // a put before
		unheard bool // then a put whose answer is not heard
		taken   bool // then it is another's
	}{
		"held":                          {held: true},
		"taken unheard":                 {unheard: true},
		"renewed unheard":               {held: true, unheard: true},
		"another's":                     {held: true, taken: true},
		"taken unheard and another's":   {unheard: true, taken: true},
		"renewed unheard and another's": {held: true, unheard: true, taken: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := lease{kv: bucket, key: schema.MemberPrefix + subjects.Escape(name), mine: mine}
			if c.held {
				if held, err := l.put(t.Context(), value("mine")); !held || err != nil {
					t.Fatal(held, err)
				}
			}
			if c.unheard {
				l.kv = unheard{bucket}
				if _, err := l.put(t.Context(), value("mine")); !errors.Is(err, context.Canceled) {
					t.Fatal(err)
				}
			}
			if c.taken {
				if _, err := bucket.Put(t.Context(), l.key, value("other")); err != nil {
					t.Fatal(err)
				}
			}
			if err := l.drop(t.Context()); err != nil {
				t.Errorf("give it up: %v", err)
			}
			if _, err := bucket.Get(t.Context(), l.key); (err == nil) != c.taken {
				t.Errorf("what is there after it: %v, another's %v", err, c.taken)
			}
		})
	}
}
