package pool_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hearth-run/hearth/manager/pool"
	"github.com/hearth-run/hearth/schema"
)

func reservation(function string) pool.Home {
	h := home(function)
	h.Reservation = 7
	return h
}

// reserve gives a home a share and brings what is made for it up.
func reserve(t *testing.T, p *pool.Pool[int], now time.Time, function string, members int) []string {
	t.Helper()
	plan := p.SetShare(now, reservation(function), *spec(function), pool.Share{Members: members})
	var ids []string
	for _, mk := range plan.Make {
		if turn := p.Parked(now, mk.Environment, time.Millisecond); turn.Run || turn.End {
			t.Fatalf("%s parked: %+v, want it idle", mk.Environment, turn)
		}
		ids = append(ids, mk.Environment)
	}
	return ids
}

// run has so many claims of a home's members run, and gives what runs them.
func run(t *testing.T, p *pool.Pool[int], now time.Time, function string, claims int) []string {
	t.Helper()
	var ids []string
	for i := range claims {
		d := p.Claim(now, reservation(function), nil, 100+i)
		if d.Action != pool.Run {
			t.Fatalf("claim %d: %+v, want a member to run it", i, d)
		}
		ids = append(ids, d.Environment)
	}
	return ids
}

func finish(p *pool.Pool[int], now time.Time, ids ...string) {
	for _, id := range ids {
		p.Finished(now, id, true)
		p.Parked(now, id, 0)
	}
}

// Steady concurrency 8 under a limit that fell from 10 to 4: eight stay, used or not at this very moment (S30), then without load
// four (S32).
func TestSurplusGoesAsTheWindowShowsItIdle(t *testing.T) {
	t.Parallel()
	const reclaim = 2 * time.Second
	p := pool.New[int]("e", 20)
	reserve(t, p, t0, "f", 10)
	now := at(0)
	busy := run(t, p, now, "f", 8)
	p.SetShare(now, reservation("f"), *spec("f"), pool.Share{Members: 4})
	for tick := range 200 { // one of them is always between two calls
		now = now.Add(50 * time.Millisecond)
		finish(p, now, busy[tick%8])
		p.Tick(now, 0, reclaim)
		busy[tick%8] = run(t, p, now, "f", 1)[0]
	}
	if got := p.Counts(); got.Busy != 8 || got.Idle != 0 {
		t.Fatalf("%+v under load, want the eight that are used", got)
	}
	finish(p, now, busy[2:]...)
	for range 100 {
		now = now.Add(50 * time.Millisecond)
		p.Tick(now, 0, reclaim)
	}
	if got := p.Counts(); got.Busy != 2 || got.Idle != 2 {
		t.Fatalf("%+v with two calls, want four members", got)
	}
	finish(p, now, busy[:2]...)
	p.Tick(now.Add(time.Hour), 0, reclaim)
	if got := p.Counts(); got.Idle != 4 {
		t.Fatalf("%+v without load, want four members", got)
	}
}

// Raised again, surplus is re-adopted first: exactly what lacks is made (S36).
func TestReadoption(t *testing.T) {
	t.Parallel()
	p := pool.New[int]("e", 20)
	reserve(t, p, t0, "f", 10)
	run(t, p, at(0), "f", 8)
	p.SetShare(at(0), reservation("f"), *spec("f"), pool.Share{Members: 4})
	if plan := p.Tick(at(5000), 0, time.Second); len(plan.End) != 2 {
		t.Fatalf("%+v, want the two ended that nobody uses", plan)
	}
	if got := reserve(t, p, at(5001), "f", 10); len(got) != 2 {
		t.Fatalf("%v made, want two", got)
	}
}

