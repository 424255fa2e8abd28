package pool_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/hearth-run/hearth/manager/pool"
	"github.com/hearth-run/hearth/schema"
)

// shop is a function with sub-tenants, of which a reservation is served.
func shop(tenant string) (pool.Home, *pool.Spec) {
	h := reservation("shop")
	h.Tenant = tenant
	return h, &pool.Spec{Account: "default", Function: "shop", Arc: "r.0", Places: 1, Tenants: true}
}

func shopScope() pool.Scope { return pool.Scope{Account: "default", Function: "shop"} }

// tenantOf is the unreserved home of a version of the shop for a sub-tenant.
func tenantOf(version, tenant string) (pool.Home, *pool.Spec) {
	h, s := shop(tenant)
	h.Reservation, h.Version, s.Arc = 0, version, "u.0"
	return h, s
}

// warmTenant runs one claim of a sub-tenant and lets its environment go idle.
func warmTenant(t testing.TB, p *pool.Pool[int], now time.Time, version, tenant string) string {
	t.Helper()
	h, s := tenantOf(version, tenant)
	d := p.Claim(now, h, s, 1)
	id := d.Environment
	if d.Action == pool.Wait && len(d.Make) == 1 {
		id = d.Make[0].Environment
		if turn := p.Parked(now, id, time.Millisecond); !turn.Run {
			t.Fatalf("%s for %s: %+v", id, tenant, turn)
		}
	} else if d.Action != pool.Run {
		t.Fatalf("claim of %s: %+v", tenant, d)
	}
	for _, gone := range d.End {
		p.Gone(now, gone)
	}
	p.Finished(now, id, true)
	p.Parked(now, id, 0)
	return id
}

// S66: what a sub-tenant asks for beyond its limit is throttled; an idle one of its own, of whatever version, makes way first; nobody
// else's does.
func TestTenantLimit(t *testing.T) {
	t.Parallel()
	p := pool.New[int]("e", 20)
	p.SetTenantLimit(at(0), shopScope(), 2)
	beside := warmTenant(t, p, at(0), "1", "b")
	first, second := warmTenant(t, p, at(1), "1", "a"), warmTenant(t, p, at(2), "2", "a")
	h3, s3 := tenantOf("3", "a")
	d := p.Claim(at(3), h3, s3, 3)
	if d.Action != pool.Wait || len(d.Make) != 1 || !slices.Equal(d.End, []string{first}) {
		t.Fatalf("a third: %+v, want one made in place of %s", d, first)
	}
	h2, s2 := tenantOf("2", "a")
	if d := p.Claim(at(4), h2, s2, 4); d.Action != pool.Run || d.Environment != second {
		t.Fatalf("what is warm: %+v, want it to run in %s", d, second)
	}
	for _, version := range []string{"1", "2", "3"} {
		h, s := tenantOf(version, "a")
		if d := p.Claim(at(5), h, s, 5); d.Action != pool.Throttle || len(d.End)+len(d.Make) > 0 {
			t.Errorf("beyond the limit, of version %s: %+v", version, d)
		}
		if !p.Full("default", "shop", h) {
			t.Errorf("version %s: not full", version)
		}
	}
	hb, sb := tenantOf("1", "b")
	if d := p.Claim(at(6), hb, sb, 6); d.Action != pool.Run || d.Environment != beside || d.Start != schema.StartWarm {
		t.Errorf("another sub-tenant: %+v, want %s warm", d, beside)
	}
	// What ends by itself holds no place of the limit.
	p.Finished(at(7), second, false)
	if d := p.Claim(at(7), h2, s2, 7); d.Action != pool.Wait {
		t.Errorf("after one died: %+v", d)
	}
}

