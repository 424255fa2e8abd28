package fleet_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/manager/fleet"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker/remote"
)

// TestCalls: environments are made on a worker far away and run calls, the manager hears of each end before its caller does, and
// payloads of 6 MB pass both ways.
//
// Broken to see it fail: the worker does not wait for Done ([remote.Remote]): answers overtake their ends.
func TestCalls(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.worker("w1", b.tcp("w1"))
	b.awaitPlaces(8)
	rec, err := b.lease("w1")
	if err != nil || rec.Manager != "m1" || rec.Capacity != 8 || rec.State != schema.MemberActive || rec.Incarnation != w.Incarnation() {
		t.Fatalf("lease %+v, %v", rec, err)
	}
	b.made("e1")
	if ev := b.awaitEvent("e1", 1, schema.EnvironmentParked); ev.InitDuration != 3*time.Millisecond {
		t.Errorf("init %v", ev.InitDuration)
	}
	if w.hand.variables["COLOUR"] != "blue" {
		t.Error("the binding came without its variables")
	}
	for n, payload := range [][]byte{[]byte("small"), bytes.Repeat([]byte("x"), schema.MaxCarried), bytes.Repeat([]byte("y"), schema.MaxCarried+1), bytes.Repeat([]byte("z"), schema.MaxPayload)} {
		c := b.call("e1", payload)
		b.fleet.Start(c.Run)
		m, end := b.answered(c)
		if !bytes.Equal(m.Data, payload) || !end.Reusable || m.Header.Get(schema.HeaderEnvironment) != "e1" || m.Header.Get(schema.HeaderManager) != "m1" {
			t.Errorf("%d bytes came back as %d, headers %v, outcome %+v", len(payload), len(m.Data), m.Header, end)
		}
		b.awaitEvent("e1", n+2, schema.EnvironmentParked)
	}
	if got := w.Remote.Counters(); got.Fetched != 2 || got.Undone != 0 || got.Refused != 0 {
		t.Errorf("worker %+v", got)
	}
	b.fleet.End("e1")
	b.awaitEvent("e1", 6, schema.EnvironmentGone)
	c := b.call("e1", nil)
	b.fleet.Start(c.Run)
	b.lost(c)
	if got := b.fleet.Counters(); got.Refused != 0 || got.Workers != 1 {
		t.Errorf("fleet %+v", got)
	}
	if err := w.Stop(withDeadline(t)); err != nil {
		t.Error(err)
	}
	b.awaitPlaces(0)
	if _, err := b.lease("w1"); !errors.Is(err, jetstream.ErrKeyNotFound) {
		t.Errorf("the lease of a worker that has stopped: %v", err)
	}
}

// TestManyCalls: a closed loop of callers over several environments; every call is answered once, in its own words.
func TestManyCalls(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.worker("w1", b.tcp("w1"))
	b.awaitPlaces(8)
	done := make(chan int)
	const each = 200
	for i := range 8 {
		id := string(rune('a' + i))
		b.made(id)
		go func() { // ends after its calls; awaited below
			n := 0
			defer func() { done <- n }()
			for ; n < each; n++ {
				payload := []byte(id + string(rune('0'+n%10)))
				c := b.call(id, payload)
				b.fleet.Start(c.Run)
				m, err := c.sub.NextMsg(patience)
				if err != nil || !bytes.Equal(m.Data, payload) {
					t.Errorf("%s: %v", payload, err)
					return
				}
				_ = c.sub.Unsubscribe()
				natstest.Eventually(t, patience, func() bool { return len(b.eventsOf(id)) == n+2 }, "parked")
			}
		}()
	}
	for range 8 {
		if n := <-done; n != each {
			t.Errorf("%d calls", n)
		}
	}
	// A starved host may hear of Done after the quarter of a second that a worker waits for it (8 of 1,600, at a load of 25).
	if got := w.Remote.Counters(); got.Undone > 8*each/20 {
		t.Errorf("%d answers went out before the manager had said Done", got.Undone)
	}
}

