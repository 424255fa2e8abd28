package manager_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/manager"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

func perTenant(r *schema.FunctionRecord) { r.PerTenant = true }

// tell is how many environments a manager tells of an arc that are ready, by sub-tenant; "" are the generic ones.
func (n *node) tell(arc string) map[string]int {
	ready := make(map[string]int)
	for _, a := range n.Status().Arcs {
		if a.Arc == arc {
			ready[a.Tenant] += a.Ready
		}
	}
	return ready
}

// as calls the reserved arc for a sub-tenant and waits for the answer.
func (r *reservation) as(tenant string) *nats.Msg {
	r.t.Helper()
	a := r.listen()
	call := r.reserved(a.inbox)
	call.Tenant = tenant
	r.publishReserved(call)
	m := a.want(1)[0]
	if string(m.Data) != string(call.Payload) {
		r.t.Fatalf("answered %q", m.Data)
	}
	return m
}

// S60, S62: a call of a sub-tenant binds a member that was generic, which is replaced at once; its next call finds the same one warm,
// another's never does.
func TestTenantsOfAReservation(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	r := reserveFor(t, f, 1, perTenant)
	arc, n := r.arc().ArcName(), r.nodes[0]
	n.MakeGeneric(r.arc(), r.key, 3)
	r.offered(3)
	bound := make(map[string]string)
	want := map[string]int{"": 3}
	for i, tenant := range []string{"a", "b", "a", "c", "b", "a"} {
		m := r.as(tenant)
		kind := schema.StartWarm
		if bound[tenant] == "" {
			kind, bound[tenant] = schema.StartSpecialised, m.Header.Get(schema.HeaderEnvironment)
			want[tenant] = 1
		}
		if start(m) != kind || m.Header.Get(schema.HeaderEnvironment) != bound[tenant] || m.Header.Get(schema.HeaderArc) != arc {
			t.Errorf("call %d of %s: %s in %s on %s, want %s in %s", i, tenant, start(m), m.Header.Get(schema.HeaderEnvironment),
				m.Header.Get(schema.HeaderArc), kind, bound[tenant])
		}
		natstest.Eventually(t, patience, func() bool { return fmt.Sprint(n.tell(arc)) == fmt.Sprint(want) }, "the share is generic again")
	}
	if s := n.Status(); s.Reserved != 3 || s.Surplus != 0 {
		t.Errorf("%d reserved, %d surplus", s.Reserved, s.Surplus)
	}
	if c := n.Counters(); c.Cold != 0 || c.Specialised != 3 || c.Warm != 3 || c.Moved != 0 {
		t.Errorf("%+v", c)
	}
}

// A manager whose idle members are all another sub-tenant's hands a claim to one that tells a generic one, or what is its own; where
// there is neither, the claim moves to the unreserved arc and gets an environment there.
func TestTenantsWithinAnArc(t *testing.T) {
	t.Parallel()
	for try := 1; !tenantsWithinAnArc(t, try == 5); try++ {
		t.Logf("try %d: a promise did not come within 20 ms, and is none: this machine is busy with other things", try)
	}
}

