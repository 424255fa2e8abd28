package pool_test

import (
	"slices"
	"testing"
	"time"

	"github.com/hearth-run/hearth/manager/pool"
	"github.com/hearth-run/hearth/schema"
)

var t0 = time.Unix(1_000_000, 0)

// at is a moment so many milliseconds after the beginning.
func at(ms int) time.Time { return t0.Add(time.Duration(ms) * time.Millisecond) }

func home(function string) pool.Home {
	return pool.Home{Key: schema.Key{FunctionID: function, Version: schema.Latest, ConfigRevision: 1}}
}

func spec(function string) *pool.Spec {
	return &pool.Spec{Account: "default", Function: function, Arc: "u." + function, Places: 1}
}

// warm gives a pool with n idle environments of each function, those of the first function least recently used.
func warm(t *testing.T, capacity, n int, functions ...string) *pool.Pool[int] {
	t.Helper()
	p := pool.New[int]("e", capacity)
	for f, function := range functions {
		var ids []string
		for i := range n {
			d := p.Claim(t0, home(function), spec(function), i)
			if d.Action != pool.Wait || d.Make == nil {
				t.Fatalf("claim %d of %s: %+v, want an environment to be made", i, function, d)
			}
			ids = append(ids, d.Make[0].Environment)
		}
		for i, id := range ids {
			if turn := p.Parked(t0, id, time.Millisecond); !turn.Run || turn.Claim != i || turn.Start != schema.StartCold {
				t.Fatalf("%s parked: %+v, want it to run claim %d cold", id, turn, i)
			}
		}
		for i, id := range ids {
			p.Finished(at(f*100+i), id, true)
			p.Parked(at(f*100+i), id, 0)
		}
	}
	return p
}

func TestUnknownHomeNeedsASpec(t *testing.T) {
	t.Parallel()
	p := pool.New[int]("e", 1)
	if d := p.Claim(t0, home("f"), nil, 1); d.Action != pool.Unknown {
		t.Fatalf("claim of an unknown home: %+v", d)
	}
	if d := p.Claim(t0, home("f"), spec("f"), 1); d.Action != pool.Wait || d.Make == nil || d.Make[0].Spec.Function != "f" {
		t.Fatalf("claim with a spec: %+v", d)
	}
}

// The most recently used idle environment runs first, so that the others stay idle and can go.
func TestMostRecentlyUsedFirst(t *testing.T) {
	t.Parallel()
	p := warm(t, 10, 3, "f")
	var used []string
	for i := range 3 {
		d := p.Claim(at(500), home("f"), nil, 10+i)
		if d.Action != pool.Run || d.Start != schema.StartWarm {
			t.Fatalf("claim: %+v, want a warm run", d)
		}
		used = append(used, d.Environment)
	}
	if want := []string{"e3", "e2", "e1"}; !slices.Equal(used, want) {
		t.Fatalf("order %v, want %v", used, want)
	}
	p.Finished(at(501), "e2", true)
	p.Parked(at(501), "e2", 0)
	for i := range 5 {
		if d := p.Claim(at(502+i), home("f"), nil, 20+i); d.Environment != "e2" {
			t.Fatalf("claim went to %q, want e2 again", d.Environment)
		}
		p.Finished(at(502+i), "e2", true)
		p.Parked(at(502+i), "e2", 0)
	}
}

// A claim does not wait for the environment that is made for it: whichever is ready first takes it.
func TestLateBinding(t *testing.T) {
	t.Parallel()
	p := warm(t, 10, 1, "f")
	if d := p.Claim(at(10), home("f"), nil, 1); d.Action != pool.Run {
		t.Fatalf("first claim: %+v", d)
	}
	d := p.Claim(at(11), home("f"), nil, 2)
	if d.Action != pool.Wait || d.Make == nil {
		t.Fatalf("second claim: %+v, want one more environment", d)
	}
	p.Finished(at(12), "e1", true)
	if n := p.Offered("u.f"); n != 0 {
		t.Fatalf("%d offered, want 0: the finishing one will take the waiting claim", n)
	}
	if turn := p.Parked(at(13), "e1", 0); !turn.Run || turn.Claim != 2 || turn.Start != schema.StartWarm {
		t.Fatalf("e1 parked: %+v, want it to run claim 2 warm", turn)
	}
	if turn := p.Parked(at(20), d.Make[0].Environment, 9*time.Millisecond); turn.Run || turn.End {
		t.Fatalf("the new one parked: %+v, want it to go idle", turn)
	}
	if n := p.Offered("u.f"); n != 1 {
		t.Fatalf("%d offered, want the new one", n)
	}
	if d := p.Claim(at(21), home("f"), nil, 3); d.Action != pool.Run || d.Start != schema.StartWarm {
		t.Fatalf("third claim: %+v, want warm: it was ready", d)
	}
}