// Draining members finish their calls and go as they become idle, but not from between two calls of one caller (S33).
func TestDrainingShare(t *testing.T) {
	t.Parallel()
	p := pool.New[int]("e", 20)
	reserve(t, p, t0, "f", 3)
	ids := run(t, p, at(0), "f", 2)
	p.SetShare(at(1), reservation("f"), *spec("f"), pool.Share{Draining: true})
	if plan := p.Tick(at(1400), 0, time.Hour); len(plan.End) != 1 {
		t.Fatalf("%+v, want the idle one ended", plan)
	}
	finish(p, at(1401), ids[0])
	if plan := p.Tick(at(1900), 0, time.Hour); len(plan.End) != 0 {
		t.Fatalf("%+v, want none ended yet", plan)
	}
	if again := run(t, p, at(1901), "f", 1); again[0] != ids[0] {
		t.Fatalf("the next call runs in %v, want %s", again, ids[0])
	}
	finish(p, at(2000), ids...)
	if plan := p.Tick(at(3300), 0, time.Hour); len(plan.End) != 2 {
		t.Fatalf("%+v, want both ended", plan)
	}
	for _, id := range p.Environments(nil) {
		if plan := p.Gone(at(3301), id); len(plan.Make) != 0 {
			t.Fatalf("%+v, want none replaced", plan)
		}
	}
	if _, ok := p.Group(reservation("f")); ok {
		t.Error("the home is not forgotten")
	}
}

// A share takes the room of idle unreserved environments, never of another reservation's, and says when it does not fit. What it
// lacks is no room for others, and what comes free meanwhile is its.
func TestShareBeyondTheRoom(t *testing.T) {
	t.Parallel()
	p := warm(t, 6, 2, "g")
	reserve(t, p, at(200), "f", 2)
	busy := p.Claim(at(200), home("g"), nil, 1).Environment
	h := pool.Home{Key: home("h").Key, Reservation: 9}
	plan := p.SetShare(at(201), h, *spec("h"), pool.Share{Members: 4})
	if len(plan.Make) != 3 || len(plan.End) != 1 || slices.Contains(plan.End, busy) {
		t.Fatalf("%+v, want three made, one of them for the idle one of g", plan)
	}
	if g, _ := p.Group(h); g.Unable || p.Room() != 0 {
		t.Fatalf("%+v, room %d: calls that end may free places", g, p.Room())
	}
	p.Tick(at(201+int(pool.UnableAfter/time.Millisecond)), 0, time.Hour)
	if g, _ := p.Group(h); !g.Unable {
		t.Fatalf("%+v, want it unable", g)
	}
	p.Finished(at(900), busy, true)
	if turn := p.Parked(at(900), busy, 0); !turn.End {
		t.Fatalf("%+v, want it ended: the share lacks its place", turn)
	}
	if d := p.Claim(at(900), home("g"), spec("g"), 2); d.Action != pool.Refuse {
		t.Fatalf("%+v, want it refused", d)
	}
	if plan := p.Tick(at(901), 0, time.Hour); len(plan.Make) != 1 {
		t.Fatalf("%+v, want the last member made", plan)
	}
	if g, _ := p.Group(h); g.Unable || g.Counts.Starting != 4 {
		t.Fatalf("%+v, want it whole", g)
	}
}

// A claim of a reserved home runs in a member or waits for one that starts, and makes nothing.
func TestReservedClaimsMakeNothing(t *testing.T) {
	t.Parallel()
	p := pool.New[int]("e", 20)
	if d := p.Claim(t0, reservation("f"), spec("f"), 1); d.Action != pool.Refuse {
		t.Fatalf("%+v without a member", d)
	}
	plan := p.SetShare(t0, reservation("f"), *spec("f"), pool.Share{Members: 1})
	if d := p.Claim(t0, reservation("f"), nil, 2); d.Action != pool.Wait || d.Make != nil {
		t.Fatalf("%+v, want it to wait for the member that starts", d)
	}
	if d := p.Claim(t0, reservation("f"), nil, 3); d.Action != pool.Refuse {
		t.Fatalf("%+v, want it refused", d)
	}
	if turn := p.Parked(at(1), plan.Make[0].Environment, 0); !turn.Run || turn.Claim != 2 {
		t.Fatalf("%+v", turn)
	}
	if d := p.Warm(at(2), reservation("f"), 4); d.Action != pool.Unknown || p.Waiting() != 0 {
		t.Fatalf("%+v", d)
	}
}

