//go:build linux && (amd64 || arm64)

package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/e2e/fabric"
	"github.com/hearth-run/hearth/schema"
)

// shops are the same function three times in one fabric: without sub-tenants, with them, and with tokens too.
type shops struct {
	*fabric.Fabric
	c *client.Client
}

func openShops(b *testing.B) *shops {
	needsSandbox(b)
	f := fabric.Start(b, fabric.Options{Capacity: 300, Driver: "native", Flags: []string{"--set", "growth=1000000"}})
	f.DeployFn("plain", "--publish")
	f.DeployFn("shop", "--publish", "--tenancy", "per-tenant")
	f.DeployFn("vouched", "--publish", "--tenancy", "per-tenant", "--audience", "records")
	return &shops{f, f.Anonymous()}
}

// call makes one call and gives how long its caller waited, and for how long its environment had it.
func (s *shops) call(b *testing.B, function, tenant string, kind schema.Start) (total, inside time.Duration) {
	began := time.Now()
	a, err := s.c.Invoke(b.Context(), client.Call{Function: function, Qualifier: "1", Tenant: tenant, Payload: []byte("1")})
	total = time.Since(began)
	if err != nil || a.FunctionError != nil || kind != "" && a.Start != kind {
		b.Fatalf("%s for %q: %+v, %v; want it %s", function, tenant, a, err, kind)
	}
	return total, a.Duration
}

// used is the CPU time of the fabric, to the nanosecond.
func (s *shops) used(b *testing.B) time.Duration {
	const perProcess = 2 // CPUCLOCK_SCHED, clock_getcpuclockid(3)
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^s.PID()<<3|perProcess), &ts); err != nil {
		b.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

// figures are what rounds gave, in us.
type figures []float64

func (f *figures) add(d time.Duration) { *f = append(*f, float64(d.Nanoseconds())/1e3) }

func (f figures) middle() float64 {
	sorted := slices.Sorted(slices.Values(f))
	return sorted[len(sorted)/2]
}

// over are the ratios within each round.
func (f figures) over(g figures) (ratios figures) {
	for i := range f {
		ratios = append(ratios, f[i]/g[i])
	}
	return ratios
}

// BenchmarkTenantWarm is a warm call of a sub-tenant, without a token and with one, beside a warm call of the same function without
// sub-tenants, in turns within one run on one fabric: p50 for the caller, and CPU of the fabric a call. Issue 7 wants at most
// 1.10 and 1.05 times.
func BenchmarkTenantWarm(b *testing.B) {
	s := openShops(b)
	sides := [3]struct {
		function, tenant string
		p50, cpu         figures // of each round
	}{{function: "plain"}, {function: "shop", tenant: "acme"}, {function: "vouched", tenant: "acme"}}
	for i := range sides {
		for range 200 {
			s.call(b, sides[i].function, sides[i].tenant, "")
		}
	}
	const turn = 150
	b.ResetTimer()
	for b.Loop() {
		var took [len(sides)]figures
		var cpu [len(sides)]time.Duration
		for _, i := range append(rand.Perm(len(sides)), rand.Perm(len(sides))...) { // whatever else the machine does falls on all of them alike
			for range turn / 10 {
				s.call(b, sides[i].function, sides[i].tenant, schema.StartWarm)
			}
			before := s.used(b)
			for range turn {
				total, _ := s.call(b, sides[i].function, sides[i].tenant, schema.StartWarm)
				took[i].add(total)
			}
			cpu[i] += s.used(b) - before
		}
		for i := range sides {
			sides[i].p50 = append(sides[i].p50, took[i].middle())
			sides[i].cpu.add(cpu[i] / (2 * turn))
		}
	}
	for i := range sides {
		b.ReportMetric(sides[i].p50.middle(), sides[i].function+"-p50-us")
		b.ReportMetric(sides[i].cpu.middle(), sides[i].function+"-cpu-us")
		if i > 0 {
			b.ReportMetric(sides[i].p50.over(sides[0].p50).middle(), sides[i].function+"-p50-ratio")
			b.ReportMetric(sides[i].cpu.over(sides[0].cpu).middle(), sides[i].function+"-cpu-ratio")
		}
	}
}

// BenchmarkTenantSpecialised is the first call of a sub-tenant, which binds a generic member, beside warm calls in turns within one run: those
// of a sub-tenant that calls all the time, and the second call of one that came a second or two before, whose environment has rested: its
// memory is read for the line REPORT, as it is at a first call. The bind is measured apart, by the worker: how much longer the environment
// had the call, which is that of being bound and of being called for the first time. Issue 7 wants the whole at most 1.15 times as long as
// a warm call and that together.
func BenchmarkTenantSpecialised(b *testing.B) {
	for _, function := range []string{"shop", "vouched"} {
		b.Run(function, func(b *testing.B) { specialised(b, openShops(b), function) })
	}
}

// timed are calls as their caller saw them, and as their environment did.
type timed struct{ total, inside figures }

func (x *timed) add(total, inside time.Duration) {
	x.total.add(total)
	x.inside.add(inside)
}

func specialised(b *testing.B, s *shops, function string) {
	const members, busy, before = 3, 10, 30
	s.MustCLI("reserve", function+":1", fmt.Sprint(members), "--wait")
	for range 200 {
		s.call(b, function, "busy", "")
	}
	// One more than before: what was bound last is there and has been replaced.
	whole := func(bound int) {
		eventually(b, "the share is generic again", func() bool { return s.idle(b) == members+1+bound })
	}
	for i := range before {
		whole(i)
		s.call(b, function, fmt.Sprint("customer-", i), schema.StartSpecialised)
	}
	var first, second, often timed
	round := before
	b.ResetTimer()
	for b.Loop() {
		whole(round)
		for range busy {
			often.add(s.call(b, function, "busy", schema.StartWarm))
		}
		for _, i := range rand.Perm(2) {
			if i == 0 {
				first.add(s.call(b, function, fmt.Sprint("customer-", round), schema.StartSpecialised))
			} else {
				second.add(s.call(b, function, fmt.Sprint("customer-", round-before), schema.StartWarm))
			}
		}
		round++
	}
	b.ReportMetric(first.total.middle(), "specialised-us")
	for name, warm := range map[string]*timed{"warm": &second, "busy": &often} {
		bind := first.inside.middle() - warm.inside.middle()
		b.ReportMetric(warm.total.middle(), name+"-us")
		b.ReportMetric(bind, name+"-bind-us")
		b.ReportMetric(first.total.middle()/(warm.total.middle()+bind), name+"-ratio")
	}
}

// idle is how many environments there are, once none starts and none runs.
func (s *shops) idle(b *testing.B) int {
	for _, m := range s.Ring("").Managers {
		if m.Environments.Busy+m.Environments.Starting == 0 {
			return m.Environments.Idle
		}
	}
	return -1
}
