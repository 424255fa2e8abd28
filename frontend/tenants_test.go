package frontend_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
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
	stored, err := b.caller.SubscribeSync(b.Names.Prefix() + ".arc.u.>")
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
	for _, policy := range []string{"subject", "key", "what comes later"} {
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

// Under "jwt" the caller's token names it, whichever door it came by; the subject, which permissions restrict, does as well. An event
// keeps no token: its subject says from then on what the token has proved.
func TestTenantToken(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: public, KeyID: "1", Algorithm: "EdDSA"}}})
	}))
	t.Cleanup(keys.Close)
	signing, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: private}, (&jose.SignerOptions{}).WithHeader("kid", "1"))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signing.Sign(fmt.Appendf(nil, `{"aud":"hearth","customers":["a","a b"],"exp":%d}`, time.Now().Add(time.Hour).Unix()))
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	fn := record("tenants")
	fn.PerTenant = true
	b := setup(t, settings{functions: []*schema.FunctionRecord{fn}, fabric: func(f *schema.Fabric) {
		f.TenantPolicy, f.TenantJWKS, f.TenantClaim = "jwt", keys.URL, "customers"
	}})
	for name, bad := range map[string]nats.Header{
		"no token":       {schema.HeaderTenant: {"a"}},
		"another's":      {schema.HeaderTenant: {"b"}, schema.HeaderToken: {token}},
		"no real one":    {schema.HeaderTenant: {"a"}, schema.HeaderToken: {token + "x"}},
		"another header": {schema.HeaderTenant: {"a"}, "Authorization": {"Bearer " + token}},
	} {
		m := b.request(t, "tenants", nil, bad)
		wantRefusal(t, m, schema.CodeAccessDenied, "token")
		if text := fmt.Sprint(m.Header, string(m.Data)); strings.Contains(text, token[:20]) {
			t.Errorf("%s: the token is repeated: %s", name, text)
		}
	}
	wantRefusal(t, b.request(t, "tenants", nil, nats.Header{schema.HeaderTenant: {"a"}, schema.HeaderToken: {token, token}}), schema.CodeInvalidParameter, schema.HeaderToken)
	send := func(h nats.Header, subject string) {
		t.Helper()
		if err := b.caller.PublishMsg(&nats.Msg{Subject: subject, Reply: b.caller.NewInbox(), Header: h}); err != nil {
			t.Fatal(err)
		}
	}
	send(nats.Header{schema.HeaderTenant: {"a b"}, schema.HeaderToken: {token}}, b.Names.Invoke("default", "tenants", ""))
	natstest.Eventually(t, patience, func() bool { return b.waiting(t) == 1 }, "the token's sub-tenant is not served")
	send(nil, b.Names.Invoke("default", "tenants", "b"))
	natstest.Eventually(t, patience, func() bool { return b.waiting(t) == 2 }, "the subject's sub-tenant is not served")

	event := &schema.Request{Account: "default", Function: "tenants", Tenant: "a", Token: token, Payload: []byte("1")}
	if _, err := b.f.Accept(t.Context(), event, ""); err != nil {
		t.Fatal(err)
	}
	stream, err := b.JetStream(t).Stream(t.Context(), b.Names.Events("default"))
	if err != nil {
		t.Fatal(err)
	}
	stored, err := stream.GetLastMsgForSubject(t.Context(), b.Names.Event("default", "tenants", "a"))
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprint(stored.Header, string(stored.Data)); strings.Contains(text, token[:20]) {
		t.Errorf("the event keeps the token: %s", text)
	}
	event.Token = ""
	event.TenantBySubject = false
	if _, err := b.f.Accept(t.Context(), event, ""); schema.CodeOf(err) != schema.CodeAccessDenied {
		t.Errorf("an event without a token: %v", err)
	}
}
