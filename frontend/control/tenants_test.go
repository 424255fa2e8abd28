package control_test

import (
	"strings"
	"testing"

	"github.com/hearth-run/hearth/schema"
)

// TestTenantsNeedADriver: a fabric with a worker that does not keep sub-tenants apart, or with none at all, takes no function that has them.
func TestTenantsNeedADriver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	code := b.putZip(t, "zero")
	shared := function("f", code, object{"TenancyConfig": object{"TenantIsolationMode": "PER_TENANT"}})
	apart, bare, idle := schema.ManagerStatus{ID: "m1", Capacity: 8, Tenants: true}, schema.ManagerStatus{ID: "m2", Capacity: 8}, schema.ManagerStatus{ID: "m3"}
	for _, c := range []struct {
		managers []schema.ManagerStatus
		says     string
	}{
		{nil, "no worker"}, {[]schema.ManagerStatus{idle}, "no worker"}, {[]schema.ManagerStatus{apart, bare}, "m2"}, {[]schema.ManagerStatus{bare}, "m2"},
	} {
		b.view.managers = c.managers
		body := b.refused(t, schema.CodeInvalidParameter, "CreateFunction", shared)
		if len(body.Fields) != 1 || body.Fields[0].Field != "TenancyConfig.TenantIsolationMode" || !strings.Contains(body.Fields[0].Allowed, c.says) {
			t.Errorf("%v: refused with %+v", c.managers, body)
		}
	}
	b.must(t, "CreateFunction", function("plain", code, nil))
	b.view.managers = []schema.ManagerStatus{idle, apart}
	b.must(t, "CreateFunction", shared)
}
