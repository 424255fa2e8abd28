package frontend_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/frontend"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// S10, S20, S21 and the rows between them, on real subjects: every decision is made on what was told before the call came.
func TestReservedArc(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{functions: []*schema.FunctionRecord{published("f")}})
	unreserved := b.claimer(t, "f")
	unreserved.held(t, "f", schema.ReasonUnreserved).end(t) // no record
	b.nothingInFlight(t)
	r := b.reserve(t, "f", 2)
	members := r.claimer(t)
	unreserved.held(t, "f", schema.ReasonUnreserved).end(t) // no member
	b.nothingInFlight(t)
	m := b.tells(t, "m2", r.arc(2, 0))
	one, two := members.held(t, "f", schema.ReasonReserved), members.held(t, "f", schema.ReasonReserved)
	m.tell(t, r.arc(2, 2))
	three := unreserved.held(t, "f", schema.ReasonScale)
	m.tell(t, r.arc(2, 1))
	four := members.held(t, "f", schema.ReasonSpillover)
	b.send(t, "f", nil) // $LATEST is never reserved
	latest := unreserved.claim(t).ack(t)
	latest.wants(t, schema.ReasonUnreserved)
	for _, c := range []*claim{one, two, three, four, latest} {
		c.end(t)
	}
	b.nothingInFlight(t)

	// S33: L = 0, members serve on while they are in use, and none is reserved.
	r.record.State, r.record.Limit = schema.ReservationDraining, 0
	m.tell(t, r.arc(3, 1))
	r.put(t)
	natstest.Eventually(t, patience, func() bool {
		b.send(t, "f", nats.Header{schema.HeaderQualifier: {"1"}})
		c := members.claim(t).ack(t)
		c.end(t)
		return c.call.Reason == schema.ReasonSpillover
	}, "a draining reservation reserves")
	b.nothingInFlight(t)

	// The key is purged: nothing is left of it.
	if err := b.kv(t, topology.Reservations).Purge(t.Context(), subjects.ReservationKey("default", "f", "1")); err != nil {
		t.Fatal(err)
	}
	r.record.Marker = 0
	r.seen(t)
	unreserved.held(t, "f", schema.ReasonUnreserved).end(t)
	b.nothingInFlight(t)
}

// S21: theta 0.9.
func TestTheta(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{
		functions: []*schema.FunctionRecord{published("f")}, fabric: func(f *schema.Fabric) { f.Theta = 0.9 },
	})
	r := b.reserve(t, "f", 1)
	members, unreserved := r.claimer(t), b.claimer(t, "f")
	m := b.tells(t, "m2", r.arc(10, 0))
	members.held(t, "f", schema.ReasonReserved)
	m.tell(t, r.arc(10, 9))
	unreserved.held(t, "f", schema.ReasonScale)
	m.tell(t, r.arc(10, 8))
	members.held(t, "f", schema.ReasonSpillover)
}

// S15: every call counts once, under its last reason.
func TestReasonsSum(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{functions: []*schema.FunctionRecord{published("f"), published("g")}})
	r := b.reserve(t, "f", 1)
	members, unreserved := r.claimer(t), b.claimer(t, "f")
	m := b.tells(t, "m2", r.arc(1, 0))
	held := []*claim{members.held(t, "f", schema.ReasonReserved), members.held(t, "f", schema.ReasonSpillover)}
	m.tell(t, r.arc(1, 1))
	held = append(held, unreserved.held(t, "f", schema.ReasonScale))
	m.tell(t)
	held = append(held, unreserved.held(t, "f", schema.ReasonUnreserved))
	m.tell(t, r.arc(5, 0))
	sub := b.send(t, "f", one())
	held = append(held, unreserved.move(t, members.claim(t)))
	for _, c := range held {
		c.answer(t, []byte("1"), nil)
		c.end(t)
	}
	if got := next(t, sub).Header.Get(schema.HeaderReason); got != "overflow" {
		t.Errorf("the moved call's answer says %q", got)
	}
	b.nothingInFlight(t)
	wantRefusal(t, next(t, b.send(t, "f", one(schema.HeaderTimeout, "50ms"))), schema.CodeCapacityExceeded, "start-by")
	b.send(t, "g", one())
	b.claimer(t, "g").run(t, schema.ReasonUnreserved)
	b.nothingInFlight(t)
	got := b.f.Counters()
	f := got.Routed[frontendName("f")]
	if f.Reserved != 2 || f.Spillover != 1 || f.Scale != 1 || f.Overflow != 1 || f.Unreserved != 1 || f.Sum() != 6 {
		t.Errorf("counted %+v", f)
	}
	if g := got.Routed[frontendName("g")]; g.Unreserved != 1 || g.Sum() != 1 {
		t.Errorf("counted %+v", g)
	}
	if total := f.Sum() + got.Routed[frontendName("g")].Sum(); total != got.Calls {
		t.Errorf("%d calls have a reason, %d came", total, got.Calls)
	}
}

