package frontend_test

import (
	"errors"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// A call of a function with sub-tenants goes to the arc of function and sub-tenant, under both names.
func TestTenantsCall(t *testing.T) {
	t.Parallel()
	fn := record("tenants")
	fn.PerTenant = true
	b := setup(t, settings{functions: []*schema.FunctionRecord{fn}})
	const tenant = "acme/eu 1"
	sub, err := b.caller.SubscribeSync(b.caller.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	stored, err := b.caller.SubscribeSync(b.Names.UnreservedAll())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*nats.Msg{
		{Subject: b.Names.Invoke("default", "tenants", tenant)},
		{Subject: b.Names.Invoke("default", "tenants", ""), Header: nats.Header{schema.HeaderTenant: {tenant}}},
		{Subject: b.Names.Invoke("default", "tenants", tenant), Header: nats.Header{schema.HeaderTenant: {tenant}}},
	} {
		m.Reply = sub.Subject
		if err := b.caller.PublishMsg(m); err != nil {
			t.Fatal(err)
		}
		got := next(t, stored)
		arc, ok := b.Names.ParseArc(got.Subject)
		if want := (subjects.ArcCall{
			Number: subjects.UnreservedArc("default", "tenants", tenant, 64), Account: "default", Function: "tenants",
			Version: schema.Latest, Tenant: tenant,
		}); !ok || arc != want {
			t.Errorf("published on %s: %+v, want %+v", got.Subject, arc, want)
		}
		var call schema.Call
		if err := schema.DecodeCall(got.Data, &call); err != nil || call.Tenant != tenant || call.FunctionID != fn.ID {
			t.Errorf("envelope %+v, %v", call, err)
		}
	}
}

// Under every policy but "any" the subject must name the sub-tenant: a header proves nothing (SECURITY 5).
func TestTenantPolicy(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"subject", "key", "jwt", "what comes later"} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			fn := record("tenants")
			fn.PerTenant = true
			b := setup(t, settings{functions: []*schema.FunctionRecord{fn}, fabric: func(f *schema.Fabric) { f.TenantPolicy = policy }})
			m := b.request(t, "tenants", nil, nats.Header{schema.HeaderTenant: {"a"}})
			wantRefusal(t, m, schema.CodeInvalidParameter, "the subject must name it")
			_, err := b.f.Invoke(t.Context(), &schema.Request{Account: "default", Function: "tenants", Tenant: "a"})
			if !errors.Is(err, &schema.Error{Code: schema.CodeInvalidParameter}) {
				t.Errorf("a door that proves nothing: %v", err)
			}
			if err := b.caller.PublishRequest(b.Names.Invoke("default", "tenants", "a"), b.caller.NewInbox(), nil); err != nil {
				t.Fatal(err)
			}
			natstest.Eventually(t, patience, func() bool { return b.waiting(t) == 1 }, "the subject's sub-tenant is not served")
		})
	}
}
