package manager_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/manager"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// A steady closed loop leaves nothing behind: no call in the stream, no environment busy, and every end told.
func TestClosedLoop(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	var nodes []*node
	for i := range 3 {
		nodes = append(nodes, startNode(t, f, f.Connect(t), fmt.Sprint("m", i)))
	}
	c := newCaller(t, f, "f1")
	key := c.deploy("resize")
	const callers, calls = 4, 5000
	var wg sync.WaitGroup
	failed := make(chan error, callers)
	for range callers {
		wg.Go(func() {
			for range calls / callers {
				if err := c.tryInvoke("resize", key); err != nil {
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
	if t.Failed() {
		for _, n := range nodes {
			t.Logf("%s: %+v %+v", n.ID(), n.Counters(), n.Status())
		}
		t.Fatalf("%d calls are left in the stream", c.stored())
	}
	seen := make(map[uint64]bool)
	deadline := time.After(patience)
	for len(seen) < calls {
		select {
		case token := <-c.ended:
			if seen[token] {
				t.Errorf("the end of call %d was told twice", token)
			}
			seen[token] = true
		case <-deadline:
			t.Fatalf("the ends of %d of %d calls were told", len(seen), calls)
		}
	}
	natstest.Eventually(t, patience, func() bool { return c.stored() == 0 }, "no call is left in the stream")
	var cold, warm int64
	for _, n := range nodes {
		s, k := n.Status(), n.Counters()
		if s.Busy != 0 || s.Starting != 0 {
			t.Errorf("%s: %d busy, %d starting", n.ID(), s.Busy, s.Starting)
		}
		cold += k.Cold
		warm += k.Warm
	}
	if cold+warm != calls {
		t.Errorf("%d cold and %d warm starts of %d calls", cold, warm, calls)
	}
	t.Logf("%d cold of %d", cold, calls)
}

// A frontend hears every half second which of its calls run for longer than that.
func TestBeats(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	g := newGate()
	n := startNode(t, f, f.Connect(t), "m1", gated(g))
	c := newCaller(t, f, "f1")
	beats := make(chan schema.Beat, 64)
	if _, err := c.nc.Subscribe(subjects.FrontendInbox("f1", "b"), func(msg *nats.Msg) {
		var b schema.Beat
		if err := schema.Unmarshal(msg.Data, &b); err != nil {
			t.Errorf("read a beat: %v", err)
		}
		beats <- b
	}); err != nil {
		t.Fatal(err)
	}
	key := c.deploy("resize")
	a := c.send("resize", key, 3)
	number := uint64(0)
	for range 3 {
		b := <-beats
		for len(b.Tokens) < 3 {
			b = <-beats // the first may come when only some run for long enough
		}
		if b.Manager != "m1" || b.Incarnation != n.Incarnation() || b.Number <= number {
			t.Errorf("beat %+v after number %d", b, number)
		}
		number = b.Number
	}
	close(g.open)
	a.want(3)
}

// After the NATS server has restarted, and lost what lay in memory, the managers set up again and offer anew; what ran
// goes on running.
func TestServerRestart(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	g := newGate()
	var nodes []*node
	for i := range 2 {
		nodes = append(nodes, startNode(t, f, f.ConnectTCP(t), fmt.Sprint("m", i), func(_ *manager.Config, w *echoWorker) {
			w.run = func(run *schema.Run) {
				if run.Call.Function == "held" {
					g.pass(run)
				}
			}
		}))
	}
	before := newCaller(t, f, "f1")
	key, held := before.deploy("resize"), before.deploy("held")
	before.invoke("resize", key)
	before.send("held", held, 1)
	natstest.Eventually(t, patience, func() bool { return g.held() == 1 }, "the held call runs")
	f.Restart(t)
	c := newCaller(t, f, "f1")
	natstest.Eventually(t, patience, func() bool {
		_, err := c.js.Stream(t.Context(), c.names.CallsU())
		return err == nil
	}, "the managers made the stream again")
	natstest.Eventually(t, patience, c.holds("m0", "m1"), "both are on the ring")
	natstest.Eventually(t, patience, func() bool { return start(c.invoke("resize", key)) == schema.StartWarm },
		"idle environments are offered again")
	close(g.open)
	natstest.Eventually(t, patience, func() bool {
		busy := 0
		for _, n := range nodes {
			busy += n.Status().Busy
		}
		return busy == 0
	}, "the call that ran through the restart ends")
}
