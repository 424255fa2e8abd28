package events_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// An event whose poller is cut off while it runs is joined by the next poller: it runs once, and its end comes to the one that
// joined.
func TestPollerLostWhileItsEventRuns(t *testing.T) {
	t.Parallel()
	b := setup(t)
	hold := b.worker.hold(t, "f")
	b.event(t, "f", `{}`)
	natstest.Eventually(t, patience, func() bool { return len(b.worker.started("f")) == 1 }, "it runs")
	b.frontend.Close() // it says nothing to anybody any more
	b.f = b.startFrontend(t, b.connect(t))
	natstest.Eventually(t, patience, func() bool { return b.f.Counters().Joined == 1 }, "the second frontend joins it")
	hold.release()
	b.drained(t)
	if n := len(b.worker.started("f")); n != 1 {
		t.Errorf("it ran %d times", n)
	}
	if done := b.f.Events().Done; done != 1 {
		t.Errorf("%d events are done at the frontend that joined", done)
	}
	natstest.Eventually(t, patience, func() bool { return b.f.Counters().InFlight == 0 }, "no call is in flight")
}

// A frontend that stops lets its events end, claims nothing more, and gives back at once what it cannot wait for.
func TestStop(t *testing.T) {
	t.Parallel()
	b := setup(t)
	hold := b.worker.hold(t, "f")
	b.event(t, "f", `{}`)
	natstest.Eventually(t, patience, func() bool { return len(b.worker.started("f")) == 1 }, "it runs")
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- b.f.Stop(ctx) }() // waits for the event, which waits for the test
	natstest.Eventually(t, patience, func() bool { return !b.serves(t) }, "the frontend takes no more")
	b.event(t, "f", `after`)
	second := b.startFrontend(t, b.connect(t))
	natstest.Eventually(t, patience, func() bool { return len(b.worker.started("f")) == 2 }, "the second frontend runs the next event")
	cancel()
	if err := <-stopped; !errors.Is(err, context.Canceled) {
		t.Errorf("stopped with an event that ran: %v", err)
	}
	natstest.Eventually(t, patience, func() bool { return second.Counters().Joined == 1 }, "it is given back, and joined")
	hold.release()
	b.drained(t)
	if n := len(b.worker.started("f")); n != 2 {
		t.Errorf("two events ran %d times", n)
	}
}

// serves reports whether calls are taken.
func (b *bundle) serves(t testing.TB) bool {
	t.Helper()
	_, err := b.caller.Request(b.Names.Invoke(subjects.DefaultAccount, "nobody", ""), nil, patience)
	return !errors.Is(err, nats.ErrNoResponders)
}

// What a caller hands in twice under one id runs once; another function's ids are its own where they are scoped.
func TestDuplicates(t *testing.T) {
	t.Parallel()
	b := setup(t, "g")
	for range 3 {
		b.event(t, "f", `{}`, "Nats-Msg-Id", "f//1")
	}
	ack, err := b.publish(t, b.Names.Event(subjects.DefaultAccount, "f", ""), `{}`, "Nats-Msg-Id", "f//1")
	if err != nil || !ack.Duplicate {
		t.Errorf("handed in again: %+v, %v", ack, err)
	}
	b.event(t, "g", `{}`, "Nats-Msg-Id", "g//1")
	b.drained(t)
	if f, g := len(b.worker.started("f")), len(b.worker.started("g")); f != 1 || g != 1 {
		t.Errorf("f ran %d times, g %d times", f, g)
	}
}

// A full stream refuses, and drops nothing of what it accepted.
func TestFullStream(t *testing.T) {
	t.Parallel()
	b := setup(t)
	hold := b.worker.hold(t, "f")
	b.change(t, b.events(), func(c *jetstream.StreamConfig) { c.MaxBytes = 64 << 10 })
	accepted := 0
	var full error
	for full == nil {
		if _, full = b.publish(t, b.Names.Event(subjects.DefaultAccount, "f", ""), strings.Repeat("x", 4<<10)); full == nil {
			accepted++
		}
	}
	var api *jetstream.APIError
	if !errors.As(full, &api) || api.ErrorCode != 10077 || accepted == 0 {
		t.Errorf("after %d events: %v", accepted, full)
	}
	hold.release()
	b.drained(t)
	if n := len(b.worker.started("f")); n != accepted {
		t.Errorf("%d events accepted, %d ran", accepted, n)
	}
}

