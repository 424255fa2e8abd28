//go:build linux && (amd64 || arm64)

package e2e_test

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/e2e/fabric"
	"github.com/hearth-run/hearth/schema"
)

// TestTenantsKilled is S61 while managers and workers are killed: calls of 50 sub-tenants in turn, and no environment ever serves two, nor
// does what one of them left outlive a process to be found by another. The full number runs where HEARTH_LONG is set.
func TestTenantsKilled(t *testing.T) {
	t.Parallel()
	needsSandbox(t)
	calls, kills := int64(160), int64(2)
	if os.Getenv("HEARTH_LONG") != "" {
		calls, kills = 10_000, 40
	}
	f := fabric.StartSpread(t, fabric.SpreadOptions{Managers: 2, Workers: 2, Capacity: 20, Driver: "native", Set: []string{"growth=1000000"}})
	f.DeployFn("shop", "--timeout", "60s", "--tenancy", "per-tenant")
	c := f.Admin()

	traces := &traces{served: map[string]string{}}
	var fine, gone atomic.Int64
	work := loaded(4, func(context.Context) {
		tenant := oneOfMany()
		a, err := c.Invoke(withDeadline(t), client.Call{Function: "shop", Tenant: tenant, Payload: []byte(`"keep ` + tenant + `"`)})
		switch {
		case err != nil:
			if status := schema.CodeOf(err).Row().Status; status != 503 && status != 429 {
				t.Errorf("%s: %v", tenant, err)
			}
			gone.Add(1)
		case a.FunctionError != nil:
			if a.FunctionError.Type != string(schema.CodeExecutionLost) {
				t.Errorf("%s: %s %s", tenant, a.FunctionError.Type, a.FunctionError.Message)
			}
			gone.Add(1)
		default:
			traces.note(t, tenant, a)
			fine.Add(1)
		}
	})
	defer work.stop()
	victims := []*fabric.Role{f.Workers[0], f.Managers[1], f.Workers[1], f.Managers[0]}
	for i := range kills {
		eventually(t, fmt.Sprintf("calls before kill %d", i), func() bool { return fine.Load() >= (i+1)*calls/(kills+1) })
		victim := victims[i%int64(len(victims))]
		victim.Kill()
		victim.Start()
	}
	eventually(t, "all calls", func() bool { return fine.Load() >= calls })
	work.stop()
	traces.prove(t)
	t.Logf("%d calls answered by %d environments, %d refused or lost", fine.Load(), len(traces.served), gone.Load())
}