// A finishing environment covers one waiting claim, for a while.
func TestFinishingCovers(t *testing.T) {
	t.Parallel()
	p := warm(t, 2, 1, "f")
	p.Claim(at(10), home("f"), nil, 1)
	p.Finished(at(11), "e1", true)
	if n := p.Offered("u.f"); n != 1 {
		t.Fatalf("%d offered, want 1: it is offered before its answer goes out", n)
	}
	if d := p.Claim(at(12), home("f"), nil, 2); d.Action != pool.Wait || d.Make != nil {
		t.Fatalf("claim: %+v, want it to wait for e1", d)
	}
	if plan := p.Tick(at(50), 0, time.Hour); len(plan.Make) != 0 {
		t.Fatalf("39 ms after the answer: %+v, want nothing", plan)
	}
	plan := p.Tick(at(62), 0, time.Hour)
	if len(plan.Make) != 1 {
		t.Fatalf("51 ms after the answer: %+v, want another made", plan)
	}
	if turn := p.Parked(at(63), "e1", 0); turn.Claim != 2 {
		t.Fatalf("e1 parked late: %+v, want claim 2", turn)
	}
}

func TestEvictsLeastRecentlyUsedOfOthers(t *testing.T) {
	t.Parallel()
	p := warm(t, 4, 2, "a", "b")
	p.Tick(at(899), 0, time.Hour)
	if room := p.Room(); room != 4 {
		t.Fatalf("room %d, want 4: everything is idle", room)
	}
	big := spec("c")
	big.Places = 3
	d := p.Claim(at(900), home("c"), big, 1)
	if want := []string{"e1", "e2", "e3"}; d.Action != pool.Wait || !slices.Equal(d.End, want) {
		t.Fatalf("claim: %+v, want %v evicted", d, want)
	}
	if p.Offered("u.a") != 0 || p.Offered("u.b") != 1 || p.Room() != 1 {
		t.Fatalf("offered a %d, b %d, room %d; want 0, 1, 1", p.Offered("u.a"), p.Offered("u.b"), p.Room())
	}
	d = p.Claim(at(901), home("d"), &pool.Spec{Arc: "u.d", Places: 2}, 2)
	if d.Action != pool.Refuse || len(d.End) != 0 {
		t.Fatalf("claim beyond the room: %+v, want it refused and nothing evicted", d)
	}
}

func TestNeverEvictsReserved(t *testing.T) {
	t.Parallel()
	p := pool.New[int]("e", 1)
	reserved := home("r")
	reserved.Reservation = 7
	plan := p.SetShare(t0, reserved, *spec("r"), pool.Share{Members: 1})
	p.Parked(t0, plan.Make[0].Environment, 0)
	if p.Room() != 0 {
		t.Fatalf("room %d, want 0: a reserved environment is no room", p.Room())
	}
	if d := p.Claim(at(2), home("f"), spec("f"), 2); d.Action != pool.Refuse {
		t.Fatalf("claim: %+v, want it refused", d)
	}
	if d := p.Claim(at(2), home("r"), spec("r"), 3); d.Action != pool.Refuse {
		t.Fatalf("an unreserved claim of the same key: %+v, want it refused", d)
	}
	if plan := p.Tick(at(1_000_000), time.Second, time.Hour); len(plan.End) != 0 {
		t.Fatalf("tick: %+v, want the reserved environment kept", plan)
	}
}

// A failed init fails one claim, and only where nothing else covers it; it never makes another by itself.
func TestFailedInit(t *testing.T) {
	t.Parallel()
	p := pool.New[int]("e", 10)
	a := p.Claim(t0, home("f"), spec("f"), 1)
	b := p.Claim(t0, home("f"), spec("f"), 2)
	plan := p.Failed(at(1), a.Make[0].Environment, "broken")
	if !slices.Equal(plan.Fail, []int{1}) || len(plan.Make) != 0 {
		t.Fatalf("first failure: %+v, want claim 1 to fail and nothing made", plan)
	}
	plan = p.Failed(at(2), b.Make[0].Environment, "broken")
	if !slices.Equal(plan.Fail, []int{2}) || len(plan.Make) != 0 {
		t.Fatalf("second failure: %+v, want claim 2 to fail and nothing made", plan)
	}
	if p.Room() != 10 || p.Live() != 0 {
		t.Fatalf("room %d, %d environments; want 10 and none", p.Room(), p.Live())
	}
}