// The numbers behind a decision are those of calls at all frontends (C) and of all managers (S, B); what a frontend or a manager
// told goes with it.
func TestCountsOfOthers(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{functions: []*schema.FunctionRecord{published("f")}})
	other := b.start(t, settings{})
	r := b.reserve(t, "f", 3)
	natstest.Eventually(t, patience, func() bool { return other.Sees("default", "f", "1", r.record.Marker) }, "the other sees nothing")
	members, unreserved := r.claimer(t), b.claimer(t, "f")
	b.tells(t, "m2", r.arc(2, 2))
	b.tells(t, "m3", r.arc(1, 1))
	for _, f := range []*frontend.Frontend{b.f, other} {
		// Calls from this process come by no connection, so nothing orders them after what is told.
		natstest.Eventually(t, patience, func() bool {
			ready, busy := f.Members("default", "f", "1")
			return ready == 3 && busy == 3
		}, "members are not counted")
	}
	elsewhere := func(n int64) {
		t.Helper()
		natstest.Eventually(t, patience, func() bool { return b.f.Elsewhere("default", "f", "1") == n },
			fmt.Sprintf("the other's calls are not counted as %d", n))
	}
	invoke := func(f *frontend.Frontend, from *claimer, reason schema.Reason) *claim {
		t.Helper()
		go func() {
			_, _ = f.Invoke(t.Context(), &schema.Request{Account: "default", Function: "f", Qualifier: "1"})
		}()
		c := from.claim(t).ack(t)
		c.wants(t, reason)
		return c
	}
	first := invoke(other, members, schema.ReasonReserved)
	elsewhere(1)
	second := invoke(other, members, schema.ReasonReserved)
	elsewhere(2)
	third := invoke(b.f, members, schema.ReasonReserved)  // 1 + 2 elsewhere = L
	fourth := invoke(b.f, unreserved, schema.ReasonScale) // L + 1, and all members are busy
	first.answer(t, []byte("1"), nil)
	elsewhere(1)
	fifth := invoke(b.f, unreserved, schema.ReasonScale) // 1 + 2 + 1 elsewhere
	for _, c := range []*claim{third, fourth, fifth} {
		c.answer(t, []byte("1"), nil)
	}
	b.nothingInFlight(t)
	natstest.Eventually(t, patience, func() bool { return other.Elsewhere("default", "f", "1") == 0 }, "calls that ended are counted")
	second.answer(t, []byte("1"), nil)
	elsewhere(0)
	ghost, err := schema.Marshal(&schema.FrontendStatus{
		V: schema.Version, ID: "ghost", Incarnation: "1", Number: 1, InFlight: map[string]int{"id-f.1": 5, "id-f.2": 7},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.manager.Publish(b.Names.FrontendStatus("ghost"), ghost); err != nil {
		t.Fatal(err)
	}
	elsewhere(5)
	elsewhere(0) // it was killed: its silence ends what it told
}

// A member that went idle is told before the answer of the call that made it so, and read before the caller's next call,
// however much else is told: else that call would go cold. Without [frontend.statusQueue.catchUp] some do.
func TestIdleIsReadBeforeTheNextCall(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{functions: []*schema.FunctionRecord{published("f")}})
	r := b.reserve(t, "f", 1)
	r.record.State, r.record.Limit = schema.ReservationDraining, 0 // so that B alone decides
	r.put(t)
	members := r.claimer(t)
	crowd := make([]schema.ArcStatus, natstest.Fewer(300, 60))
	for i := range crowd {
		crowd[i] = schema.ArcStatus{Arc: fmt.Sprintf("r.1.default.other.1.%d", i), Account: "default", Function: "other", Version: "1", Ready: 1}
	}
	m := b.tells(t, "m2", append(crowd, r.arc(1, 0))...)
	natstest.Eventually(t, patience, func() bool {
		b.send(t, "f", one())
		c := members.claim(t).ack(t)
		c.end(t)
		return c.call.Reason == schema.ReasonSpillover
	}, "does not drain")
	b.nothingInFlight(t)
	for i := range natstest.Fewer(200, 20) {
		sub := b.send(t, "f", one())
		members.pull(t)
		msg, err := members.sub.NextMsg(patience)
		if err != nil {
			t.Fatalf("call %d did not come to the reserved arc: %+v", i, b.f.Counters().Routed)
		}
		c := &claim{b: b, msg: msg}
		if err := schema.DecodeCall(msg.Data, &c.call); err != nil {
			t.Fatal(err)
		}
		c.ack(t)
		m.tell(t, append(crowd, r.arc(1, 1))...) // busy
		for range 5 {
			m.mu.Lock()
			m.publish(t, m.status) // what else is told
			m.mu.Unlock()
		}
		m.change(t, r.arc(1, 0))
		c.answer(t, []byte("1"), nil)
		next(t, sub)
		c.end(t)
	}
	b.nothingInFlight(t)
	if got := b.f.Counters().Routed[frontendName("f")]; got.Scale != 0 {
		t.Errorf("calls were decided on a view that was out of date: %+v", got)
	}
}

