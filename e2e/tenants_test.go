//go:build linux && (amd64 || arm64)

package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/e2e/fabric"
	"github.com/hearth-run/hearth/schema"
)

// TestTenants is what the customers of one function share, and what they do not: S60 to S63 and S67, in the sandbox.
//
// Broken to see it fail: the pool gives any idle environment to whoever comes (the worker kills it, and the call fails); a worker that
// does not compare lets B see what A left.
func TestTenants(t *testing.T) {
	t.Parallel()
	needsSandbox(t)
	g := newGate(t) // at this host, which the sandbox reaches where it is let
	capacity := 20
	if os.Getenv("HEARTH_LONG") != "" {
		capacity = 40 // fewer than sub-tenants, but so many that most of 10,000 calls are warm
	}
	f := fabric.Start(t, fabric.Options{Managers: 2, Capacity: capacity, Driver: "native",
		Flags: []string{"--set", "start-by=60s", "--set", "growth=1000000", "--allow-local", g.l.Addr().String()}})
	f.DeployFn("shop", "--timeout", "60s", "--tenancy", "per-tenant", "--egress", g.l.Addr().String(), "--publish")
	c := f.Anonymous()
	call := func(t *testing.T, tenant, words string) *client.Answer {
		t.Helper()
		a, err := c.Invoke(withDeadline(t), client.Call{Function: "shop", Qualifier: "1", Tenant: tenant, Payload: []byte(`"` + words + `"`)})
		if err != nil {
			t.Fatalf("%s for %s: %v", words, tenant, err)
		}
		if a.FunctionError != nil || a.Tenant != tenant {
			t.Fatalf("%s for %s: %+v, %s", words, tenant, a, a.Payload)
		}
		return a
	}
	t.Run("S60", func(t *testing.T) {
		first, second := call(t, "acme", "count"), call(t, "acme", "count")
		if first.Start != schema.StartCold || second.Start != schema.StartWarm || first.Environment != second.Environment || string(second.Payload) != "2" {
			t.Errorf("%s in %s, then %s in %s: %s", first.Start, first.Environment, second.Start, second.Environment, second.Payload)
		}
	})
	t.Run("S61", func(t *testing.T) { leavesNothing(t, call) })
	t.Run("S62 S63", func(t *testing.T) {
		f.MustCLI("reserve", "shop:1", "3", "--wait")
		_, port, err := net.SplitHostPort(g.l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		held := make(chan *client.Answer, 2)
		var wg sync.WaitGroup
		defer wg.Wait()
		hold := func() {
			wg.Go(func() {
				a, err := c.Invoke(withDeadline(t), client.Call{Function: "shop", Qualifier: "1", Tenant: "generic", Payload: []byte(`"hold host.hearth.internal:` + port + `"`)})
				if err != nil {
					t.Error(err)
				}
				held <- a
			})
		}
		hold()
		busy := g.wait(t, 1)
		// Its only environment is busy: another is bound for it, and nobody else's is touched.
		second := call(t, "generic", "count")
		if second.Start != schema.StartSpecialised || second.Reason != schema.ReasonReserved || string(second.Payload) != "1" {
			t.Errorf("beside one that is busy: %s, %s: %s", second.Start, second.Reason, second.Payload)
		}
		release(busy)
		if first := <-held; first == nil || first.Start != schema.StartSpecialised || first.Environment == second.Environment {
			t.Errorf("the first: %+v", first)
		}
		eventually(t, "the pool has refilled", func() bool {
			return strings.Contains(f.MustCLI("reservations", "--json"), `"size":3`)
		})
		if third := call(t, "another", "keep another"); third.Start != schema.StartSpecialised || string(third.Payload) != `"[]"` {
			t.Errorf("the next sub-tenant: %s: %s", third.Start, third.Payload)
		}
	})
	t.Run("S68", func(t *testing.T) {
		_, port, err := net.SplitHostPort(g.l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		sumsUp(t, f, g, "host.hearth.internal:"+port)
		asksForWhatIsThere(t, scrape(t, f.HTTP))
	})
}

// leavesNothing: what a sub-tenant leaves in memory and in files it alone finds, and no environment ever serves two (S61). There is room
// for fewer environments than sub-tenants, so idle ones go all the time, and none of them comes back as another's (S67).
func leavesNothing(t *testing.T, call func(t *testing.T, tenant, words string) *client.Answer) {
	calls, callers := 90, 2
	if os.Getenv("HEARTH_LONG") != "" {
		calls, callers = 10_000, 6
	}
	traces := &traces{served: map[string]string{}}
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range calls / callers {
				tenant := oneOfMany()
				traces.note(t, tenant, call(t, tenant, "keep "+tenant))
			}
		})
	}
	wg.Wait()
	traces.prove(t)
}

// manyTenants share one function where traces are looked for.
const manyTenants = 50

func oneOfMany() string { return fmt.Sprint("t", rand.IntN(manyTenants)) }

// traces are what calls of many sub-tenants found of those before: each leaves its name by "keep NAME".
type traces struct {
	mu     sync.Mutex
	served map[string]string // environment to sub-tenant
	kept   int
}

// note checks what a call found: its own sub-tenant's name alone, and that only in an environment which that one had before.
func (x *traces) note(t *testing.T, tenant string, a *client.Answer) {
	found := strings.Fields(strings.Trim(string(a.Payload), "[]\""))
	x.mu.Lock()
	defer x.mu.Unlock()
	if owner, ok := x.served[a.Environment]; ok && owner != tenant {
		t.Errorf("%s served %s and %s", a.Environment, owner, tenant)
	}
	x.served[a.Environment] = tenant
	x.kept += len(found)
	if slices.ContainsFunc(found, func(s string) bool { return s != tenant }) || a.Start != schema.StartWarm && len(found) > 0 {
		t.Errorf("%s finds %q (%s)", tenant, found, a.Start)
	}
}

// prove fails a test in which nothing could have been found.
func (x *traces) prove(t *testing.T) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.kept == 0 || len(x.served) <= manyTenants/2 {
		t.Errorf("%d traces were found and %d environments made: this proves nothing", x.kept, len(x.served))
	}
}