// TestFailures: what goes wrong in an init, and what nobody can make, is told as a failure.
func TestFailures(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fleet.Make("early", binding(), b.notify)
	if ev := b.awaitEvent("early", 1, schema.EnvironmentFailed); ev.Error == nil || ev.Error.Type != string(schema.CodeUnavailable) {
		t.Errorf("without a worker: %+v", ev.Error)
	}
	w := b.newWorker("w1", b.tcp("w1"), func(c *remote.Config) { c.Tenants = false })
	w.hand.init = func(id string) *schema.FunctionError {
		if id == "huge" {
			return &schema.FunctionError{Type: string(schema.CodeOutOfMemory), Message: "no", Body: make([]byte, schema.MaxWorkerError+1), Posted: true}
		}
		return &schema.FunctionError{Type: "Oops", Message: "no", Body: []byte(`{"errorType":"Oops"}`)}
	}
	if err := w.Remote.Start(withDeadline(t)); err != nil {
		t.Fatal(err)
	}
	b.awaitPlaces(8)
	b.fleet.Make("bad", binding(), b.notify)
	if ev := b.awaitEvent("bad", 1, schema.EnvironmentFailed); ev.Error.Type != "Oops" || ev.Error.Message != "no" || string(ev.Error.Body) != `{"errorType":"Oops"}` {
		t.Errorf("%+v", ev.Error)
	}
	b.fleet.Make("huge", binding(), b.notify)
	huge := b.awaitEvent("huge", 1, schema.EnvironmentFailed).Error
	if huge.Type != string(schema.CodeOutOfMemory) || huge.Body != nil || !huge.Posted {
		t.Errorf("%+v", huge)
	}
	b.fleet.Make("large", binding(func(b *schema.Binding) { b.MemoryMB = 9 * schema.PlaceMB }), b.notify)
	b.awaitEvent("large", 1, schema.EnvironmentFailed)
	b.fleet.Make("tenant", binding(func(b *schema.Binding) { b.PerTenant = true }), b.notify)
	b.awaitEvent("tenant", 1, schema.EnvironmentFailed)
	c := b.call("", []byte("x"))
	b.fleet.Refuse(c.Run, &schema.FunctionError{Type: "Oops", Message: "no"})
	if m, _ := b.answered(c); m.Header.Get(schema.HeaderFunctionError) == "" || !bytes.Contains(m.Data, []byte("Oops")) {
		t.Errorf("refused: %q", m.Data)
	}
	// What a function posted as its init's failure is not the platform's word, with a body or without.
	for found, f := range map[string]*schema.FunctionError{
		"": huge, string(schema.CodeOutOfMemory): {Type: string(schema.CodeOutOfMemory), Message: "signal: killed"},
	} {
		c := b.call("", []byte("x"))
		b.fleet.Refuse(c.Run, f)
		if m, o := b.answered(c); m.Header.Get(schema.HeaderPlatformError) != found || o.Error.Posted != (found == "") ||
			bytes.Contains(m.Data, []byte("RequestId: ")) != (found != "") {
			t.Errorf("%+v is answered as found by the platform: %v %s", f, m.Header, m.Data)
		}
	}
}

// TestPlaces: an environment goes where most places are free, also in this process, and what ends or drains gives them back.
func TestPlaces(t *testing.T) {
	t.Parallel()
	local := &hand{environments: map[string]*handEnvironment{}}
	t.Cleanup(local.tasks.Wait)
	b := setup(t, func(c *fleet.Config) { c.Local, c.LocalPlaces = localWorker{local}, 2 })
	b.made("l1")
	w1, w2 := b.worker("w1", b.tcp("w1"), places(4)), b.worker("w2", b.tcp("w2"), places(3))
	b.awaitPlaces(9)
	for _, id := range []string{"1", "2", "3"} {
		b.made(id)
	}
	if l, a, c := local.live(), w1.live(), w2.live(); l != 1 || a != 2 || c != 1 {
		t.Errorf("%d here, %d on w1, %d on w2; want 1, 2 and 1", l, a, c)
	}
	b.made("large", func(b *schema.Binding) { b.MemoryMB = 3 * schema.PlaceMB }) // in one piece nowhere, and no larger than a worker
	if l := local.live(); l != 1 {
		t.Errorf("%d here: it is larger than this", l)
	}
	b.fleet.End("1")
	b.awaitEvent("1", 2, schema.EnvironmentGone)
	local.nc = b.nc
	c := b.call("l1", []byte("x"))
	b.fleet.Start(c.Run)
	b.answered(c)
	b.fleet.End("l1")
	b.awaitEvent("l1", 3, schema.EnvironmentGone)
}

// localWorker is a hand as the worker of the manager's own process.
type localWorker struct{ *hand }

// Refuse is not asked for here.
func (localWorker) Refuse(*schema.Run, *schema.FunctionError) {}