// Three inits that fail in a row are the home's failure: it is tried with one member at a time, after pauses that double, until
// one is good.
func TestFailingInits(t *testing.T) {
	t.Parallel()
	p := pool.New[int]("e", 20)
	h := reservation("f")
	plan := p.SetShare(t0, h, *spec("f"), pool.Share{Members: 3})
	made := plan.Make
	for i := range 3 {
		plan = p.Failed(at(i), made[i].Environment, fmt.Sprint("exit status ", i))
		made = append(made, plan.Make...)
	}
	if len(made) != 5 {
		t.Fatalf("%d made, want the two first failures replaced", len(made))
	}
	for _, mk := range made[3:] {
		if plan := p.Failed(at(3), mk.Environment, "exit status 2"); len(plan.Make) != 0 {
			t.Fatalf("%+v, want a pause", plan)
		}
	}
	if g, _ := p.Group(h); g.Failing != "exit status 2" || p.Room() != 20 {
		t.Fatalf("%+v, room %d", g, p.Room())
	}
	now := at(2)
	for _, pause := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		now = now.Add(pause*time.Second - time.Millisecond)
		if plan := p.Tick(now, 0, time.Hour); len(plan.Make) != 0 {
			t.Fatalf("%+v before %d s", plan, pause)
		}
		now = now.Add(time.Millisecond)
		if plan = p.Tick(now, 0, time.Hour); len(plan.Make) != 1 {
			t.Fatalf("%+v after %d s, want one made", plan, pause)
		}
		if pause < 60 || now.Sub(t0) < 150*time.Second {
			p.Failed(now, plan.Make[0].Environment, "exit status 2")
		}
	}
	p.Parked(now, plan.Make[0].Environment, time.Millisecond)
	if plan := p.Tick(now, 0, time.Hour); len(plan.Make) != 2 {
		t.Fatalf("%+v after a good init, want the others made", plan)
	}
	if g, _ := p.Group(h); g.Failing != "" {
		t.Fatalf("%+v", g)
	}
}

// A program that ends as soon as it has asked for a call fails as if its init had: its inits do not clear that.
func TestMembersThatDoNotStay(t *testing.T) {
	t.Parallel()
	p := pool.New[int]("e", 20)
	h := reservation("f")
	plan := p.SetShare(t0, h, *spec("f"), pool.Share{Members: 1})
	made := 0
	for ms := 0; ms < 20_000; ms += 50 {
		for len(plan.Make) > 0 {
			made++
			id := plan.Make[0].Environment
			p.Parked(at(ms), id, time.Millisecond)
			plan = p.Gone(at(ms), id)
		}
		plan = p.Tick(at(ms+50), 0, time.Hour)
	}
	if g, _ := p.Group(h); made > 8 || g.Failing == "" {
		t.Fatalf("%d made in 20 s, %+v", made, g)
	}
	for ms := 20_000; len(plan.Make) == 0; ms += 50 {
		plan = p.Tick(at(ms), 0, time.Hour)
	}
	p.Parked(at(60_000), plan.Make[0].Environment, time.Millisecond)
	p.Tick(at(63_000), 0, time.Hour)
	if g, _ := p.Group(h); g.Failing != "" {
		t.Fatalf("%+v, want it cured by a member that stays", g)
	}
}

// A held share keeps its surplus; a home gone by gets no member.
func TestHeldAndGoneBy(t *testing.T) {
	t.Parallel()
	p := pool.New[int]("e", 20)
	h := reservation("f")
	reserve(t, p, t0, "f", 3)
	p.SetShare(at(1), h, *spec("f"), pool.Share{Hold: true})
	if plan := p.Tick(at(100_000), 0, time.Second); len(plan.End) != 0 {
		t.Fatalf("%+v, want them held", plan)
	}
	p.SetShare(at(100_001), h, *spec("f"), pool.Share{Members: 4})
	plan := p.Retain(at(100_002), h.FunctionID, func(schema.Key) bool { return false })
	if len(plan.End) != 3 {
		t.Fatalf("%+v, want the idle ones ended", plan)
	}
	for _, id := range plan.End {
		if plan := p.Gone(at(100_003), id); len(plan.Make) != 0 {
			t.Fatalf("%+v, want none made", plan)
		}
	}
}
