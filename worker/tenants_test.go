package worker_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker"
	"github.com/hearth-run/hearth/worker/driver/null"
)

// TestTenantsNeedADriver: what a driver does not keep apart is not made, whatever frontends and managers say (SECURITY 3).
func TestTenantsNeedADriver(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *worker.Config) { c.Tenants = false })
	b.worker.Make("e-tenant", b.binding(perTenant), b.notify)
	if f := b.awaitEvent("e-tenant", schema.EnvironmentFailed, 1).Error; !strings.Contains(f.Message, "does not keep sub-tenants apart") {
		t.Errorf("failed with %+v", f)
	}
	b.made("e-nobody", b.binding()) // others go on
}

// TestMadeForNobody: an environment is made generic; that it should be made for one sub-tenant is refused.
func TestMadeForNobody(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.worker.Make("e1", b.binding(perTenant, func(b *schema.Binding) { b.Tenant = "acme" }), b.notify)
	if f := b.awaitEvent("e1", schema.EnvironmentFailed, 1).Error; !strings.Contains(f.Message, "the first call binds it") {
		t.Errorf("failed with %+v", f)
	}
}

// TestBindsForGood: the first call binds a generic environment to its sub-tenant. Its next calls run there; one of another sub-tenant,
// as a forged message between manager and worker would bring, kills it, is answered with an error and counted (DESIGN 7, SECURITY 1).
func TestBindsForGood(t *testing.T) {
	t.Parallel()
	b := setup(t)
	binding := b.binding(perTenant)
	b.made("e1", binding)
	if c := b.worker.Counters(); c.Bound != 0 {
		t.Fatalf("bound before its first call: %+v", c)
	}
	for n := 1; n <= 3; n++ {
		run := b.runFor("a", "e1", binding, quoted("headers"))
		b.worker.Start(run)
		m, _ := b.answer(run)
		var seen map[string][]string
		if err := json.Unmarshal(m.Data, &seen); err != nil || fmt.Sprint(seen["Lambda-Runtime-Aws-Tenant-Id"]) != "[a]" {
			t.Fatalf("the function saw %s (%v)", m.Data, err)
		}
		b.awaitEvent("e1", schema.EnvironmentParked, n+1)
	}
	forged := b.runFor("b", "e1", binding, `1`)
	b.worker.Start(forged)
	m, o := b.answer(forged)
	functionError(t, m, `{"errorType":"Hearth.BindingMismatch","errorMessage":"The call met an environment that is bound to `+
		`something else; it was not run"}`)
	b.awaitEvent("e1", schema.EnvironmentGone, 1)
	if c := b.worker.Counters(); o.Reusable || c.Bound != 1 || c.BindingMismatches != 1 || c.Started != 3 {
		t.Errorf("outcome %+v, counters %+v", o, c)
	}
	late := b.runFor("a", "e1", binding, `1`) // it is dead for its own sub-tenant too
	b.worker.Start(late)
	if m, _ := b.answer(late); !strings.Contains(string(m.Data), string(schema.CodeExecutionLost)) {
		t.Errorf("after its end: %s", m.Data)
	}
}

// TestRaceToBind: of several sub-tenants whose calls meet one generic environment at the same moment at most one has it, and no call of
// another runs there, whoever else comes.
func TestRaceToBind(t *testing.T) {
	t.Parallel()
	const tenants = 4
	b := setup(t, func(c *worker.Config) { c.Driver, c.CacheDir = null.New(), "" })
	binding := b.binding(perTenant)
	mixed := 0
	for round := range 100 {
		id := fmt.Sprint("e", round)
		b.made(id, binding)
		before := b.worker.Counters()
		runs := make([]*schema.Run, tenants)
		for i := range runs {
			runs[i] = b.runFor(fmt.Sprint("t", i), id, binding, `1`)
		}
		begin := make(chan struct{})
		var wg sync.WaitGroup
		for _, run := range runs {
			wg.Go(func() {
				<-begin
				b.worker.Start(run)
			})
		}
		close(begin)
		wg.Wait()
		ran, refused := 0, 0
		for _, run := range runs {
			m, _ := b.answer(run)
			switch {
			case string(m.Data) == `1`:
				ran++
			case strings.Contains(string(m.Data), string(schema.CodeBindingMismatch)):
				refused++
			case strings.Contains(string(m.Data), "Runtime.ExitError"): // it ran when another's killed the environment
			case !strings.Contains(string(m.Data), string(schema.CodeExecutionLost)):
				t.Fatalf("%s", m.Data)
			}
		}
		c := b.worker.Counters()
		if c.Bound-before.Bound != 1 || ran > 1 || refused == 0 || int64(refused) != c.BindingMismatches-before.BindingMismatches {
			t.Fatalf("round %d: %d ran, %d refused, counters %+v after %+v", round, ran, refused, c, before)
		}
		if ran == 1 {
			mixed++
		}
	}
	if mixed == 0 {
		t.Error("no call ever ran")
	}
}
