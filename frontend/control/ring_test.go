package control_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/frontend/control"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

func (b *bundle) ring(t *testing.T, request string) schema.RingOutput {
	t.Helper()
	m := b.ask(t, subjects.FabricAccount, "GetRing", request)
	var out schema.RingOutput
	if err := json.Unmarshal(m.Data, &out); err != nil || m.Header.Get(schema.HeaderErrorCode) != "" {
		t.Fatalf("GetRing: %v %s", m.Header, m.Data)
	}
	return out
}

func TestRing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.put(t, topology.Ring, schema.RingKey, schema.RingRecord{V: 1, Epoch: 7, Members: []string{"m1", "m2", "m3"}, Leaving: []string{"m4"}})
	b.view.managers = []schema.ManagerStatus{
		{ID: "m1", State: schema.MemberActive, Capacity: 40, Idle: 2, Busy: 1, Starting: 3},
		{ID: "m2", State: schema.MemberActive, Capacity: 20, Stock: &schema.Stock{Ready: 3, Made: 9, Frozen: 2}},
		{ID: "m4", State: schema.MemberActive, Capacity: 10}, // its last word before it began to leave
		{ID: "m5", State: schema.MemberActive, Capacity: 10}, // the same of one that has left
		{ID: "m6", State: schema.MemberJoining, Capacity: 10},
	}
	b.must(t, "CreateFunction", function("f", b.putZip(t, "zero"), nil))
	nn := subjects.UnreservedArc("default", "f", "", schema.DefaultFabric().Arcs)
	call := b.Names.UnreservedCall(nn, "default", "f", schema.Latest, "")
	for range 3 {
		if _, err := b.js.Publish(t.Context(), call, nil); err != nil {
			t.Fatal(err)
		}
	}
	consumer, err := b.js.Consumer(t.Context(), b.Names.CallsOf(nn), b.Names.UnreservedDurable(nn))
	if err != nil {
		t.Fatal(err)
	}
	claimed, err := consumer.Fetch(1, jetstream.FetchPrioritized(0), jetstream.FetchPriorityGroup(topology.PriorityGroup),
		jetstream.FetchMaxWait(patience))
	if err != nil {
		t.Fatal(err)
	}
	for m := range claimed.Messages() {
		t.Log("claimed", m.Subject())
	}
	if claimed.Error() != nil {
		t.Fatal(claimed.Error())
	}

	out := b.ring(t, "{}")
	natstest.Eventually(t, patience, func() bool { // the server counts what waits for a consumer after it has taken it in
		if out.Arcs[nn].Pending == 2 {
			return true
		}
		out = b.ring(t, "{}")
		return false
	}, "two calls wait")
	want := []schema.RingManager{
		{ID: "m1", State: schema.MemberActive, Capacity: 40, Environments: schema.RingEnvironments{Idle: 2, Busy: 1, Starting: 3}},
		{ID: "m2", State: schema.MemberActive, Capacity: 20}, {ID: "m3", State: control.MemberSilent},
		{ID: "m4", State: schema.MemberDraining, Capacity: 10}, {ID: "m6", State: schema.MemberJoining, Capacity: 10},
	}
	if stock := out.Managers[1].Stock; stock == nil || *stock != (schema.Stock{Ready: 3, Made: 9, Frozen: 2}) {
		t.Errorf("stock %+v", stock)
	}
	out.Managers[1].Stock = nil
	if out.Epoch != 7 || !slices.Equal(out.Managers, want) {
		t.Errorf("epoch %d, managers %+v", out.Epoch, out.Managers)
	}
	if len(out.Arcs) != schema.DefaultFabric().Arcs {
		t.Fatalf("%d arcs", len(out.Arcs))
	}
	ring := subjects.NewRing(schema.DefaultFabric().Vnodes, []string{"m1", "m2", "m3"})
	for i, arc := range out.Arcs {
		var ranks []string
		for _, m := range ring.Unreserved(nil, i, 0) {
			ranks = append(ranks, ring.Managers()[m])
		}
		pending, held := 0, 0
		if i == nn {
			pending, held = 2, 1
		}
		if arc.Subject != b.Names.UnreservedFilter(i) || arc.Kind != "unreserved" || arc.Length != 2 || !slices.Equal(arc.Ranks, ranks) ||
			arc.Pending != pending || arc.Claimed != held {
			t.Errorf("arc %d: %+v, want ranks %v, %d pending, %d claimed", i, arc, ranks, pending, held)
		}
	}

	one := b.ring(t, `{"FunctionName":"f"}`)
	if len(one.Arcs) != 1 || one.Arcs[0].Subject != b.Names.UnreservedFilter(nn) {
		t.Errorf("arcs of f: %+v", one.Arcs)
	}
	m := b.ask(t, subjects.FabricAccount, "GetRing", `{"FunctionName":"g"}`)
	if m.Header.Get(schema.HeaderErrorCode) != "404" {
		t.Errorf("ring of no function: %v", m.Header)
	}
	if err := b.js.DeleteStream(t.Context(), b.Names.CallsOf(nn)); err != nil {
		t.Fatal(err)
	}
	if a := b.ring(t, `{"FunctionName":"f"}`).Arcs[0]; a.Pending != control.Unknown || a.Claimed != control.Unknown {
		t.Errorf("without the stream: %+v", a)
	}
}

// TestRingOfPerTenant: its calls spread over the arcs by sub-tenant, so those count where managers have environments.
func TestRingOfPerTenant(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.must(t, "CreateFunction", function("f", b.putZip(t, "zero"), object{"TenancyConfig": object{"TenantIsolationMode": "PER_TENANT"}}))
	arc := func(name, function string) schema.ArcStatus {
		return schema.ArcStatus{Arc: name, Account: "default", Function: function}
	}
	b.view.managers = []schema.ManagerStatus{
		{ID: "m1", Arcs: []schema.ArcStatus{arc("u.9", "f"), arc("u.3", "f"), arc("u.4", "g"), arc("r.0.default.f.1.7", "f"), arc("u.x", "f")}},
		{ID: "m2", Arcs: []schema.ArcStatus{arc("u.9", "f")}},
	}
	var got []string
	for _, a := range b.ring(t, `{"FunctionName":"f"}`).Arcs {
		got = append(got, a.Subject)
	}
	if want := []string{b.Names.UnreservedFilter(3), b.Names.UnreservedFilter(9)}; !slices.Equal(got, want) {
		t.Errorf("arcs %v, want %v", got, want)
	}
}
