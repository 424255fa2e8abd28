package manager

import (
	"slices"
	"testing"
	"time"

	"github.com/hearth-run/hearth/schema"
)

func reserved(arc, tenant string, ready, busy int) schema.ArcStatus {
	return schema.ArcStatus{Arc: arc, Function: "resize", Version: "1", Tenant: tenant, Ready: ready, Busy: busy, Idle: ready - busy}
}

// A partial status is laid over the last whole one of the same life, and over nothing else.
func TestPartialStatusIsLaidOver(t *testing.T) {
	t.Parallel()
	const one, two = "r.0.a.resize.1.7", "r.0.a.crop.1.9"
	var p peers
	whole := schema.ManagerStatus{ID: "m1", Incarnation: "i", Number: 1, Room: 5, Arcs: []schema.ArcStatus{
		reserved(one, "", 3, 3), reserved(two, "", 2, 1), {Arc: "u.1", Function: "resize", Version: "1", Ready: 1, Idle: 1},
	}}
	p.told(&whole, 0)
	part := schema.ManagerStatus{ID: "m1", Incarnation: "i", Number: 2, Partial: true, Arcs: []schema.ArcStatus{reserved(one, "", 3, 2)}}
	p.told(&part, time.Millisecond)
	want := func(arc string, ready, idle, busy int) {
		t.Helper()
		got := p.members(arc, 2*time.Millisecond)
		if !slices.Equal(got, []memberSeen{{Manager: "m1", Ready: ready, Idle: idle, Busy: busy}}) {
			t.Errorf("%s: %+v", arc, got)
		}
	}
	want(one, 3, 1, 2)
	want(two, 2, 1, 1)
	if places, managers := p.free(2 * time.Millisecond); places != 5 || managers != 1 {
		t.Errorf("a partial status changed the room: %d places at %d", places, managers)
	}
	if got := p.warm([]string{"m1"}, []int{0}, warmth{arc: "u.1", function: "resize", version: "1"}, 2*time.Millisecond); got != "m1" {
		t.Error("a partial status took away what it does not tell of")
	}
	for _, other := range []schema.ManagerStatus{
		{ID: "m1", Incarnation: "i", Number: 1, Partial: true, Arcs: []schema.ArcStatus{reserved(one, "", 0, 0)}}, // late
		{ID: "m1", Incarnation: "j", Number: 9, Partial: true, Arcs: []schema.ArcStatus{reserved(one, "", 0, 0)}}, // another life
		{ID: "m2", Incarnation: "k", Number: 1, Partial: true, Arcs: []schema.ArcStatus{reserved(one, "", 4, 0)}}, // no whole one yet
	} {
		p.told(&other, 2*time.Millisecond)
	}
	want(one, 3, 1, 2)
	// What a whole status does not tell of is gone.
	p.told(&schema.ManagerStatus{ID: "m1", Incarnation: "i", Number: 3, Arcs: whole.Arcs[1:]}, 3*time.Millisecond)
	if got := p.members(one, 3*time.Millisecond); got != nil {
		t.Errorf("still told: %+v", got)
	}
}

// Members are those without a sub-tenant, what was bound to one is counted beside them; they age into idle ones, and then into none; this manager's own count too.
func TestMembersOfAnArc(t *testing.T) {
	t.Parallel()
	const arc = "r.0.a.resize.1.7"
	var p peers
	share := reserved(arc, "", 2, 1)
	share.Share, share.Failed, share.Unable = 5, "Runtime.ExitError", true
	p.told(&schema.ManagerStatus{ID: "m2", Incarnation: "i", Arcs: []schema.ArcStatus{share, reserved(arc, "t", 3, 3)}}, 0)
	p.toldOwn(&schema.ManagerStatus{ID: "m1", Incarnation: "i", Arcs: []schema.ArcStatus{reserved(arc, "", 1, 1)}}, 0)
	for _, step := range []struct {
		now  time.Duration
		want []memberSeen
	}{
		{peerValid, []memberSeen{
			{Manager: "m1", Ready: 1, Busy: 1},
			{Manager: "m2", Share: 5, Ready: 2, Bound: 3, Idle: 1, Busy: 1, Unable: true, Failed: "Runtime.ExitError"},
		}},
		{peerValid + 1, []memberSeen{
			{Manager: "m1", Ready: 1, Idle: 1},
			{Manager: "m2", Share: 5, Ready: 2, Bound: 3, Idle: 2, Unable: true, Failed: "Runtime.ExitError"},
		}},
		{peerCounted + 1, nil},
	} {
		if got := p.members(arc, step.now); !slices.Equal(got, step.want) {
			t.Errorf("after %v: %+v, want %+v", step.now, got, step.want)
		}
		if heard := p.heard(step.now, "m1", "m2"); heard != (step.now <= peerValid) {
			t.Errorf("after %v: heard of both: %v", step.now, heard)
		}
	}
	if p.heard(0, "m1", "m2", "m3") {
		t.Error("heard of one that never told")
	}
}