// A limit set below what is there ends idle ones now and busy ones after their calls; 0 takes it away. Finishing ones and promised ones
// end when they would go idle.
//
// Broken to see it fail: they go idle.
func TestTenantLimitBelowWhatRuns(t *testing.T) {
	t.Parallel()
	p := pool.New[int]("e", 20)
	one, two := warmTenant(t, p, at(1), "1", "a"), warmTenant(t, p, at(2), "2", "a")
	h3, s3 := tenantOf("3", "a")
	third := p.Claim(at(3), h3, s3, 3).Make[0].Environment
	p.Parked(at(3), third, 0)
	h2, s2 := tenantOf("2", "a")
	p.Claim(at(3), h2, s2, 2) // busy again
	other := warmTenant(t, p, at(4), "1", "b")
	if end := p.SetTenantLimit(at(5), shopScope(), 1); !slices.Equal(end, []string{one}) {
		t.Fatalf("%v end, want %s", end, one)
	}
	p.Finished(at(6), two, true)
	if turn := p.Parked(at(6), two, 0); !turn.End {
		t.Errorf("one too many: %+v, want it ended", turn)
	}
	p.Finished(at(7), third, true)
	if turn := p.Parked(at(7), third, 0); turn.End {
		t.Errorf("the last one: %+v, want it kept", turn)
	}
	if d := p.Claim(at(8), h2, s2, 8); d.Action != pool.Wait || !slices.Equal(d.End, []string{third}) {
		t.Errorf("%+v, want the idle one to make way", d)
	}
	p.SetTenantLimit(at(9), shopScope(), 0)
	if d := p.Claim(at(9), h3, s3, 9); d.Action != pool.Wait || len(d.End) > 0 {
		t.Errorf("without a limit: %+v", d)
	}
	hb, sb := tenantOf("1", "b")
	if p.Claim(at(9), hb, sb, 10).Environment != other {
		t.Error("another sub-tenant's has gone")
	}

	p = pool.New[int]("e", 20)
	idle := warmTenant(t, p, at(1), "1", "a")
	late := warmTenant(t, p, at(2), "2", "a")
	kept := warmTenant(t, p, at(3), "3", "a")
	p.Claim(at(4), h2, s2, 2)
	p.Finished(at(5), late, true)
	if n, _ := p.Promise(at(5), h3); n == 0 {
		t.Fatal("no promise")
	}
	if end := p.SetTenantLimit(at(6), shopScope(), 1); !slices.Equal(end, []string{idle}) {
		t.Fatalf("%v end, want %s", end, idle)
	}
	if turn := p.Parked(at(7), late, 0); !turn.End || turn.Run {
		t.Errorf("what had answered: %+v, want it ended", turn)
	}
	p.SetTenantLimit(at(8), shopScope(), 0)
	again := warmTenant(t, p, at(8), "1", "a")
	p.Claim(at(8), hb, sb, 9)
	h1, s1 := tenantOf("1", "a")
	if d := p.Claim(at(8), h1, s1, 10); d.Environment != again {
		t.Fatalf("%+v", d)
	}
	p.SetTenantLimit(at(9), shopScope(), 1)
	if turn := p.Release(at(9).Add(2*pool.PromiseFor), kept); !turn.End {
		t.Errorf("what was promised: %+v, want it ended", turn)
	}
}

