package fleet_test

import (
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/manager/fleet"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
	"github.com/hearth-run/hearth/worker/remote"
)

// proxied is a connection of a worker through a proxy of its own.
func (b *bench) proxied(id string) (*nats.Conn, *natstest.Proxy) {
	b.t.Helper()
	p := natstest.StartProxy(b.t, b.fabric.URL)
	nc, err := nats.Connect(p.URL, nats.MaxReconnects(-1), nats.ReconnectWait(10_000_000), nats.ReconnectJitter(0, 0),
		nats.CustomInboxPrefix(subjects.WorkerInbox(id, "r")))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(nc.Close)
	return nc, p
}

// holding makes environments on a worker and has each run a call that waits in the gate.
func (b *bench) holding(w *far, g *gate, ids ...string) (calls []*call) {
	b.t.Helper()
	w.hand.does(g.pass, nil)
	for _, id := range ids {
		b.made(id)
		c := b.call(id, []byte("held "+id))
		b.fleet.Start(c.Run)
		calls = append(calls, c)
	}
	g.wait(b.t, len(ids))
	return calls
}

// TestWorkerKilled: a worker whose connection is gone is given up: its calls are lost, once each, its environments gone, its
// places away, and what comes next goes elsewhere.
//
// Broken to see it fail: [fleet.Fleet] answers nothing at the end of a session: the callers wait.
func TestWorkerKilled(t *testing.T) {
	t.Parallel()
	b := setup(t)
	nc := b.tcp("w1")
	w := b.worker("w1", nc)
	b.awaitPlaces(8)
	g := newGate()
	defer close(g.open)
	calls := b.holding(w, g, "e1", "e2")
	b.made("idle")
	nc.Close()
	for _, c := range calls {
		b.lost(c)
	}
	b.awaitPlaces(0)
	for _, id := range []string{"e1", "e2", "idle"} {
		b.awaitEvent(id, 2, schema.EnvironmentGone)
	}
	b.worker("w2", b.tcp("w2"))
	b.awaitPlaces(8)
	b.made("e3")
	c := b.call("e3", []byte("x"))
	b.fleet.Start(c.Run)
	if m, _ := b.answered(c); string(m.Data) != "x" {
		t.Errorf("answered %q", m.Data)
	}
}

// TestWorkerKilledAnswering: a worker that dies after the end of a call was told and before its caller has the answer leaves no
// caller without one.
//
// Broken to see it fail: an end is the last that the manager remembers of a run: the caller waits.
func TestWorkerKilledAnswering(t *testing.T) {
	t.Parallel()
	b := setup(t)
	nc := b.tcp("w1")
	w := b.worker("w1", nc)
	w.hand.does(nil, func(*schema.Run) { nc.Close() })
	b.awaitPlaces(8)
	b.made("e1")
	c := b.call("e1", []byte("x"))
	b.fleet.Start(c.Run)
	m, end := b.answered(c)
	if !strings.Contains(string(m.Data), string(schema.CodeExecutionLost)) || !end.Reusable {
		t.Errorf("%q, %+v", m.Data, end)
	}
}

// TestWorkerHangs: a worker that is silent while its connection stands is given up too. When it comes back it ends what it had,
// under the same life, and serves again.
//
// Broken to see it fail: the worker's frames ask for no reply ([remote.Remote]): it finds out after 10 s only.
func TestWorkerHangs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	nc, proxy := b.proxied("w1")
	w := b.worker("w1", nc)
	b.awaitPlaces(8)
	g := newGate()
	calls := b.holding(w, g, "e1")
	b.made("idle")
	proxy.Hold(natstest.BothWays)
	b.lost(calls[0])
	b.awaitEvent("idle", 2, schema.EnvironmentGone)
	b.awaitPlaces(0)
	proxy.Release()
	b.awaitPlaces(8)
	close(g.open)
	b.await("what it had is ended", func() bool { return w.live() == 0 })
	b.made("e2")
	if got := b.fleet.Counters(); got.Opened != 2 || w.Remote.Counters().Sessions != 2 {
		t.Errorf("fleet %+v, worker %+v, want two sessions", got, w.Remote.Counters())
	}
}

