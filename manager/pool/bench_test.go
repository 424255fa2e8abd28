package pool_test

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/hearth-run/hearth/manager/pool"
)

var many = flag.Bool("many", false, "also measure with 2,500 sub-tenants that have an environment each")

// crowds are how many sub-tenants have an environment each on one manager: a claim must not notice.
func crowds() []int {
	if *many {
		return []int{10, 500, 2500}
	}
	return []int{10, 500}
}

// bound gives a full pool in which so many sub-tenants have an idle environment each.
func bound(b *testing.B, n int) (*pool.Pool[int], []pool.Home, *pool.Spec) {
	b.Helper()
	p := pool.New[int]("e", n)
	homes := make([]pool.Home, n)
	_, s := tenantOf("1", "")
	for i := range homes {
		tenant := fmt.Sprint("tenant-", i)
		homes[i], _ = tenantOf("1", tenant)
		warmTenant(b, p, t0, "1", tenant)
	}
	return p, homes, s
}

// BenchmarkBoundClaim is the pool's part of one warm call of a sub-tenant: claim, end, and the environment asks for the next.
func BenchmarkBoundClaim(b *testing.B) {
	for _, limit := range []int{0, 4} {
		for _, n := range crowds() {
			b.Run(fmt.Sprintf("limit=%d/bound=%d", limit, n), func(b *testing.B) {
				p, homes, s := bound(b, n)
				p.SetTenantLimit(t0, shopScope(), limit)
				b.ReportAllocs()
				for i, now := 0, t0; b.Loop(); i = (i + 7) % n {
					now = now.Add(time.Microsecond)
					d := p.Claim(now, homes[i], s, i)
					if d.Action != pool.Run {
						b.Fatalf("%+v", d)
					}
					p.Finished(now, d.Environment, true)
					p.Parked(now, d.Environment, 0)
					settle(p)
				}
			})
		}
	}
}

// BenchmarkBoundTurnover is a call of a sub-tenant that has nothing, in a full pool: the least recently used one's goes, and one is made.
func BenchmarkBoundTurnover(b *testing.B) {
	for _, n := range crowds() {
		b.Run(fmt.Sprintf("bound=%d", n), func(b *testing.B) {
			p, homes, s := bound(b, n-1)
			h, _ := tenantOf("1", "one more")
			homes = append(homes, h)
			p.SetCapacity(t0, n-1)
			b.ReportAllocs()
			for i, now := n-1, t0; b.Loop(); i = (i + 1) % n { // the next is the one that went last
				now = now.Add(time.Microsecond)
				d := p.Claim(now, homes[i], s, i)
				if d.Action != pool.Wait || len(d.Make) != 1 || len(d.End) != 1 {
					b.Fatalf("%+v", d)
				}
				p.Gone(now, d.End[0])
				id := d.Make[0].Environment
				p.Parked(now, id, time.Millisecond)
				p.Finished(now, id, true)
				p.Parked(now, id, 0)
				settle(p)
			}
		})
	}
}

// BenchmarkBoundCrowd is one more call of each of so many sub-tenants that wait, for environments that start: what one of them costs.
func BenchmarkBoundCrowd(b *testing.B) {
	for _, n := range crowds() {
		b.Run(fmt.Sprintf("waiting=%d", n), func(b *testing.B) {
			p := pool.New[int]("e", n+1)
			_, s := tenantOf("1", "")
			homes := make([]pool.Home, n)
			var starting []string
			for i := range homes {
				homes[i], _ = tenantOf("1", fmt.Sprint("tenant-", i))
				starting = append(starting, p.Claim(t0, homes[i], s, i).Make[0].Environment)
			}
			b.ReportAllocs()
			for now := t0; b.Loop(); {
				now = now.Add(time.Microsecond)
				id := starting[0]
				turn := p.Parked(now, id, time.Millisecond)
				if !turn.Run {
					b.Fatalf("%+v", turn)
				}
				p.Finished(now, id, false)
				p.Gone(now, id)
				d := p.Claim(now, homes[turn.Claim], s, turn.Claim)
				if len(d.Make) != 1 {
					b.Fatalf("%+v", d)
				}
				starting = append(starting[1:], d.Make[0].Environment)
				settle(p)
			}
		})
	}
}

// settle asks as the owner does, so that what changed does not pile up.
func settle(p *pool.Pool[int]) {
	p.Stirred(func(string) {})
	p.Changed(func(pool.Group) bool { return true })
}