func TestFailedInitWithOtherCover(t *testing.T) {
	t.Parallel()
	p := warm(t, 10, 1, "f")
	p.Claim(at(10), home("f"), nil, 1)
	made := p.Claim(at(11), home("f"), nil, 2)
	p.Finished(at(12), "e1", true)
	if plan := p.Failed(at(13), made.Make[0].Environment, "broken"); len(plan.Fail)+len(plan.Make)+len(plan.Refuse) != 0 {
		t.Fatalf("failure: %+v, want nothing: e1 covers the claim", plan)
	}
	if turn := p.Parked(at(14), "e1", 0); turn.Claim != 2 {
		t.Fatalf("e1 parked: %+v, want claim 2", turn)
	}
}

// An environment that dies takes its cover with it: another is made, or the claim is refused where there is no room.
func TestGoneUncovers(t *testing.T) {
	t.Parallel()
	p := warm(t, 1, 1, "f")
	p.Claim(at(10), home("f"), nil, 1)
	p.Finished(at(11), "e1", true)
	p.Claim(at(12), home("f"), nil, 2)
	if plan := p.Gone(at(13), "e1"); len(plan.Make) != 1 || len(plan.Refuse) != 0 {
		t.Fatalf("gone: %+v, want one made in its place", plan)
	}
	p = warm(t, 2, 1, "f", "g")
	p.Claim(at(210), home("g"), nil, 1)
	p.Claim(at(210), home("f"), nil, 1)
	p.Finished(at(211), "e1", true)
	if d := p.Claim(at(212), home("f"), nil, 2); d.Action != pool.Wait || d.Make != nil {
		t.Fatalf("claim: %+v, want it to wait for e1", d)
	}
	plan := p.Tick(at(300), 0, time.Hour)
	if !slices.Equal(plan.Refuse, []int{2}) || p.Waiting() != 0 {
		t.Fatalf("stuck without room: %+v, want claim 2 refused", plan)
	}
}

func TestNotReusable(t *testing.T) {
	t.Parallel()
	p := warm(t, 1, 1, "f")
	p.Claim(at(10), home("f"), nil, 1)
	p.Finished(at(11), "e1", false)
	if p.Offered("u.f") != 0 || p.Room() != 0 {
		t.Fatalf("offered %d, room %d; want 0 and 0 until it has gone", p.Offered("u.f"), p.Room())
	}
	if turn := p.Parked(at(12), "e1", 0); turn.Run || turn.Arc != "" {
		t.Fatalf("a dying one parked: %+v, want no turn", turn)
	}
	p.Gone(at(13), "e1")
	if p.Room() != 1 {
		t.Fatalf("room %d, want 1", p.Room())
	}
}

// A call that did not cross the start line leaves its environment as it found it.
func TestRelease(t *testing.T) {
	t.Parallel()
	p := pool.New[int]("e", 1)
	d := p.Claim(t0, home("f"), spec("f"), 1)
	p.Parked(at(5), d.Make[0].Environment, 5*time.Millisecond)
	if turn := p.Release(at(6), d.Make[0].Environment); turn.Run || turn.Arc != "u.f" {
		t.Fatalf("release: %+v, want it idle", turn)
	}
	if d := p.Claim(at(7), home("f"), nil, 2); d.Action != pool.Run {
		t.Fatalf("claim: %+v, want a run", d)
	}
}

func TestKeepAlive(t *testing.T) {
	t.Parallel()
	p := warm(t, 4, 2, "a", "b")
	plan := p.Tick(at(1001), time.Second, time.Hour)
	if want := []string{"e1"}; !slices.Equal(plan.End, want) {
		t.Fatalf("ended %v, want %v", plan.End, want)
	}
	plan = p.Tick(at(5000), time.Second, time.Hour)
	if want := []string{"e2", "e3", "e4"}; !slices.Equal(plan.End, want) {
		t.Fatalf("ended %v, want %v", plan.End, want)
	}
	if p.Room() != 4 || p.Live() != 4 {
		t.Fatalf("room %d, %d environments; want 4 free and 4 to go", p.Room(), p.Live())
	}
}

// Environments of a $LATEST gone by end when they are idle; a call that still names it gets exactly what it names.
func TestRetain(t *testing.T) {
	t.Parallel()
	p := warm(t, 4, 2, "f")
	p.Claim(at(10), home("f"), nil, 1)
	plan := p.Retain(at(11), "f", func(schema.Key) bool { return false })
	if want := []string{"e1"}; !slices.Equal(plan.End, want) {
		t.Fatalf("ended %v, want the idle one", plan.End)
	}
	p.Finished(at(12), "e2", true)
	if n := p.Offered("u.f"); n != 0 {
		t.Fatalf("%d offered, want none of what is gone by", n)
	}
	if turn := p.Parked(at(13), "e2", 0); !turn.End {
		t.Fatalf("e2 parked: %+v, want it to end", turn)
	}
	old := spec("f")
	old.Past = true
	d := p.Claim(at(14), home("f"), old, 2)
	if d.Action != pool.Wait || d.Make == nil {
		t.Fatalf("a late claim: %+v, want an environment of its own", d)
	}
}

