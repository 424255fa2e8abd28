package manager_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

var manyBound = flag.Bool("many", false, "also measure with 2,500 sub-tenants that have an environment each")

// boundAll is a manager on a server of its own, where so many sub-tenants of a function have an idle environment each.
type boundAll struct {
	c     *caller
	calls []*schema.Call
	sub   *nats.Subscription
	next  int
}

func newBound(b *testing.B, tenants int) *boundAll {
	b.Helper()
	f := natstest.Start(b, natstest.AllArcs())
	startNode(b, f, f.Connect(b), "m1", inline, capacity(tenants), set("growth", "1000000"))
	x := &boundAll{c: newCaller(b, f, "f1")}
	key := x.c.deploy("shop", perTenant)
	inbox := x.c.nc.NewInbox()
	var err error
	if x.sub, err = x.c.nc.SubscribeSync(inbox); err != nil {
		b.Fatal(err)
	}
	for i := range tenants {
		call := x.c.call("shop", key, inbox)
		call.Tenant = fmt.Sprint("tenant-", i)
		x.calls, x.next = append(x.calls, call), i
		if m := x.call(b); start(m) != schema.StartCold {
			b.Fatalf("the first call of %s: %s, %v", call.Tenant, start(m), m.Header)
		}
	}
	x.next = 0
	return x
}

// call is one call of the next sub-tenant, from its publication to its answer.
func (x *boundAll) call(b *testing.B) *nats.Msg {
	call := x.calls[x.next]
	x.next = (x.next + 1) % len(x.calls)
	if err := x.c.nc.Publish(x.c.subject(call), schema.EncodeCall(nil, call)); err != nil {
		b.Fatal(err)
	}
	m, err := x.sub.NextMsg(patience)
	if err != nil {
		b.Fatalf("call of %s: %v", call.Tenant, err)
	}
	return m
}

// BenchmarkBoundCall is a warm call of a sub-tenant through a manager where 64 have an environment, one for each arc, and where 500 have
// (2,500 with -many), each called in its turn, and the two in turns within one run. The ratios are medians of those of the turns' medians:
// what a claim costs where many are bound (issue 7). With fewer than there are arcs a call is quicker for another reason: the server has
// fewer consumers to ask. BenchmarkBoundClaim in package pool is the pool's part of it alone.
func BenchmarkBoundCall(b *testing.B) {
	sizes := []int{subjects.DefaultArcs, 500}
	if *manyBound {
		sizes = append(sizes, 2500)
	}
	all := make([]*boundAll, len(sizes))
	for i, n := range sizes {
		all[i] = newBound(b, n)
	}
	const turn = 100
	p50 := make([][]float64, len(sizes)) // of each turn, in us
	b.ResetTimer()
	for b.Loop() {
		round := make([][]float64, len(all))
		for _, i := range rand.Perm(len(all)) {
			for range turn / 4 { // what the others left in the caches is not what is measured
				all[i].call(b)
			}
			for range turn {
				began := time.Now()
				m := all[i].call(b)
				if round[i] = append(round[i], float64(time.Since(began).Nanoseconds())/1e3); start(m) != schema.StartWarm {
					b.Fatalf("%d bound: %s, %v", sizes[i], start(m), m.Header)
				}
			}
		}
		for i := range all {
			p50[i] = append(p50[i], middle(round[i]))
		}
	}
	for i, n := range sizes {
		ratios := make([]float64, len(p50[i]))
		for at := range ratios {
			ratios[at] = p50[i][at] / p50[0][at]
		}
		b.ReportMetric(middle(p50[i]), fmt.Sprintf("bound-%d-us", n))
		if i > 0 {
			b.ReportMetric(middle(ratios), fmt.Sprintf("bound-%d-ratio", n))
		}
	}
}

func middle(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
