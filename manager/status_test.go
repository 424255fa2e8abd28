package manager_test

import (
	"slices"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// A manager with many arcs tells what changes of them alone between two whole statuses, with its numbers; who lays it over the last
// whole one knows all.
func TestManyArcsAreToldByWhatChanges(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	n := startNode(t, f, f.Connect(t), "m1", capacity(200))
	c := newCaller(t, f, "f1")
	key := c.deployReserved("resize")
	arc := func(i int) subjects.ArcCall {
		return subjects.ArcCall{Reserved: true, Account: subjects.DefaultAccount, Function: "resize", Version: "1", Epoch: uint64(10 + i)}
	}
	const arcs = 60
	for i := range arcs {
		n.MakeMembers(arc(i), key, 1)
	}
	natstest.Eventually(t, patience, func() bool { return n.Status().Reserved == arcs }, "all members are ready")
	sub, err := c.nc.SubscribeSync(c.names.ManagerStatus("m1"))
	if err != nil {
		t.Fatal(err)
	}
	next := func() (s schema.ManagerStatus, msg *nats.Msg) {
		t.Helper()
		msg, err := sub.NextMsg(patience)
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Unmarshal(msg.Data, &s); err != nil {
			t.Fatal(err)
		}
		return s, msg
	}
	whole, msg := next()
	for whole.Partial || whole.Reserved != arcs {
		whole, msg = next()
	}
	size := len(msg.Data)
	known := make(map[string]schema.ArcStatus)
	for _, a := range whole.Arcs {
		known[a.Arc] = a
	}
	n.MakeMembers(arc(arcs/2), key, 3)
	n.MakeMembers(arc(arcs), key, 1)
	n.MakeMembers(arc(1), key, 0)
	partial := 0
	for {
		s, msg := next()
		if s.Partial {
			partial++
			if !s.Counted || len(s.Arcs) > 3 || len(msg.Data) > size/4 {
				t.Errorf("%d arcs in %d bytes of %d, with numbers: %v", len(s.Arcs), len(msg.Data), size, s.Counted)
			}
		} else {
			clear(known)
		}
		for _, a := range s.Arcs {
			known[a.Arc] = a
		}
		now := n.Status()
		if s.Reserved != arcs+3 || now.Reserved != arcs+3 {
			continue
		}
		for name, a := range known {
			at := slices.IndexFunc(now.Arcs, func(b schema.ArcStatus) bool { return b.Arc == name })
			if at < 0 && a.Ready+a.Share > 0 || at >= 0 && now.Arcs[at] != a {
				t.Errorf("told of %s: %+v", name, a)
			}
		}
		if len(known) < len(now.Arcs) || s.Room != now.Room {
			t.Errorf("%d arcs and room %d told, want %d and %d", len(known), s.Room, len(now.Arcs), now.Room)
		}
		break
	}
	if partial == 0 {
		t.Error("nothing was told by what changed alone")
	}
}