// Every door leads to the same decision, and every answer says what it was: HTTP's with the headers of NATS', an event's try to
// the reserved arc as a sync call.
func TestReservedByEveryDoor(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{http: true, functions: []*schema.FunctionRecord{published("f")}})
	r := b.reserve(t, "f", 1)
	b.tells(t, "m2", r.arc(2, 0))
	members := r.claimer(t)
	type result struct {
		resp *http.Response
		err  error
	}
	answered := make(chan result, 1)
	go func() {
		resp, err := http.Post(b.url+"/2015-03-31/functions/f/invocations?Qualifier=1", "application/json", strings.NewReader(`{}`))
		answered <- result{resp, err}
	}()
	members.run(t, schema.ReasonReserved)
	got := <-answered
	if got.err != nil {
		t.Fatal(got.err)
	}
	defer got.resp.Body.Close()
	if h := got.resp.Header; h.Get(schema.HeaderArc) != r.name() || h.Get(schema.HeaderReason) != "reserved" {
		t.Errorf("headers %v", h)
	}
	b.nothingInFlight(t)
	event := &nats.Msg{Subject: b.Names.Event(subjects.DefaultAccount, "f", ""), Header: one(), Data: []byte(`{}`)}
	if _, err := b.JetStream(t).PublishMsg(t.Context(), event); err != nil {
		t.Fatal(err)
	}
	members.run(t, schema.ReasonReserved)
	b.nothingInFlight(t)
	if got := b.f.Counters().Routed[frontendName("f")]; got != (frontend.Reasons{Reserved: 2}) {
		t.Errorf("counted %+v", got)
	}
}

// A reservation is its function's: one of the same name that was made anew has none, and records that cannot be used, of another
// function, shard or key, change no call.
func TestReservationsOfNobody(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{functions: []*schema.FunctionRecord{published("f"), published("h")}})
	r := b.reserve(t, "f", 1)
	b.tells(t, "m2", r.arc(2, 0))
	members, unreserved := r.claimer(t), b.claimer(t, "f")
	again := published("f")
	again.ID = "another"
	at := b.deploy(t, again)
	natstest.Eventually(t, patience, func() bool {
		_, revision, _ := b.f.Function("default", "f")
		return revision == at
	}, "not deployed")
	unreserved.held(t, "f", schema.ReasonUnreserved).end(t)
	b.nothingInFlight(t)
	// The record comes before the function's as well as after it.
	b.deploy(t, published("f"))
	r.seen(t)
	members.held(t, "f", schema.ReasonReserved).end(t)
	b.nothingInFlight(t)
	bad := r.record
	bad.Shard = subjects.MaxShards
	key := subjects.ReservationKey("default", "f", "1")
	b.put(t, topology.Reservations, key, &bad)
	b.put(t, topology.Reservations, "x", &r.record)
	b.put(t, topology.Reservations, subjects.ReservationKey("default", "g", "1"), &r.record)
	last := r.record
	last.Account, last.Function, last.Version = "default", "echo", schema.Latest
	last.FunctionID = "id-echo"
	b.put(t, topology.Reservations, subjects.ReservationKey("default", "echo", schema.Latest), &last)
	b.reserve(t, "h", 1)                               // seen after those before it
	members.held(t, "f", schema.ReasonReserved).end(t) // the last good record
	b.nothingInFlight(t)
	b.send(t, "echo", nil)
	b.claimer(t, "echo").run(t, schema.ReasonUnreserved)
	b.nothingInFlight(t)
}