func TestRehome(t *testing.T) {
	t.Parallel()
	p := warm(t, 4, 2, "f", "g")
	p.Rehome(func(h pool.Home, _ pool.Spec) string { return "u.x" })
	if p.Offered("u.f") != 0 || p.Offered("u.g") != 0 || p.Offered("u.x") != 4 {
		t.Fatalf("offered %d, %d, %d; want all 4 on the new arc", p.Offered("u.f"), p.Offered("u.g"), p.Offered("u.x"))
	}
}

func TestDrain(t *testing.T) {
	t.Parallel()
	p := warm(t, 4, 2, "f")
	p.Claim(at(10), home("f"), nil, 1)
	wait := p.Claim(at(10), home("g"), spec("g"), 2)
	plan := p.Drain(at(11))
	if !slices.Equal(plan.End, []string{"e1"}) || !slices.Equal(plan.Refuse, []int{2}) {
		t.Fatalf("drain: %+v, want e1 ended and claim 2 refused", plan)
	}
	if d := p.Claim(at(12), home("f"), nil, 3); d.Action != pool.Refuse {
		t.Fatalf("claim: %+v, want it refused", d)
	}
	p.Finished(at(13), "e2", true)
	if p.Offered("u.f") != 0 || p.Room() != 0 {
		t.Fatalf("offered %d, room %d; want none", p.Offered("u.f"), p.Room())
	}
	for _, id := range []string{"e2", wait.Make[0].Environment} {
		if turn := p.Parked(at(14), id, 0); !turn.End {
			t.Fatalf("%s parked: %+v, want it to end", id, turn)
		}
	}
	for _, id := range []string{"e1", "e2", wait.Make[0].Environment} {
		p.Gone(at(15), id)
	}
	if p.Live() != 0 {
		t.Fatalf("%d environments left", p.Live())
	}
}

func TestAbandon(t *testing.T) {
	t.Parallel()
	p := pool.New[int]("e", 4)
	d := p.Claim(t0, home("f"), spec("f"), 1)
	if !p.Abandon(at(1), home("f"), 1) || p.Abandon(at(1), home("f"), 1) || p.Abandon(at(1), home("g"), 1) {
		t.Fatal("abandon: want true once, for the claim that waits")
	}
	if turn := p.Parked(at(1), d.Make[0].Environment, 0); turn.Run {
		t.Fatalf("parked: %+v, want it idle", turn)
	}
}

// The warm path allocates nothing.
func TestWarmPathAllocatesNothing(t *testing.T) {
	p := warm(t, 4, 2, "f")
	h := home("f")
	n := testing.AllocsPerRun(1000, func() {
		d := p.Claim(t0, h, nil, 1)
		p.Finished(t0, d.Environment, true)
		p.Parked(t0, d.Environment, 0)
	})
	if n != 0 {
		t.Errorf("%v allocations a call", n)
	}
}

func BenchmarkWarmCall(b *testing.B) {
	p := pool.New[int]("e", 4)
	h := home("f")
	d := p.Claim(t0, h, spec("f"), 1)
	p.Parked(t0, d.Make[0].Environment, 0)
	p.Finished(t0, "e1", true)
	p.Parked(t0, "e1", 0)
	b.ReportAllocs()
	for b.Loop() {
		d := p.Claim(t0, h, nil, 1)
		p.Finished(t0, d.Environment, true)
		p.Parked(t0, d.Environment, 0)
	}
}

// What still runs when a pool is drained is offered again when the drain is taken back before it ends.
func TestResume(t *testing.T) {
	t.Parallel()
	p := pool.New[int]("e", 2)
	h := home("f")
	s := pool.Spec{Arc: "u.1", Places: 1}
	for id := range 2 {
		d := p.Claim(t0, h, &s, id)
		p.Parked(t0, d.Make[0].Environment, 0)
	}
	p.Finished(t0, "e1", true)
	p.Parked(t0, "e1", 0)
	plan := p.Drain(t0)
	if !slices.Equal(plan.End, []string{"e1"}) || p.Room() != 0 || p.Offered("u.1") != 0 {
		t.Errorf("drained: %+v, room %d, %d offered", plan, p.Room(), p.Offered("u.1"))
	}
	p.Finished(t0, "e2", true)
	if d := p.Claim(t0, h, &s, 3); d.Action != pool.Refuse {
		t.Errorf("a claim while draining: %+v", d)
	}
	p.Resume()
	if p.Room() != 1 || p.Offered("u.1") != 1 {
		t.Errorf("resumed: room %d, %d offered", p.Room(), p.Offered("u.1"))
	}
	if turn := p.Parked(t0, "e2", 0); turn.End || turn.Run {
		t.Errorf("parked after the drain was taken back: %+v", turn)
	}
}