// A call that has been answered counts against no other of its sub-tenant, however long its environment takes to ask for the next: that
// waits for it, beyond Patience too; one of another version is made, in the place of what ends then. Who is within its limit waits for
// nothing that may be stuck.
//
// Broken to see it fail: a pool that holds none; one that lets none make way (throttled); one that keeps holding (nothing is made).
func TestTenantLimitOfWhatIsSlow(t *testing.T) {
	t.Parallel()
	p := pool.New[int]("e", 20)
	p.SetTenantLimit(at(0), shopScope(), 1)
	h, s := tenantOf("1", "a")
	id := p.Claim(at(0), h, s, 1).Make[0].Environment
	p.Parked(at(0), id, 0)
	p.Finished(at(1), id, true)
	if d := p.Claim(at(2), h, s, 2); d.Action != pool.Wait || d.Make != nil {
		t.Fatalf("%+v, want it to wait for its own", d)
	}
	nothing := func(plan pool.Plan[int]) {
		t.Helper()
		if len(plan.Refuse)+len(plan.Make)+len(plan.End)+len(plan.Run) > 0 {
			t.Fatalf("%+v, want the claim to wait on", plan)
		}
	}
	nothing(p.Tick(at(2).Add(2*pool.Patience), 0, time.Hour))
	nothing(p.Tick(at(2).Add(4*pool.Patience), 0, time.Hour))
	if d := p.Claim(at(300), h, s, 3); d.Action != pool.Throttle {
		t.Errorf("%+v, want it throttled: another waits for the only one", d)
	}
	if turn := p.Parked(at(301), id, 0); !turn.Run || turn.Claim != 2 || turn.Start != schema.StartWarm {
		t.Fatalf("%+v, want it to run what waited", turn)
	}
	p.Finished(at(302), id, true)
	nothing(p.Tick(at(400), 0, time.Hour))
	if d := p.Claim(at(400), h, s, 4); d.Action != pool.Wait || d.Make != nil {
		t.Fatalf("%+v, want one that comes late to wait, too", d)
	}
	p.Abandon(at(401), h, 4)
	h2, s2 := tenantOf("2", "a")
	d := p.Claim(at(401), h2, s2, 5)
	if d.Action != pool.Wait || len(d.Make) != 1 {
		t.Fatalf("of another version: %+v, want one made", d)
	}
	if turn := p.Parked(at(402), id, 0); !turn.End {
		t.Errorf("%+v, want it ended: another has its place", turn)
	}
	p.Gone(at(402), id)
	// It dies without ever asking: whoever waits for it gets another. So it does where more are allowed by then.
	id = d.Make[0].Environment
	if turn := p.Parked(at(403), id, 0); !turn.Run {
		t.Fatalf("%+v", turn)
	}
	p.Finished(at(404), id, true)
	p.Tick(at(500), 0, time.Hour)
	p.Claim(at(500), h2, s2, 6)
	plan := p.Gone(at(501), id)
	if len(plan.Make) != 1 || len(plan.Refuse) > 0 {
		t.Fatalf("%+v, want another made", plan)
	}
}

// On a reserved arc the limit holds too, for what is claimed, promised and redeemed. Another sub-tenant has the member.
func TestTenantLimitOfAReservation(t *testing.T) {
	t.Parallel()
	p := pool.New[int]("e", 20)
	generic, s := shop("")
	for _, mk := range p.SetShare(at(0), generic, *s, pool.Share{Members: 2}).Make {
		p.Parked(at(0), mk.Environment, 0)
	}
	p.SetTenantLimit(at(0), shopScope(), 1)
	a, _ := shop("a")
	late, _ := p.Promise(at(0), a)
	d := p.Warm(at(1), a, 1)
	if d.Action != pool.Run || d.Start != schema.StartSpecialised {
		t.Fatalf("%+v", d)
	}
	if d := p.Warm(at(2), a, 2); d.Action != pool.Unknown {
		t.Errorf("a second: %+v, want none bound", d)
	}
	if n, _ := p.Promise(at(2), a); n != 0 {
		t.Error("a generic one is promised to who may have no more")
	}
	if d := p.Redeem(at(2), a, late); d.Action != pool.Unknown {
		t.Errorf("redeemed: %+v", d)
	}
	b, _ := shop("b")
	c, _ := shop("c")
	for _, mk := range d.Make {
		p.Parked(at(3), mk.Environment, 0)
	}
	d = p.Warm(at(3), b, 3)
	if d.Action != pool.Run || d.Start != schema.StartSpecialised {
		t.Errorf("another sub-tenant: %+v", d)
	}
	for _, mk := range d.Make {
		p.Parked(at(4), mk.Environment, 0)
	}
	// One of its own off the arc makes way for a member.
	off := warmTenant(t, p, at(4), c.Version, "c")
	if d := p.Warm(at(5), c, 5); d.Action != pool.Run || d.Start != schema.StartSpecialised || !slices.Equal(d.End, []string{off}) {
		t.Errorf("beside one off the arc: %+v, want a member in place of %s", d, off)
	}
}