func (b *bundle) change(t testing.TB, stream string, change func(*jetstream.StreamConfig)) {
	t.Helper()
	s, err := b.js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	c := s.CachedInfo().Config
	change(&c)
	if _, err := b.js.UpdateStream(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

// A stream of dead letters that is full loses none: the event stays where it is until there is room.
func TestFullDeadLetters(t *testing.T) {
	t.Parallel()
	b := setup(t)
	stream := b.Names.Stream(topology.DeadLetters)
	b.configure(t, "f", schema.EventInvokeConfigRecord{Retries: new(int)})
	b.worker.on("f", failing)
	b.change(t, stream, func(c *jetstream.StreamConfig) { c.MaxMsgs = 1 })
	b.event(t, "f", `first`)
	b.dead(t, 1)
	b.event(t, "f", `second`)
	natstest.Eventually(t, patience, func() bool { return b.f.Events().Dead >= 3 }, "it is written again and again")
	if b.held(t, b.events()) != 1 || len(b.worker.started("f")) != 2 {
		t.Errorf("%d events wait after %d tries", b.held(t, b.events()), len(b.worker.started("f")))
	}
	b.change(t, stream, func(c *jetstream.StreamConfig) { c.MaxMsgs = -1 })
	if d := b.dead(t, 2); string(d[1].Event.Payload) != "second" {
		t.Errorf("dead letters %+v", d)
	}
	b.drained(t)
}

// A backlog of one function does not delay another.
func TestFairness(t *testing.T) {
	t.Parallel()
	b := setup(t, "g")
	hold := b.worker.hold(t, "f") // those of f that run take what they may, and keep it
	const backlog = 20_000
	b.backlog(t, b.Names.Event(subjects.DefaultAccount, "f", ""), backlog)
	natstest.Eventually(t, patience, func() bool { return len(b.worker.started("f")) > 0 }, "f's events run")
	for i := range 50 {
		b.event(t, "g", fmt.Sprint(i))
	}
	natstest.Eventually(t, patience, func() bool { return len(b.worker.started("g")) == 50 }, "g's events run beside f's")
	if left := b.held(t, b.events()); left < backlog {
		t.Errorf("%d of f's %d events are left, though they were held", left, backlog)
	}
	hold.release()
	natstest.Eventually(t, patience, func() bool { return len(b.worker.started("f")) > 1000 }, "f's events go on")
}

// Whatever headers a caller sends act on nobody else's events: refused by the stream, or without a meaning.
func TestHostileHeaders(t *testing.T) {
	t.Parallel()
	b := setup(t, "g")
	hold := b.worker.hold(t, "g")
	for i := range 20 { // others' events, which must all be there at the end
		b.event(t, "g", fmt.Sprint(i))
	}
	ours := 0
	for _, h := range [][]string{
		{"Nats-Rollup", "all"}, {"Nats-Rollup", "sub"}, {"Nats-TTL", "1s"}, {"Nats-Schedule", "@every 1s", "Nats-Schedule-Target", b.Names.Event(subjects.DefaultAccount, "g", "")},
		{"Nats-Schedule", "@at 2020-01-01T00:00:00Z", "Nats-Schedule-Target", "hearth.dead.default.g"}, {"Nats-Scheduler", "x", "Nats-Schedule-Next", "purge"},
		{"Nats-Expected-Stream", "X"}, {"Nats-Expected-Last-Sequence", "0"}, {"Nats-Expected-Last-Subject-Sequence", "7"}, {"Nats-Expected-Last-Msg-Id", "x"},
		{"Nats-Batch-Id", "b", "Nats-Batch-Sequence", "1"}, {"Nats-Batch-Id", "b", "Nats-Batch-Sequence", "1", "Nats-Batch-Commit", "1"},
		{"Nats-Incr", "+1"}, {"Nats-Marker-Reason", "MaxAge"}, {"Nats-Msg-Id", "dead/default/x/1"}, {"Status", "503"}, {"Status", "409", "Description", "Consumer Deleted"},
		{"Nats-Pending-Messages", "100", "Status", "408"}, {"Nats-Subject", "hearth.event.default.g"}, {"Nats-Stream", "X"}, {"KV-Operation", "PURGE"},
	} {
		_, err := b.publish(t, b.Names.Event(subjects.DefaultAccount, "f", ""), `{}`, h...)
		if err == nil {
			ours++
		} else if errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v: %v", h, err)
		}
	}
	hold.release()
	b.drained(t)
	runs := map[string]int{}
	for _, c := range b.worker.started("g") {
		runs[string(c.Payload)]++
	}
	if len(runs) != 20 || len(b.worker.started("g")) != 20 {
		t.Errorf("g's 20 events: %v", runs)
	}
	if n := len(b.worker.started("f")); n != ours {
		t.Errorf("%d of %d accepted events of f ran", n, ours)
	}
	if n := b.f.Events().Dead; n != 0 {
		t.Errorf("%d dead letters", n)
	}
}

// What cannot run as it is lies among the dead letters with the reason, and its payload as it was.
func TestEventsThatCannotRun(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.deploy(t, "tenants", func(r *schema.FunctionRecord) { r.PerTenant = true })
	natstest.Eventually(t, patience, func() bool {
		_, _, ok := b.f.Function(subjects.DefaultAccount, "tenants")
		return ok
	}, "the frontend knows the function")
	event := func(rest string) string { return b.Names.Prefix() + ".event.default." + rest }
	cases := []struct {
		subject, function, says string
		header                  []string
	}{
		{event("nobody"), "nobody", "Function not found", nil},
		{event("nobody.tenant"), "nobody", "Function not found", nil},
		{event("f"), "f", "Cannot find alias", []string{schema.HeaderQualifier, "nowhere"}},
		{event("f"), "f", "Function not found", []string{schema.HeaderQualifier, "17"}},
		{event("f"), "f", "Qualifier", []string{schema.HeaderQualifier, "not a name!"}},
		{event("f"), "f", "2 values", []string{schema.HeaderQualifier, "1", schema.HeaderQualifier, "2"}},
		{event("f"), "f", "is spelt Hearth-Tenant", []string{"hearth-tenant", "a"}},
		{event("f"), "f", "has no sub-tenants", []string{schema.HeaderTenant, "a"}},
		{event("f.a"), "f", "has no sub-tenants", nil},
		{event("tenants"), "tenants", "has sub-tenants", nil},
		{event("tenants.a"), "tenants", "absent, or the sub-tenant of the subject", []string{schema.HeaderTenant, "b"}},
		{event("f"), "f", "UUID", []string{schema.HeaderRequestID, "mine"}},
		{event("f"), "f", "JSON object", []string{schema.HeaderClientContext, "[]"}},
		{event("a.b.c"), "a.b.c", "events go to", nil},
		{event("=zz"), "=zz", "events go to", nil},
		{event("=zz.x"), "=zz.x", "events go to", nil},
		{event("_"), "_", "events go to", nil},
		// The server stores what is published under a wildcard.
		{event("*"), "*", "events go to", nil},
		{event(">"), ">", "events go to", nil},
		{event("f.*"), "f.*", "events go to", nil},
		{event("nobody.>"), "nobody.>", "events go to", nil},
		{event(strings.Repeat("n", 300)), strings.Repeat("n", 300), "", nil},
	}
	for i, c := range cases {
		if _, err := b.publish(t, c.subject, fmt.Sprint("payload ", i), c.header...); err != nil {
			t.Fatalf("%s: %v", c.subject, err)
		}
	}
	b.drained(t)
	letters := map[string]schema.DeadLetter{}
	for _, d := range b.dead(t, uint64(len(cases))) {
		letters[string(d.Event.Payload)] = d
	}
	for i, c := range cases {
		d, ok := letters[fmt.Sprint("payload ", i)]
		if !ok {
			t.Errorf("%s %v: not among the dead letters", c.subject, c.header)
			continue
		}
		if d.Reason != schema.DeadInvalid || d.Event.Function != c.function || d.Error == nil || !strings.Contains(d.Error.Message, c.says) {
			t.Errorf("%s %v: %s of %q, error %+v, want %q", c.subject, c.header, d.Reason, d.Event.Function, d.Error, c.says)
		}
		// Whoever asks by the id of the event hears why (`hearth trace`).
		ask, err := schema.Marshal(schema.StoryAsk{V: schema.Version, RequestID: d.Event.RequestID, Account: subjects.DefaultAccount})
		if err != nil {
			t.Fatal(err)
		}
		inbox := b.frontend.NewInbox()
		answers, err := b.frontend.SubscribeSync(inbox)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.frontend.PublishRequest(b.Names.Trace(d.Event.RequestID), inbox, ask); err != nil {
			t.Fatal(err)
		}
		var part schema.StoryPart
		for part.Node.Kind != schema.StoryFrontend { // the manager answers too, that it knows nothing
			m, err := answers.NextMsg(5 * time.Second)
			if err != nil {
				t.Fatal(err)
			}
			part = schema.StoryPart{}
			if err := schema.Unmarshal(m.Data, &part); err != nil {
				t.Fatal(err)
			}
		}
		_ = answers.Unsubscribe()
		if len(part.Calls) != 1 || !strings.Contains(fmt.Sprint(part.Calls[0].Steps), c.says) {
			t.Errorf("%s %v: the story of %s is %+v, want %q in it", c.subject, c.header, d.Event.RequestID, part.Calls, c.says)
		}
	}
	if n := len(b.worker.started("f")) + len(b.worker.started("tenants")); n != 0 {
		t.Errorf("%d of them ran", n)
	}
	// Names are cheap to invent: what belongs to no function has no consumer.
	s, err := b.js.Stream(t.Context(), b.events())
	if err != nil {
		t.Fatal(err)
	}
	if n := s.CachedInfo().State.Consumers; n != 2 {
		t.Errorf("%d consumers on EVENTS, want those of f and tenants", n)
	}
}

// A function that is deleted while its events wait leaves dead letters.
func TestDeletedFunction(t *testing.T) {
	t.Parallel()
	b := setupWith(t, 1, nil)
	hold := b.worker.hold(t, "f")
	const n = 50
	for i := range n {
		b.event(t, "f", fmt.Sprint(i))
	}
	natstest.Eventually(t, patience, func() bool { return len(b.worker.started("f")) == 1 }, "one runs")
	if err := b.functions(t).Delete(t.Context(), functionKey("f")); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, patience, func() bool {
		_, _, ok := b.f.Function(subjects.DefaultAccount, "f")
		return !ok
	}, "the frontend knows that it is gone")
	hold.release()
	b.drained(t)
	ran := len(b.worker.started("f"))
	d := b.dead(t, uint64(n-ran))
	if len(d) != n-ran || d[0].Reason != schema.DeadInvalid {
		t.Errorf("%d ran, %d dead letters, the first: %+v", ran, len(d), d[0])
	}
}

// A restart of the server keeps every event that it accepted.
func TestServerRestart(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var runs atomic.Int64
	hold := b.worker.hold(t, "f")
	const n = 500
	for i := range n {
		b.event(t, "f", fmt.Sprint(i))
	}
	natstest.Eventually(t, patience, func() bool { return len(b.worker.started("f")) > 0 }, "some run")
	b.Restart(t)
	b.worker.on("f", func(*schema.Call) *schema.FunctionError {
		runs.Add(1)
		return nil
	})
	hold.release()
	natstest.Eventually(t, 2*patience, func() bool { // some were refused for want of a server, and back off
		for _, name := range []string{b.events(), b.retries()} {
			if s, err := b.js.Stream(t.Context(), name); err != nil || s.CachedInfo().State.Msgs > 0 {
				return false
			}
		}
		return true
	}, "all events are done")
	seen := map[string]bool{}
	for _, c := range b.worker.started("f") {
		seen[string(c.Payload)] = true
	}
	if len(seen) != n {
		t.Errorf("%d of %d events ran", len(seen), n)
	}
}