// TestConnectionsBreak: connections of the worker and of the manager that break and come back, and a server that is started again,
// cost no call and no environment.
//
// Broken to see it fail: a link sends nothing again ([link.Link.Receive]): the worker is given up as one whose word is lost.
func TestConnectionsBreak(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	mp := natstest.StartProxy(t, f.URL)
	mc, err := nats.Connect(mp.URL, nats.MaxReconnects(-1), nats.ReconnectWait(10_000_000), nats.ReconnectJitter(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(mc.Close)
	b := setupOn(t, f, mc)
	nc, proxy := b.proxied("w1")
	w := b.worker("w1", nc)
	b.awaitPlaces(8)
	for round, cut := range []func(){proxy.Cut, mp.Cut, func() { proxy.Cut(); mp.Cut() }, func() { f.Restart(t) }} {
		g := newGate()
		var ids []string
		for _, e := range []string{"a", "b", "c"} {
			ids = append(ids, e+string(rune('0'+round)))
		}
		calls := b.holding(w, g, ids...)
		cut()
		if round == 3 { // the server forgot them, and an answer to nobody is none
			b.await("the callers' subscriptions", func() bool { return b.caller.Flush() == nil })
		}
		close(g.open)
		for i, c := range calls {
			m, end := b.answered(c)
			if string(m.Data) != "held "+ids[i] || !end.Reusable {
				t.Errorf("round %d: %q, %+v", round, m.Data, end)
			}
			b.awaitEvent(ids[i], 2, schema.EnvironmentParked)
		}
		w.hand.does(nil, nil)
	}
	if got := b.fleet.Counters(); got.Opened != 1 || got.Lost != 0 {
		t.Errorf("%+v, want one session and nothing lost", got)
	}
}

// TestManagerAgain: a manager that is started again knows nothing of what the one before had: the worker ends it and serves on.
func TestManagerAgain(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	nc := f.Connect(t)
	b := setupOn(t, f, nc)
	w := b.worker("w1", b.tcp("w1"))
	b.awaitPlaces(8)
	b.made("e1")
	b.made("e2")
	nc.Close() // killed: it says nothing
	again := setup2(t, b)
	again.awaitPlaces(8)
	again.await("what it had is ended", func() bool { return w.live() == 0 })
	again.made("e3")
	if w.live() != 1 {
		t.Errorf("%d environments", w.live())
	}
}

func setup2(t *testing.T, b *bench) *bench {
	t.Helper()
	return setupOn(t, b.fabric, b.fabric.Connect(t))
}

// TestManagerAbsent: a worker waits for a manager that is not there, and says so once.
func TestManagerAbsent(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	b := &bench{t: t, fabric: f, caller: f.Connect(t)}
	absent := make(chan struct{}, 16)
	w := b.worker("w1", b.tcp("w1"), func(c *remote.Config) { c.Absent = func() { absent <- struct{}{} } })
	<-absent
	if w.Serving() {
		t.Error("it serves nobody")
	}
	b2 := setup2(t, b)
	b2.awaitPlaces(8)
	if len(absent) != 0 {
		t.Error("it says so again and again")
	}
}

// TestDrain: a worker that stops is given nothing more; what it runs ends, what is idle goes, and nothing fails.
//
// Broken to see it fail: the fleet passes on that a drained environment is reusable: it is idle, and Stop waits.
func TestDrain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w1 := b.worker("w1", b.tcp("w1"))
	b.awaitPlaces(8)
	g := newGate()
	calls := b.holding(w1, g, "e1", "e2")
	b.made("idle")
	b.worker("w2", b.tcp("w2"), places(2))
	b.awaitPlaces(10)
	stopped := make(chan error, 1)
	go func() { stopped <- w1.Stop(withDeadline(t)) }() // awaited below
	b.awaitPlaces(2 + 2)                                // those of w2, and what w1 still runs
	b.awaitEvent("idle", 2, schema.EnvironmentGone)
	b.made("elsewhere")
	if w1.live() != 2 {
		t.Errorf("w1 has %d environments, want the two that run", w1.live())
	}
	close(g.open)
	for _, c := range calls {
		if m, end := b.answered(c); !strings.HasPrefix(string(m.Data), "held") || end.Reusable {
			t.Errorf("%q, %+v", m.Data, end)
		}
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	b.awaitPlaces(2)
	if got := b.fleet.Counters(); got.Lost != 0 {
		t.Errorf("%+v", got)
	}
}

// TestIDs: a second holder of a live id is refused; one whose holder was killed is taken.
func TestIDs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	nc := b.tcp("w1")
	b.worker("w1", nc)
	b.awaitPlaces(8)
	second := b.newWorker("w1", b.tcp("w1"), places(3))
	if err := second.Remote.Start(withDeadline(t)); schema.CodeOf(err) != schema.CodeConflict {
		t.Fatalf("a second holder: %v", err)
	}
	nc.Close()
	b.worker("w1", b.tcp("w1"), places(4))
	b.awaitPlaces(4)
}

// TestEventsReply: the answer of an event's call goes where it is asked to until its end.
func TestEventsReply(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.worker("w1", b.tcp("w1"))
	b.awaitPlaces(8)
	g := newGate()
	w.hand.does(g.pass, nil)
	b.made("e1")
	c := b.call("e1", []byte("x"), func(c *schema.Call) { c.Event = "default/1/0"; c.Reply = "_INBOX.dead" })
	b.fleet.Start(c.Run)
	g.wait(t, 1)
	b.mu.Lock() // the host's own stands between this and its reading: Ended takes it
	c.Call.Reply = c.sub.Subject
	b.mu.Unlock()
	close(g.open)
	if m, _ := b.answered(c); string(m.Data) != "x" {
		t.Errorf("%q", m.Data)
	}
}

// TestClose: a fleet that ends tells its workers, which end everything and wait for the next one.
func TestClose(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.worker("w1", b.tcp("w1"))
	b.awaitPlaces(8)
	b.made("e1")
	if err := b.fleet.Close(withDeadline(t)); err != nil {
		t.Fatal(err)
	}
	b.await("what it had is ended", func() bool { return w.live() == 0 && !w.Serving() })
	setup2(t, b).awaitPlaces(8)
}

var _ fleet.Host = (*bench)(nil)