// tenantsWithinAnArc is false where a promise came too late, unless it is the last try: then that fails the test.
func tenantsWithinAnArc(t *testing.T, last bool) bool {
	f := natstest.Start(t)
	r := reserveFor(t, f, 2, perTenant, set("reclaim", "1h"))
	arc, first, second := r.arc().ArcName(), r.nodes[0], r.nodes[1]
	promised := func() bool { return last || first.Counters().Unpromised+second.Counters().Unpromised == 0 }
	heard := func(what string, at, of *node, ready, bound int) {
		t.Helper()
		natstest.Eventually(t, patience, func() bool {
			r, b := at.Members(of.ID(), arc)
			return r == ready && b == bound
		}, what)
	}
	expect := func(tenant string, at *node, kind schema.Start) *nats.Msg {
		t.Helper()
		m := r.as(tenant)
		if promised() && (m.Header.Get(schema.HeaderManager) != at.ID() || start(m) != kind) {
			t.Errorf("%s: %s at %s on %s, want %s at %s", tenant, start(m), m.Header.Get(schema.HeaderManager), m.Header.Get(schema.HeaderArc),
				kind, at.ID())
		}
		return m
	}
	first.MakeGeneric(r.arc(), r.key, 1)
	r.offered(1)
	first.MakeGeneric(r.arc(), r.key, 0) // what is bound now is not replaced
	expect("b", first, schema.StartSpecialised)
	second.MakeGeneric(r.arc(), r.key, 1)
	heard("a generic member elsewhere", first, second, 1, 0)
	ranked := func() {
		t.Helper()
		natstest.Eventually(t, patience, func() bool {
			return first.Class(arc) == subjects.ReservedClass(0, 2) && second.Class(arc) == subjects.ReservedClass(1, 2) && first.Settled() && second.Settled()
		}, "the first is before the second")
		r.processed()
	}
	ranked()
	expect("a", second, schema.StartSpecialised)
	if !promised() {
		return false
	}
	heard("what is bound elsewhere, and replaced", first, second, 1, 1)
	ranked()
	expect("a", second, schema.StartWarm)
	expect("b", first, schema.StartWarm)
	if !promised() {
		return false
	}
	if one, two := first.Counters(), second.Counters(); one.HandedOver < 2 || two.TakenOver != one.HandedOver || one.Moved+two.Moved != 0 {
		t.Errorf("handed over %d, taken over %d, moved %d and %d", one.HandedOver, two.TakenOver, one.Moved, two.Moved)
	}
	second.MakeGeneric(r.arc(), r.key, 0)
	expect("c", second, schema.StartSpecialised)
	if !promised() {
		return false
	}
	heard("nothing generic anywhere", first, second, 0, 2)
	m := r.as("d")
	if !promised() {
		return false
	}
	if start(m) != schema.StartCold || m.Header.Get(schema.HeaderReason) != string(schema.ReasonOverflow) || subjects.IsReservedName(m.Header.Get(schema.HeaderArc)) {
		t.Errorf("d: %s on %s by %s", start(m), m.Header.Get(schema.HeaderArc), m.Header.Get(schema.HeaderReason))
	}
	if n := r.sum(moved); n != 1 {
		t.Errorf("%d calls moved", n)
	}
	natstest.Eventually(t, patience, func() bool { return r.waits() == 0 }, "no call lies anywhere")
	return true
}

// S63, S66, S67: an idle environment of one sub-tenant serves no other; with no room left the least recently used one ends, and a new
// one is made.
func TestTenantsWithoutRoom(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	n := startNode(t, f, f.Connect(t), "m0", capacity(3))
	c := newCaller(t, f, "f1")
	key := c.deploy("resize", perTenant)
	settled(t, c, []*node{n})
	ran := make(map[string]string)
	call := func(tenant string, kind schema.Start) {
		t.Helper()
		k := key
		k.Tenant = tenant
		m := c.invoke("resize", k)
		id := m.Header.Get(schema.HeaderEnvironment)
		for other, was := range ran {
			if was == id && other != tenant {
				t.Errorf("%s ran in the environment of %s", tenant, other)
			}
		}
		if ran[tenant] = id; start(m) != kind {
			t.Errorf("%s: %s, want %s", tenant, start(m), kind)
		}
	}
	for _, tenant := range []string{"a", "b", "c"} {
		call(tenant, schema.StartCold)
	}
	call("a", schema.StartWarm) // b is the least recently used one now
	call("d", schema.StartCold)
	call("a", schema.StartWarm)
	call("c", schema.StartWarm)
	call("b", schema.StartCold)
	if live := n.worker.live(); live != 3 {
		t.Errorf("%d environments in 3 places", live)
	}
	var told []string
	for _, a := range n.Status().Arcs {
		told = append(told, a.Tenant)
	}
	if slices.Sort(told); !slices.Equal(told, []string{"a", "b", "c"}) {
		t.Errorf("told of %q", told)
	}
}

// Late binding over sub-tenants: environments are made for nobody, and the first that is ready takes the oldest claim that needs one.
func TestTenantsBindLate(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	inits := make(chan struct{})
	n := startNode(t, f, f.Connect(t), "m0", func(_ *manager.Config, w *echoWorker) {
		w.init = func(b *schema.Binding) *schema.FunctionError {
			if b.Tenant != "" || !b.PerTenant {
				return &schema.FunctionError{Type: "Test", Message: fmt.Sprintf("made for %q", b.Tenant)}
			}
			<-inits
			return nil
		}
	})
	c := newCaller(t, f, "f1")
	key := c.deploy("resize", perTenant)
	settled(t, c, []*node{n})
	var all []*answers
	for i, tenant := range []string{"a", "b", "c"} {
		a := c.listen()
		k := key
		k.Tenant = tenant
		c.publish(c.call("resize", k, a.inbox))
		natstest.Eventually(t, patience, func() bool { return n.worker.live() == i+1 }, "an environment is made for it")
		all = append(all, a)
	}
	for i := range all { // one becomes ready, whichever it is
		inits <- struct{}{}
		if m := all[i].want(1)[0]; start(m) != schema.StartCold {
			t.Errorf("call %d: %s", i, start(m))
		}
	}
}
