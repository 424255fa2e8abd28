package control_test

import (
	"testing"

	"github.com/hearth-run/hearth/frontend/control"
	"github.com/hearth-run/hearth/schema"
)

// TestTenantsNeedADriver: a fabric whose driver does not keep sub-tenants apart takes no function that has them.
func TestTenantsNeedADriver(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *control.Config) { c.Tenants = false })
	code := b.putZip(t, "zero")
	body := b.refused(t, schema.CodeInvalidParameter, "CreateFunction",
		function("f", code, object{"TenancyConfig": object{"TenantIsolationMode": "PER_TENANT"}}))
	if len(body.Fields) != 1 || body.Fields[0].Field != "TenancyConfig.TenantIsolationMode" {
		t.Errorf("refused with %+v", body)
	}
	b.must(t, "CreateFunction", function("f", code, nil))
}
