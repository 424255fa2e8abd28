package manager

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
)

// starts is a worker that notes what it is to start.
type starts struct {
	Worker
	calls []string
}

func (s *starts) Start(run *schema.Run) { s.calls = append(s.calls, run.Call.RequestID) }

// A claim that stood in line until its frontend may be taking it out is not acknowledged and started with the others: it takes
// the lock.
func TestLineOfClaimsLooksAgain(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	nc := f.Connect(t)
	w := &starts{}
	m, err := New(nc, w, Config{ID: "m1", Names: f.Names, Fabric: natstest.Small(), Capacity: 1})
	if err != nil {
		t.Fatal(err)
	}
	var cancel context.CancelFunc
	m.life, cancel = context.WithCancel(t.Context())
	defer cancel()
	m.pulse.last.Store(int64(m.now()))
	m.flow.heard.Store(int64(m.now()))
	acks, err := nc.SubscribeSync("acks.*")
	if err != nil {
		t.Fatal(err)
	}
	l := &lineup{}
	add := func(id string, left time.Duration) *claim {
		c := &claim{ackReply: "acks." + id, reconnects: m.reconnects(), came: m.now(), touched: m.now(), line: l}
		c.call = schema.Call{RequestID: id, Frontend: "f1", StartBy: time.Hour}
		c.age = c.call.StartBy - left
		c.ack.Stream, c.ack.StreamSeq = f.Names.CallsU(0), 1
		m.begin(c, "e-"+id, schema.StartWarm, 0)
		return c
	}
	add("first", time.Hour)
	late := add("late", time.Hour)
	add("third", time.Hour)
	late.age = late.call.StartBy - nearStart/2 // so long it stood in line
	m.crossTogether(l)
	m.tasks.Wait()
	if want := []string{"first", "third"}; !slices.Equal(w.calls, want) {
		t.Errorf("started %v, want %v: the lock of the other is not to be had", w.calls, want)
	}
	if len(l.claims) != 0 {
		t.Errorf("%d are in line still", len(l.claims))
	}
	for _, want := range []string{"acks.first", "acks.third"} {
		if got, err := acks.NextMsg(10 * time.Second); err != nil || got.Subject != want {
			t.Errorf("acknowledged %v, %v; want %s", got, err, want)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if n, _, err := acks.Pending(); n != 0 || err != nil {
		t.Errorf("%d acknowledgements more, %v", n, err)
	}
	if got := m.Counters(); got.Uncrossed != 1 || got.LocksLost != 1 {
		t.Errorf("uncrossed %d, locks lost %d; want 1 and 1", got.Uncrossed, got.LocksLost)
	}
	if l := m.over(late, true); l != crossed {
		t.Errorf("acknowledged before its start-by: %v", l)
	}
	if late.age = late.call.StartBy + 1; m.over(late, true) != unclear {
		t.Error("acknowledged after its start-by, it starts")
	}
}
