package worker_test

import (
	"strings"
	"testing"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker"
)

// TestTenantsNeedADriver: what a driver does not keep apart is not made, whatever frontends and managers say (SECURITY 3).
func TestTenantsNeedADriver(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *worker.Config) { c.Tenants = false })
	b.worker.Make("e-tenant", b.binding(func(b *schema.Binding) { b.Tenant = "acme" }), b.notify)
	if f := b.awaitEvent("e-tenant", schema.EnvironmentFailed, 1).Error; !strings.Contains(f.Message, "does not keep sub-tenants apart") {
		t.Errorf("failed with %+v", f)
	}
	b.made("e-nobody", b.binding()) // others go on
}
