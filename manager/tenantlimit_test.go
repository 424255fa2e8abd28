package manager_test

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/manager"
	"github.com/hearth-run/hearth/manager/pool"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// each limits every sub-tenant of a function.
func each(n int) func(*schema.FunctionRecord) {
	return func(rec *schema.FunctionRecord) { rec.PerTenant, rec.TenantConcurrency = true, &n }
}

// tenantThrottled wants the refusal of a call whose sub-tenant has what its limit allows.
func tenantThrottled(t *testing.T, m *nats.Msg, tenant string) {
	t.Helper()
	e := schema.ParseErrorHeaders(m.Header.Get(schema.HeaderErrorCode), m.Header.Get(schema.HeaderError))
	if refused(m) == nil || e.Code != schema.CodeTenantLimit || e.Reason != schema.ThrottleConcurrency || e.Retry <= 0 ||
		!strings.Contains(e.Message, fmt.Sprintf("%q", tenant)) {
		t.Errorf("answered %q, %v, want sub-tenant %s throttled", m.Data, m.Header, tenant)
	}
}

// S66: whatever frontends let in, a sub-tenant has no more environments at a manager than its limit says, over all versions: its own idle
// one of another version makes way, else it is throttled. Its neighbour's environment stays and stays warm. A limit set below what runs is
// kept as the calls end.
func TestTenantLimit(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	g := newGate()
	n := startNode(t, f, f.Connect(t), "m0", capacity(10), func(_ *manager.Config, w *echoWorker) {
		w.run = func(r *schema.Run) {
			if r.Call.Tenant == "noisy" && r.Call.Qualifier == "hold" {
				g.pass(r)
			}
		}
	})
	c := newCaller(t, f, "f1")
	opened(t, g)
	settled(t, c, []*node{n})
	latest := c.deploy("shop", each(2), second)
	of := func(version, tenant string) schema.Key {
		k := latest
		k.Version, k.Tenant = version, tenant
		return k
	}
	hold := func(version string) *answers {
		t.Helper()
		a := c.listen()
		call := c.call("shop", of(version, "noisy"), a.inbox)
		call.Qualifier = "hold"
		c.publish(call)
		return a
	}
	quiet := c.invoke("shop", of(schema.Latest, "quiet")).Header.Get(schema.HeaderEnvironment)
	idle := c.invoke("shop", of("1", "noisy")).Header.Get(schema.HeaderEnvironment)
	var all []*answers
	for i := range 2 { // the second takes the place of the idle one
		all = append(all, hold(schema.Latest))
		natstest.Eventually(t, patience, func() bool { return g.held() == i+1 }, "the call runs")
	}
	natstest.Eventually(t, patience, func() bool { return n.worker.live() == 3 }, "its idle one has gone")
	for _, version := range []string{schema.Latest, "1"} {
		tenantThrottled(t, hold(version).want(1)[0], "noisy")
	}
	for range 3 {
		m := c.invoke("shop", of(schema.Latest, "quiet"))
		if start(m) != schema.StartWarm || m.Header.Get(schema.HeaderEnvironment) != quiet {
			t.Errorf("the neighbour: %s in %s, want warm in %s", start(m), m.Header.Get(schema.HeaderEnvironment), quiet)
		}
	}
	c.deploy("shop", each(3), second)
	var third *answers
	natstest.Eventually(t, patience, func() bool {
		if third == nil {
			third = hold("1")
		}
		if g.held() == 3 {
			return true
		}
		if m, err := third.sub.NextMsg(time.Millisecond); err == nil { // the manager did not know the new limit yet
			tenantThrottled(t, m, "noisy")
			third = nil
		}
		return false
	}, "with a higher limit it runs")
	all = append(all, third)
	c.deploy("shop", each(1), second)
	close(g.open)
	for _, a := range all {
		if m := a.want(1)[0]; refused(m) != nil || m.Header.Get(schema.HeaderEnvironment) == idle {
			t.Errorf("held: %v in %s", refused(m), m.Header.Get(schema.HeaderEnvironment))
		}
	}
	natstest.Eventually(t, patience, func() bool { return n.worker.live() == 2 }, "one of each is left")
}

// second gives a function a version 1.
func second(rec *schema.FunctionRecord) {
	v := rec.Latest
	v.Version = "1"
	rec.Versions = append(rec.Versions, v)
}

// On a reserved arc the member goes to another sub-tenant, and who may have no more is throttled there, without a move.
func TestTenantLimitOfAReservation(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	g := newGate()
	r := reserveFor(t, f, 1, each(1), func(_ *manager.Config, w *echoWorker) {
		w.run = func(run *schema.Run) {
			if run.Call.Tenant == "noisy" {
				g.pass(run)
			}
		}
	})
	opened(t, g)
	r.nodes[0].MakeGeneric(r.arc(), r.key, 2)
	r.offered(2)
	a := r.listen()
	for i := range 2 {
		call := r.reserved(a.inbox)
		call.Tenant = "noisy"
		r.publishReserved(call)
		if i == 0 {
			natstest.Eventually(t, patience, func() bool { return g.held() == 1 }, "the first runs")
		}
	}
	tenantThrottled(t, a.want(1)[0], "noisy")
	if m := r.as("quiet"); start(m) != schema.StartSpecialised {
		t.Errorf("the neighbour: %s", start(m))
	}
	close(g.open)
	a.want(1)
	if n := r.sum(moved); n != 0 {
		t.Errorf("%d calls were moved", n)
	}
}

