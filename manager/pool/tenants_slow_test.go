package pool_test

import (
	"slices"
	"testing"
	"time"

	"github.com/hearth-run/hearth/manager/pool"
)

// slow has a sub-tenant's environment of a home answer and not ask for its next call for longer than Patience, and gives its id.
func slow(t *testing.T, p *pool.Pool[int], now time.Time, h pool.Home, s *pool.Spec) string {
	t.Helper()
	d := p.Claim(now, h, s, 1)
	id := d.Environment
	if d.Action == pool.Wait {
		id = d.Make[0].Environment
		p.Parked(now, id, 0)
	}
	p.Finished(now, id, true)
	p.Tick(now.Add(2*pool.Patience), 0, time.Hour)
	return id
}

// heldUp has a claim wait for what is slow, with nothing to change that.
func heldUp(t *testing.T, p *pool.Pool[int], now time.Time, h pool.Home, claim int) {
	t.Helper()
	if d := p.Claim(now, h, nil, claim); d.Action != pool.Wait || len(d.Make)+len(d.End) > 0 {
		t.Fatalf("%+v, want it to wait", d)
	}
	if plan := p.Tick(now, 0, time.Hour); len(plan.Make)+len(plan.End)+len(plan.Refuse)+len(plan.Run) > 0 {
		t.Fatalf("%+v, want it to wait on", plan)
	}
}

// What is warm elsewhere goes before what is slow here: Warm says nothing of that, though a generic one is idle, and Await does.
//
// Broken to see it fail: a Warm that holds; an Await that binds.
func TestWarmLeavesWhatIsSlow(t *testing.T) {
	t.Parallel()
	p := pool.New[int]("e", 20)
	p.SetTenantLimit(at(0), shopScope(), 1)
	generic, s := shop("")
	for _, mk := range p.SetShare(at(0), generic, *s, pool.Share{Members: 2}).Make {
		p.Parked(at(0), mk.Environment, 0)
	}
	reserved, _ := shop("on")
	other, _ := tenantOf("1", "off")
	for _, h := range []pool.Home{reserved, other} {
		if d := p.Await(at(0), h, 9); d.Action != pool.Unknown {
			t.Errorf("%s has nothing: %+v, want no answer", h.Tenant, d)
		}
		_, spec := tenantOf("1", h.Tenant)
		id := slow(t, p, at(0), h, spec)
		if d := p.Warm(at(200), h, 2); d.Action != pool.Unknown {
			t.Errorf("%s: %+v, want Warm to say nothing", h.Tenant, d)
		}
		if d := p.Await(at(200), h, 2); d.Action != pool.Wait || len(d.Make)+len(d.End) > 0 {
			t.Errorf("%s: %+v, want it to wait", h.Tenant, d)
		}
		if d := p.Await(at(200), h, 3); d.Action != pool.Unknown {
			t.Errorf("%s: %+v, want a second one to get no answer", h.Tenant, d)
		}
		if turn := p.Parked(at(201), id, 0); !turn.Run || turn.Claim != 2 {
			t.Errorf("%s: %+v, want it to run what waited", h.Tenant, turn)
		}
	}
}

// A claim waits for what is slow only for as long as its sub-tenant may have no other: where the limit is raised, or an environment of
// another version goes, or goes idle, one is made for it. Without room it waits on.
//
// Broken to see it fail: a Tick that looks at none of them.
func TestSlowIsNoLongerWaitedFor(t *testing.T) {
	t.Parallel()
	h, s := tenantOf("1", "a")
	h2, s2 := tenantOf("2", "a")
	for name, c := range map[string]struct {
		most   int
		change func(p *pool.Pool[int], second string)
	}{
		"raised":   {1, func(p *pool.Pool[int], _ string) { p.SetTenantLimit(at(300), shopScope(), 2) }},
		"no limit": {1, func(p *pool.Pool[int], _ string) { p.SetTenantLimit(at(300), shopScope(), 0) }},
		"gone":     {2, func(p *pool.Pool[int], second string) { p.Finished(at(300), second, false); p.Gone(at(300), second) }},
		"idle": {2, func(p *pool.Pool[int], second string) {
			p.Finished(at(300), second, true)
			p.Parked(at(300), second, 0)
		}},
	} {
		for _, capacity := range []int{c.most, 20} {
			p := pool.New[int]("e", capacity)
			p.SetTenantLimit(at(0), shopScope(), c.most)
			id, second := slow(t, p, at(0), h, s), ""
			if c.most == 2 {
				second = p.Claim(at(200), h2, s2, 2).Make[0].Environment
				p.Parked(at(200), second, 0)
			}
			heldUp(t, p, at(200), h, 3)
			c.change(p, second)
			plan := p.Tick(at(300), 0, time.Hour)
			if capacity == 1 {
				if len(plan.Make)+len(plan.Refuse)+len(plan.End) > 0 {
					t.Errorf("%s without room: %+v, want it to wait on", name, plan)
				}
				continue
			}
			if len(plan.Make) != 1 || len(plan.Refuse) > 0 || slices.Contains(plan.End, second) != (name == "idle") {
				t.Errorf("%s: %+v, want one made", name, plan)
				continue
			}
			if turn := p.Parked(at(301), plan.Make[0].Environment, 0); !turn.Run || turn.Claim != 3 {
				t.Errorf("%s: %+v, want it to run", name, turn)
			}
			if turn := p.Parked(at(302), id, 0); turn.Run {
				t.Errorf("%s: %+v: it ran already", name, turn)
			}
		}
	}
}

// What no claim waits for any more is not on offer while it is slow.
func TestSlowIsNotOffered(t *testing.T) {
	t.Parallel()
	p := pool.New[int]("e", 20)
	p.SetTenantLimit(at(0), shopScope(), 1)
	h, s := tenantOf("1", "a")
	slow(t, p, at(0), h, s)
	heldUp(t, p, at(200), h, 2)
	p.Abandon(at(201), h, 2)
	p.Tick(at(202), 0, time.Hour)
	if n := p.Offered(s.Arc); n != 0 {
		t.Errorf("%d on offer", n)
	}
	if d := p.Warm(at(203), h, 3); d.Action != pool.Unknown {
		t.Errorf("%+v, want Warm to say nothing", d)
	}
	heldUp(t, p, at(204), h, 3)
}
