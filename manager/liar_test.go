package manager_test

import (
	"testing"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/manager"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// A manager that claims members which it does not have, all of the reservation, idle all the time: its reservation is told to be complete,
// the frontends send calls for all of it, and nothing is lost. What the others' members cannot take is moved by a catcher and runs, each
// call once, and what the others hold is theirs by their own shares: they neither give it up nor make up for the liar.
func TestManagerThatClaimsMoreThanItHas(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	g := newGate()
	n := startNode(t, f, f.Connect(t), "m1", set("reclaim", "200ms"), gated(g))
	liar := newCrowd(t, f, "m9")
	c := newCaller(t, f, "f1")
	opened(t, g)
	told(t, []*node{n})
	key := c.deployReserved("resize")
	liar.onRing("m1", "m9")
	liar.limit("resize", 4)
	r := &reservation{caller: c, key: key, rec: *liar.open("resize"), nodes: []*node{n}}
	name := r.arc().ArcName()
	natstest.Eventually(t, patience, func() bool { return n.tell(name)[""] == 2 && n.Settled() }, "the members that are there are offered")
	if ready, _ := n.Members("m9", name); ready != 4 {
		t.Fatalf("m9 claims %d, want all", ready)
	}
	a := r.listen()
	sent := make(map[string]bool)
	for range 6 {
		call := r.reserved(a.inbox)
		sent[call.RequestID] = true
		r.publishReserved(call)
	}
	natstest.Eventually(t, patience, func() bool { return g.held() == 6 }, "all run")
	close(g.open)
	on := make(map[bool]int)
	for _, m := range a.want(6) {
		if err := refused(m); err != nil {
			t.Errorf("refused: %v", err)
		}
		reserved := m.Header.Get(schema.HeaderArc) == name
		if on[reserved]++; !reserved && m.Header.Get(schema.HeaderReason) != string(schema.ReasonOverflow) {
			t.Errorf("on %s by reason %s", m.Header.Get(schema.HeaderArc), m.Header.Get(schema.HeaderReason))
		}
		delete(sent, m.Header.Get(schema.HeaderRequestID))
	}
	if len(sent) > 0 || on[true] != 2 || on[false] != 4 {
		t.Errorf("unanswered %v; %d in members, %d moved; want none, two, four", sent, on[true], on[false])
	}
	natstest.Eventually(t, patience, func() bool { return r.waits() == 0 }, "no call lies anywhere")
	if got := n.tell(name)[""]; got != 2 {
		t.Errorf("%d members beside the liar's", got)
	}
	// Nothing that it could say is believed beyond reason: two of its numbers would make a sum that is none. The members stay.
	status, err := schema.Marshal(schema.ManagerStatus{
		V: schema.Version, ID: "m9", Incarnation: "m9", Number: 1 << 62, Room: 1 << 62, Soon: 1 << 62, Capacity: 1 << 62,
		Arcs: []schema.ArcStatus{{Arc: name, Account: subjects.DefaultAccount, Function: "resize", Version: "1", Ready: 1 << 62, Idle: 1 << 62, Busy: -5}},
	})
	if err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, patience, func() bool {
		if err := liar.nc.Publish(liar.names.ManagerStatus("m9"), status); err != nil { // again: it counts for a while only
			t.Fatal(err)
		}
		ready, _ := n.Members("m9", name)
		return ready > 4
	}, "it is heard")
	if ready, _ := n.Members("m9", name); ready != manager.MaxTold {
		t.Errorf("m9 has %d members, want it taken for %d", ready, manager.MaxTold)
	}
	if room := n.RoomOf("m9"); room != 2*manager.MaxTold {
		t.Errorf("m9 has room for %d, want it taken for %d", room, 2*manager.MaxTold)
	}
	last := r.reserved(a.inbox)
	r.publishReserved(last)
	if m := a.want(1)[0]; start(m) != schema.StartWarm || m.Header.Get(schema.HeaderArc) != name || n.tell(name)[""] != 2 {
		t.Errorf("a call after that is %s on %s beside %d members, want warm on its arc beside two", start(m), m.Header.Get(schema.HeaderArc), n.tell(name)[""])
	}
}
