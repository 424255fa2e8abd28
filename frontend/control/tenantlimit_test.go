package control_test

import (
	"strings"
	"testing"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/schema"
)

// The limit by sub-tenant is set, told and taken away, apart from the function's own; what cannot be one is refused by its field.
func TestTenantConcurrency(t *testing.T) {
	t.Parallel()
	b := setup(t)
	code := b.putZip(t, "zero")
	b.must(t, "CreateFunction", function("shop", code, object{"TenancyConfig": object{"TenantIsolationMode": "PER_TENANT"}}))
	b.must(t, "CreateFunction", function("plain", code, nil))
	of := object{"FunctionName": "shop"}
	limit := func(name string, n any) object { return object{"FunctionName": name, "TenantConcurrency": n} }
	if out := b.must(t, "GetTenantConcurrency", of); len(out) != 0 {
		t.Fatalf("without a limit: %v", out)
	}
	if out := b.must(t, "PutTenantConcurrency", limit("shop", 3)); out["TenantConcurrency"] != 3.0 {
		t.Fatalf("set: %v", out)
	}
	b.must(t, "PutFunctionConcurrency", object{"FunctionName": "shop", "ReservedConcurrentExecutions": 7})
	b.must(t, "UpdateFunctionConfiguration", object{"FunctionName": "shop", "Description": "sells"})
	if out := b.must(t, "GetTenantConcurrency", of); out["TenantConcurrency"] != 3.0 {
		t.Fatalf("after other changes: %v", out)
	}
	if out := b.must(t, "GetFunctionConcurrency", of); len(out) != 1 || out["ReservedConcurrentExecutions"] != 7.0 {
		t.Fatalf("what Lambda's clients see: %v", out)
	}
	for _, c := range []struct {
		request      object
		field, wants string
	}{
		{limit("shop", 0), "TenantConcurrency", "1 to 1000000"},
		{limit("shop", -1), "TenantConcurrency", "1 to 1000000"},
		{limit("shop", schema.MaxConcurrency+1), "TenantConcurrency", "1 to 1000000"},
		{limit("shop", "x"), "TenantConcurrency", ""},
		{of, "TenantConcurrency", "required"},
		{limit("plain", 3), "FunctionName", "PER_TENANT"},
		{limit("shop:1", 3), "FunctionName", "qualifier"},
		{object{"FunctionName": "shop", "TenantConcurrency": 3, "Mode": 1}, "Mode", ""},
	} {
		body := b.refused(t, schema.CodeInvalidParameter, "PutTenantConcurrency", c.request)
		if len(body.Fields) != 1 || body.Fields[0].Field != c.field || !strings.Contains(body.Fields[0].Allowed, c.wants) {
			t.Errorf("%v: refused with %+v", c.request, body)
		}
	}
	b.refused(t, schema.CodeNotFound, "PutTenantConcurrency", limit("nosuch", 3))
	b.refused(t, schema.CodeNotFound, "GetTenantConcurrency", object{"FunctionName": "nosuch"})
	b.refused(t, schema.CodeInvalidParameter, "DeleteTenantConcurrency", limit("shop", 3))
	fabric := schema.DefaultFabric()
	fabric.MaxEnvironments = 10
	b.put(t, topology.Ring, schema.FabricKey, fabric)
	if body := b.refused(t, schema.CodeInvalidParameter, "PutTenantConcurrency", limit("shop", 11)); !strings.Contains(body.Message, "1 to 10 ") {
		t.Errorf("over the account's: %q", body.Message)
	}
	b.must(t, "DeleteTenantConcurrency", of)
	if out := b.must(t, "GetTenantConcurrency", of); len(out) != 0 {
		t.Fatalf("taken away: %v", out)
	}
}
