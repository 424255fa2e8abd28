package topology_test

import (
	"errors"
	"reflect"
	"testing"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// The consumer of a reserved arc comes with the stream of its shard, is that of an unreserved arc but for its name and its one
// subject, and is left as it is the next time, also when the stream went away meanwhile.
func TestEnsureReservedArc(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	js := f.JetStream(t)
	want := topology.Arc(f.Names, 3)
	want.Durable, want.FilterSubject = "r-17", "hearth.arc.r.5.default.a=2Eb.1.17"
	var first uint64
	for round := range 3 {
		if err := topology.EnsureReservedArc(within(t), js, f.Names, 5, "default", "a.b", "1", 17); err != nil {
			t.Fatal(err)
		}
		s, err := js.Stream(within(t), "HEARTH_CALLS_R5")
		if err != nil {
			t.Fatal(err)
		}
		c, err := s.Consumer(within(t), "r-17")
		if err != nil {
			t.Fatal(err)
		}
		got := c.CachedInfo().Config
		got.Metadata, got.Name = nil, ""
		if !reflect.DeepEqual(got, want) {
			t.Errorf("round %d: consumer is\n%+v\nwant\n%+v", round, got, want)
		}
		now := s.CachedInfo().Config.FirstSeq
		switch round {
		case 0:
			first = now
			if err := topology.EnsureShard(within(t), js, f.Names, 5); err != nil {
				t.Error(err)
			}
		case 1:
			if now != first {
				t.Error("the stream was made anew")
			}
			if err := js.DeleteStream(within(t), "HEARTH_CALLS_R5"); err != nil {
				t.Fatal(err)
			}
		case 2:
			if now <= first {
				t.Errorf("first sequence %d after %d", now, first)
			}
		}
	}
	for _, shard := range []int{-1, subjects.MaxShards} {
		bad := &schema.Error{Code: schema.CodeInvalidParameter}
		if err := topology.EnsureShard(within(t), js, f.Names, shard); !errors.Is(err, bad) {
			t.Errorf("shard %d: %v", shard, err)
		}
		if err := topology.EnsureReservedArc(within(t), js, f.Names, shard, "default", "f", "1", 1); !errors.Is(err, bad) {
			t.Errorf("arc of shard %d: %v", shard, err)
		}
	}
	// Another arc under the same name, as a bucket that was put back could ask for, is no arc of ours.
	err := topology.EnsureReservedArc(within(t), js, f.Names, 5, "default", "other", "1", 17)
	if !errors.Is(err, &schema.Error{Code: schema.CodeConflict}) {
		t.Errorf("another arc of the same epoch: %v", err)
	}
}