// generic are the environments that are idle and nobody's.
func (w *echoWorker) generic() (ids []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, e := range w.environments {
		if e.tenant == "" && !e.busy && !e.ended {
			ids = append(ids, id)
		}
	}
	return ids
}

// Caps that count what is set aside get its place: at the function's limit the sub-tenant's own idle one of another version goes and comes
// back, time after time, and nothing is held for what has gone. So it does at the fabric's for the idle one of another function.
func TestAsideMakesWay(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	n := startNode(t, f, f.Connect(t), "m0", capacity(3), set("max-environments", "3"))
	c := newCaller(t, f, "f1")
	settled(t, c, []*node{n})
	latest, other := c.deploy("shop", each(1), limited(2), second), c.deploy("other")
	call := func(tenant, version string) {
		t.Helper()
		k := latest
		k.Version, k.Tenant = version, tenant
		if m := c.invoke("shop", k); refused(m) != nil {
			t.Errorf("%s of version %s: %v", tenant, version, refused(m))
		}
	}
	for range 3 {
		call("a", "1")
		call("b", "1")
		call("b", schema.Latest)
		if m := c.invoke("other", other); refused(m) != nil {
			t.Errorf("the other function: %v", refused(m))
		}
		call("c", "1")
	}
	for range 3 { // its place at the manager, and of the fabric, is one
		third := c.deploy("third")
		if m := c.invoke("third", third); refused(m) != nil {
			t.Errorf("a third function: %v", refused(m))
		}
		if m := c.invoke("other", other); refused(m) != nil {
			t.Errorf("the other function: %v", refused(m))
		}
		call("a", schema.Latest)
		call("b", schema.Latest)
	}
	natstest.Eventually(t, patience, func() bool {
		return n.worker.live() <= 3 && c.holdings("f.default.shop").Others("") <= 2 && c.holdings("a.default").Others("") == n.worker.live()
	}, "what has gone holds nothing")
}

// S62 on the wire: two sub-tenants race for the last generic member, again and again. No environment serves two, and somebody has it.
func TestTenantsRace(t *testing.T) {
	t.Parallel()
	rounds := 20
	if os.Getenv("HEARTH_LONG") != "" {
		rounds = 1000
	}
	f := natstest.Start(t)
	r := reserveFor(t, f, 2, perTenant, set("reclaim", "1h"), set("growth", "100000"))
	n := r.nodes[0]
	n.MakeGeneric(r.arc(), r.key, 1)
	r.offered(1)
	owner := make(map[string]string)
	specialised := 0
	for round := range rounds {
		var last string
		natstest.Eventually(t, patience, func() bool {
			generic := n.worker.generic()
			if len(generic) == 1 {
				last = generic[0]
			}
			return len(generic) == 1 && n.Settled()
		}, "the share is whole")
		var all [2]*answers
		for i := range all {
			all[i] = r.listen()
			call := r.reserved(all[i].inbox)
			call.Tenant = fmt.Sprintf("%c%d", 'a'+i, round)
			if err := r.tryPublish(call); err != nil {
				t.Fatal(err)
			}
		}
		took := 0
		for i := range all {
			m := all[i].want(1)[0]
			tenant, id := fmt.Sprintf("%c%d", 'a'+i, round), m.Header.Get(schema.HeaderEnvironment)
			if was, ok := owner[id]; ok || refused(m) != nil || start(m) == schema.StartWarm {
				t.Fatalf("round %d: %s: %s in %s, which served %q; %v", round, tenant, start(m), id, was, refused(m))
			}
			owner[id] = tenant
			if id == last {
				took++
				if start(m) == schema.StartSpecialised && subjects.IsReservedName(m.Header.Get(schema.HeaderArc)) {
					specialised++
				}
			}
		}
		if took != 1 {
			t.Fatalf("round %d: %d got the last generic member", round, took)
		}
	}
	if specialised != rounds {
		t.Errorf("it was bound on its arc in %d of %d rounds", specialised, rounds)
	}
}

