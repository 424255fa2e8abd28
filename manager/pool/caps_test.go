package pool_test

import (
	"slices"
	"testing"
	"time"

	"github.com/hearth-run/hearth/manager/pool"
	"github.com/hearth-run/hearth/schema"
)

// What might not be made is no failed init: members are tried again each second, one at a time, with nothing told but after three
// such tries, and as soon as one is made the others follow. Meanwhile they hold no room.
func TestDeniedMembers(t *testing.T) {
	t.Parallel()
	p := pool.New[int]("e", 20)
	h := reservation("f")
	plan := p.SetShare(t0, h, *spec("f"), pool.Share{Members: 5})
	for _, mk := range plan.Make {
		if plan := p.Denied(at(0), mk.Environment, "at the limit"); len(plan.Make) != 0 {
			t.Fatalf("%+v, want a pause", plan)
		}
	}
	if g, _ := p.Group(h); g.Failing != "" || p.Room() != 20 {
		t.Fatalf("%+v, room %d", g, p.Room())
	}
	for s := 1; s <= 6; s++ {
		if plan := p.Tick(at(1000*s-1), 0, time.Hour); len(plan.Make) != 0 {
			t.Fatalf("%+v before second %d", plan, s)
		}
		if plan = p.Tick(at(1000*s), 0, time.Hour); len(plan.Make) != 1 {
			t.Fatalf("%+v at second %d, want one made", plan, s)
		}
		if s < 6 {
			p.Denied(at(1000*s), plan.Make[0].Environment, "at the limit")
		}
		if g, _ := p.Group(h); (g.Failing != "") != (s >= 2) {
			t.Fatalf("second %d: %+v", s, g)
		}
	}
	p.Parked(at(6000), plan.Make[0].Environment, time.Millisecond)
	if plan := p.Tick(at(6000), 0, time.Hour); len(plan.Make) != 4 {
		t.Fatalf("%+v, want the others made", plan)
	}
	if g, _ := p.Group(h); g.Failing != "" {
		t.Fatalf("%+v", g)
	}
}

// Too many for a cap: idle ones go at once, those used least recently first, busy ones when their call ends, members and other functions'
// never. Whatever is on its way out counts, and a new number replaces the old one.
func TestShed(t *testing.T) {
	t.Parallel()
	p := pool.New[int]("e", 20)
	reserve(t, p, t0, "f", 2)
	var f []string
	for i := range 4 {
		d := p.Claim(at(i), home("f"), spec("f"), i)
		p.Parked(at(i), d.Make[0].Environment, 0)
		f = append(f, d.Make[0].Environment)
	}
	other := p.Claim(at(5), home("g"), spec("g"), 5).Make[0].Environment
	p.Parked(at(5), other, 0)
	finish := func(ms int, id string) {
		t.Helper()
		p.Finished(at(ms), id, true)
		if turn := p.Parked(at(ms), id, 0); turn.End || turn.Run {
			t.Fatalf("%+v, want it idle", turn)
		}
	}
	finish(6, f[0])
	finish(7, f[1])
	of := pool.Scope{Account: spec("f").Account, Function: spec("f").Function}
	if end := p.Shed(at(8), of, 3); !slices.Equal(end, f[:2]) {
		t.Fatalf("%v end, want %v", end, f[:2])
	}
	if end := p.Shed(at(8), of, 3); len(end) != 0 {
		t.Fatalf("%v end though two are on their way out", end)
	}
	finish(9, other)
	if p.Finished(at(10), f[2], true); p.Offered(spec("f").Arc) != 2 { // the members
		t.Fatalf("%d are offered", p.Offered(spec("f").Arc))
	}
	if turn := p.Parked(at(11), f[2], 0); !turn.End || turn.Run {
		t.Fatalf("%+v, want the third ended", turn)
	}
	finish(12, f[3])
	if end := p.Shed(at(13), pool.Scope{}, 5); !slices.Equal(end, []string{other, f[3]}) {
		t.Fatalf("%v end of all, want %v and %v: three are on their way", end, other, f[3])
	}
	p.Shed(at(14), pool.Scope{}, 0)
	for _, id := range f {
		p.Gone(at(15), id)
	}
	if c := p.Counts(); c.Idle != 2 {
		t.Fatalf("%+v, want the members left", c)
	}
}