// What was set aside for one that is not made after all ends, where its sub-tenant has got another meanwhile.
func TestRestoreWithinTheTenantLimit(t *testing.T) {
	t.Parallel()
	p := pool.New[int]("e", 1)
	aside := warmTenant(t, p, at(0), "1", "a")
	hb, sb := tenantOf("1", "b")
	made := p.Claim(at(1), hb, sb, 1)
	if !slices.Equal(made.End, []string{aside}) {
		t.Fatalf("%+v", made)
	}
	p.SetCapacity(at(1), 3)
	p.SetTenantLimit(at(1), shopScope(), 1)
	warmTenant(t, p, at(2), "2", "a")
	if turn, ok := p.Restore(at(3), aside); !ok || !turn.End {
		t.Errorf("%+v, %v, want it ended", turn, ok)
	}
}

// S62: two sub-tenants race for the last generic member, 10,000 times: one is bound to it, and the other gets a new one by its own, never
// the same. Who parks, and who has finished, comes in any order.
func TestLastGenericMember(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 3))
	p := pool.New[int]("e", 12)
	generic, s := shop("")
	now := t0
	plan := p.SetShare(now, generic, *s, pool.Share{Members: 1})
	owner := make(map[string]string) // of environments that were bound
	var making []string              // members and unreserved ones that start
	start := func(made []pool.Make) {
		for _, mk := range made {
			making = append(making, mk.Environment)
		}
	}
	start(plan.Make)
	rounds := 10_000
	for round := range rounds {
		now = now.Add(time.Millisecond)
		for _, id := range making { // the share is whole
			if turn := p.Parked(now, id, time.Millisecond); turn.Run || turn.End {
				t.Fatalf("seed %d round %d: %s parked: %+v", seed, round, id, turn)
			}
		}
		making = nil
		names := [2]string{fmt.Sprint("a", round), fmt.Sprint("b", round)}
		r.Shuffle(2, func(i, j int) { names[i], names[j] = names[j], names[i] })
		ran := make(map[string]string)
		bind := func(id, tenant string) {
			if was, ok := owner[id]; ok {
				t.Fatalf("seed %d round %d: %s of %s runs a call of %s", seed, round, id, was, tenant)
			}
			owner[id], ran[tenant] = tenant, id
		}
		specialised := 0
		for i, tenant := range names {
			h, _ := shop(tenant)
			d := p.Warm(now, h, 2*round+i)
			for _, id := range d.End {
				p.Gone(now, id)
			}
			start(d.Make)
			if d.Action == pool.Run {
				specialised++
				if d.Start != schema.StartSpecialised {
					t.Fatalf("seed %d round %d: %+v", seed, round, d)
				}
				bind(d.Environment, tenant)
				continue
			}
			// It moves to the unreserved arc, where one is made for it.
			u, us := tenantOf(generic.Version, tenant)
			if d = p.Claim(now, u, us, 2*round+i); d.Action != pool.Wait || len(d.Make) != 1 {
				t.Fatalf("seed %d round %d: the other: %+v", seed, round, d)
			}
			for _, id := range d.End {
				p.Gone(now, id)
			}
			turn := p.Parked(now, d.Make[0].Environment, time.Millisecond)
			if !turn.Run || turn.Claim != 2*round+i || turn.Start != schema.StartCold {
				t.Fatalf("seed %d round %d: the other's: %+v", seed, round, turn)
			}
			bind(d.Make[0].Environment, tenant)
		}
		if specialised != 1 || ran[names[0]] == ran[names[1]] || ran[names[1]] == "" {
			t.Fatalf("seed %d round %d: %d got the last one: %v", seed, round, specialised, ran)
		}
		order := []string{ran[names[0]], ran[names[1]]}
		r.Shuffle(2, func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, id := range order {
			if p.Finished(now, id, true); r.IntN(2) == 0 {
				p.Parked(now, id, 0)
			} else {
				p.Gone(now, id)
			}
		}
	}
	if len(owner) != 2*rounds {
		t.Errorf("%d environments ran %d calls", len(owner), 2*rounds)
	}
}