// A call that was answered counts against nobody: the next one of a sub-tenant that may have one environment waits for that, however long
// it takes to ask for its next call, on every arc.
//
// Broken to see it fail: a pool that throttles what finds its one environment finishing for longer than Patience.
func TestTenantLimitOfWhatIsSlow(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	asks, answered := make(chan struct{}), make(chan struct{}, 8)
	r := reserveFor(t, f, 1, each(1), func(_ *manager.Config, w *echoWorker) {
		w.park = func(string) {
			answered <- struct{}{}
			<-asks
		}
	})
	var once sync.Once
	release := func() { once.Do(func() { close(asks) }) }
	t.Cleanup(release)
	r.nodes[0].MakeGeneric(r.arc(), r.key, 2)
	r.offered(2)
	publish := func(a *answers, reserved bool) {
		t.Helper()
		if reserved {
			call := r.reserved(a.inbox)
			call.Tenant = "on the arc"
			r.publishReserved(call)
			return
		}
		key := r.key
		key.Tenant = "off the arc"
		r.publish(r.call("resize", key, a.inbox))
	}
	first := [2]*answers{r.listen(), r.listen()}
	ran := [2]string{}
	for i, a := range first {
		publish(a, i == 1)
		ran[i] = a.want(1)[0].Header.Get(schema.HeaderEnvironment)
		<-answered
	}
	late := time.Now().Add(4 * pool.Patience)
	natstest.Eventually(t, patience, func() bool { return time.Now().After(late) }, "they may be stuck")
	next := [2]*answers{r.listen(), r.listen()}
	for i, a := range next {
		publish(a, i == 1)
		natstest.Eventually(t, patience, func() bool {
			if m, err := a.sub.NextMsg(time.Millisecond); err == nil {
				t.Fatalf("call %d is answered %q, %v, and its environment is not back", i, m.Data, refused(m))
			}
			return r.nodes[0].Waiting() == i+1
		}, "the call waits")
	}
	release()
	for i, a := range next {
		if m := a.want(1)[0]; start(m) != schema.StartWarm || m.Header.Get(schema.HeaderEnvironment) != ran[i] {
			t.Errorf("call %d: %s in %s, want warm in %s", i, start(m), m.Header.Get(schema.HeaderEnvironment), ran[i])
		}
	}
}

// What is warm elsewhere goes before what is slow here: a call whose sub-tenant may have one environment, which has answered here and does
// not ask for its next call, runs where another manager has one that is idle.
//
// Broken to see it fail: a pool whose Warm holds what is slow.
func TestTenantLimitOfWhatIsWarmElsewhere(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	ids := []string{"m0", "m1"}
	nn := subjects.UnreservedArc(subjects.DefaultAccount, "resize", "a", natstest.Arcs)
	ranks, name := subjects.NewRing(0, ids).Unreserved(nil, nn, 0), subjects.UnreservedName(nn)
	asks := make(chan struct{})
	slow := func(cfg *manager.Config, w *echoWorker) {
		if cfg.ID == ids[ranks[0]] {
			w.park = func(string) { <-asks }
		}
	}
	var nodes []*node
	for _, id := range ids {
		nodes = append(nodes, startNode(t, f, f.Connect(t), id, slow))
	}
	t.Cleanup(func() { close(asks) })
	first, second := nodes[ranks[0]], nodes[ranks[1]]
	c := newCaller(t, f, "f1")
	settled(t, c, nodes)
	told(t, nodes)
	key := c.deploy("resize", each(1))
	key.Tenant = "a"
	deliver := func(n *node) (a *answers, came bool) {
		t.Helper()
		a = c.listen()
		msg := c.steal(nn, c.call("resize", key, a.inbox), a)
		if msg != nil {
			n.Deliver(name, msg)
		}
		return a, msg != nil
	}
	for _, n := range []*node{first, second} { // nothing is idle that could take it before
		a, came := deliver(n)
		if m := a.want(1)[0]; !came || m.Header.Get(schema.HeaderManager) != n.ID() {
			t.Fatalf("ran at %s, want %s", m.Header.Get(schema.HeaderManager), n.ID())
		}
		late := time.Now().Add(2 * pool.Patience)
		natstest.Eventually(t, patience, func() bool { return time.Now().After(late) && first.Class(name) == 10 && first.Settled() },
			"it is slow, and the server has heard that it is not on offer")
	}
	// A promise that does not come within 20 ms is no promise, and an idle environment's pull may have the call before: several tries.
	for try := 1; ; try++ {
		natstest.Eventually(t, patience, func() bool { return first.Knows(second.ID(), "resize") }, "the first rank knows of the environment")
		before, waited := first.Counters().Unpromised, first.Waiting()
		a, came := deliver(first)
		if !came && try < 20 {
			continue
		}
		natstest.Eventually(t, patience, func() bool {
			n, _, err := a.sub.Pending()
			return err != nil || n > 0 || first.Waiting() > waited
		}, "the call is decided")
		if first.Counters().Unpromised > before && try < 20 {
			continue // it waits, or is refused where one of the tries before still does
		}
		if n, _, err := a.sub.Pending(); err != nil || n == 0 {
			t.Fatal("it waits for what is slow")
		}
		if m := a.want(1)[0]; start(m) != schema.StartWarm || m.Header.Get(schema.HeaderManager) != second.ID() || !came {
			t.Errorf("%s at %s, want warm at %s", start(m), m.Header.Get(schema.HeaderManager), second.ID())
		}
		return
	}
}