// An idle environment that was set aside for another is idle again where that one is not made, or runs what waits by then; what nobody
// would name any more ends.
func TestRestore(t *testing.T) {
	t.Parallel()
	p := pool.New[int]("e", 1)
	first := p.Claim(at(0), home("f"), spec("f"), 1)
	p.Parked(at(1), first.Make[0].Environment, 0)
	p.Finished(at(2), first.Make[0].Environment, true)
	p.Parked(at(2), first.Make[0].Environment, 0)
	aside := func(now int) string {
		t.Helper()
		d := p.Claim(at(now), home("g"), spec("g"), now)
		if d.Make == nil || len(d.End) != 1 || d.End[0] != first.Make[0].Environment {
			t.Fatalf("%+v, want the idle one set aside", d)
		}
		return d.Make[0].Environment
	}
	deny := func(now int, made string) {
		t.Helper()
		if plan := p.Denied(at(now), made, "cap"); len(plan.Fail) != 1 || len(plan.Make)+len(plan.End) != 0 {
			t.Fatalf("%+v, want the claim failed", plan)
		}
	}
	made := aside(3)
	if turn, ok := p.Restore(at(4), first.Make[0].Environment); !ok || turn.Run || turn.End || p.Offered(spec("f").Arc) != 1 || p.Room() != 0 {
		t.Fatalf("%+v, %v; %d are offered, room %d", turn, ok, p.Offered(spec("f").Arc), p.Room())
	}
	deny(4, made)
	if p.Room() != 1 || p.Live() != 1 {
		t.Fatalf("room %d, %d live", p.Room(), p.Live())
	}
	made = aside(5)
	if !p.Within(pool.Scope{Account: spec("f").Account, Function: "f"}, first.Make[0].Environment) || p.Within(pool.Scope{Account: spec("g").Account, Function: "g"}, first.Make[0].Environment) {
		t.Error("it is within another scope than its function's")
	}
	p.Retain(at(6), home("f").FunctionID, func(schema.Key) bool { return false })
	if turn, ok := p.Restore(at(6), first.Make[0].Environment); !ok || !turn.End {
		t.Fatalf("%+v, %v for what is gone by", turn, ok)
	}
	deny(7, made)
	p.Gone(at(8), first.Make[0].Environment)
	if _, ok := p.Restore(at(9), first.Make[0].Environment); ok || p.Live() != 0 || p.Room() != 1 {
		t.Errorf("restored %v what has gone; %d live, room %d", ok, p.Live(), p.Room())
	}
}

// What an environment would be made for is told by home; how long that one has been idle that would make way; and what is warm, but
// not what no call should name any more.
func TestMakesWay(t *testing.T) {
	t.Parallel()
	p := pool.New[int]("e", 20)
	reserve(t, p, t0, "f", 2)
	of := pool.Scope{Account: spec("f").Account, Function: spec("f").Function}
	if d := p.LongestIdle(at(1000), of); d != 0 {
		t.Errorf("idle for %v beside members alone, want 0: they make no way", d)
	}
	mk := p.Claim(at(0), home("f"), spec("f"), 1).Make[0]
	p.Claim(at(0), home("g"), spec("g"), 2)
	if got, ok := p.Needs(mk.Home); !ok || got != home("f") {
		t.Errorf("%v needs it, %v", got, ok)
	}
	if got, ok := p.Needs(home("none")); ok {
		t.Errorf("%v needs nothing", got)
	}
	if p.Warms(home("f")) {
		t.Error("warm while it starts")
	}
	p.Parked(at(10), mk.Environment, 0)
	p.Finished(at(20), mk.Environment, true)
	p.Parked(at(30), mk.Environment, 0)
	if got, ok := p.Needs(mk.Home); ok {
		t.Errorf("%v needs one, but its claim has run", got)
	}
	if d := p.LongestIdle(at(100), of); d != at(100).Sub(at(30)) || !p.Warms(home("f")) {
		t.Errorf("idle for %v, warm %v", d, p.Warms(home("f")))
	}
	if d := p.LongestIdle(at(100), pool.Scope{Account: of.Account, Function: "g"}); d != 0 {
		t.Errorf("of another function: %v", d)
	}
	if d := p.LongestIdle(at(100), pool.Scope{}); d != at(100).Sub(at(30)) {
		t.Errorf("of all: %v", d)
	}
	p.Drain(at(200))
	if p.Warms(home("f")) {
		t.Error("warm while it drains")
	}
}

// A generic environment is needed by the sub-tenant whose claim fails where it is not made, not by others that wait; and by nobody whose
// own has just answered.
func TestNeeds(t *testing.T) {
	t.Parallel()
	p := pool.New[int]("e", 20)
	a, shop := tenantOf("1", "a")
	b, _ := tenantOf("1", "b")
	mk := p.Claim(at(0), b, shop, 1).Make[0]
	p.Claim(at(1), a, shop, 2)
	if got, ok := p.Needs(mk.Home); !ok || got != b {
		t.Errorf("%v needs it, %v; want %v", got, ok, b)
	}
	if plan := p.Denied(at(2), mk.Environment, "cap"); !slices.Equal(plan.Fail, []int{1}) {
		t.Errorf("%+v, want the claim of b failed", plan)
	}
	if got, ok := p.Needs(mk.Home); !ok || got != a {
		t.Errorf("%v needs it, %v; want %v", got, ok, a)
	}
	p = pool.New[int]("e", 20)
	own := p.Claim(at(0), home("f"), spec("f"), 1).Make[0]
	p.Parked(at(0), own.Environment, 0)
	p.Claim(at(1), home("f"), spec("f"), 2)
	if _, ok := p.Needs(own.Home); !ok {
		t.Error("nobody needs one while its own runs")
	}
	p.Finished(at(2), own.Environment, true)
	if _, ok := p.Needs(own.Home); ok {
		t.Error("one is needed though its own has just answered")
	}
}
