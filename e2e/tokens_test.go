//go:build linux && (amd64 || arm64)

package e2e_test

import (
	"encoding/base64"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/e2e/fabric"
)

// tokenHead is how each token of Hearth begins: its alg.
var tokenHead = base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"EdDSA","kid":`)) // 21 bytes: no part of the next one in its last letter

// TestTenantTokens is what sub-tenants can prove, and to whom: S64, and whom callers may name: S65. On managers in processes of their
// own with the sandbox, at a server where the test sees every message. That tokens are renewed before they end, 15 minutes later, is
// tested on a clock of its own (package worker, TestTokensRenew; TestTokenRenewed on the real one).
//
// Broken to see it fail: see the parts.
func TestTenantTokens(t *testing.T) {
	t.Parallel()
	needsSandbox(t)
	shop, spans, g := newShop(t), newCollector(t), newGate(t)
	f := fabric.StartSpread(t, fabric.SpreadOptions{
		Capacity: 30, Driver: "native", Flags: []string{"--allow-local", shop.address, "--allow-local", g.l.Addr().String()},
		Env: []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + spans.URL, "OTEL_BSP_SCHEDULE_DELAY=50"},
	})
	shop.serve(t, f.Frontends[0].HTTP)
	t.Run("S64", func(t *testing.T) { provesWho(t, f, shop, spans) })
	t.Run("S65", func(t *testing.T) { refusesNames(t, f, g) })
}

// provesWho: with the token that came, and with the one that it asked for, a function gets its sub-tenant's records and nobody else's;
// what it tries to get another's fails; and tokens are found in no message, stream, log, span or generic environment.
//
// Broken to see it fail: a service that asks nobody whose a record is; an endpoint that does not compare secrets; lines that are not looked
// through; a token in the variables of an environment.
func provesWho(t *testing.T, f *fabric.Spread, shop *shop, spans *collector) {
	seen := watchFor(t, f, tokenHead)
	_, port, err := net.SplitHostPort(shop.address)
	if err != nil {
		t.Fatal(err)
	}
	at := "host.hearth.internal:" + port
	f.DeployFn("shop", "--timeout", "60s", "--tenancy", "per-tenant", "--audience", "records", "--egress", shop.address, "--retries", "0", "--publish")
	f.MustCLI("reserve", "shop:1", "3", "--wait")
	c := f.Anonymous()
	const a, b = "acme-7f3d91", "globex-02c5ee"
	call := func(tenant, words string) *client.Answer {
		t.Helper()
		answer, err := c.Invoke(withDeadline(t), client.Call{Function: "shop", Qualifier: "1", Tenant: tenant, Payload: []byte(`"` + words + `"`), Log: true})
		if err != nil {
			t.Fatalf("%s for %s: %v", words, tenant, err)
		}
		return answer
	}
	says := func(tenant, words, want string) {
		t.Helper()
		if answer := call(tenant, words); answer.FunctionError != nil || !strings.HasPrefix(string(answer.Payload), `"`+want) {
			t.Errorf("%s for %s: %s, want %s", words, tenant, answer.Payload, want)
		}
	}
	says(a, "fetch "+at+" PUT /records/a", "200")
	says(b, "fetch "+at+" PUT /records/b", "200")
	for _, verb := range []string{"fetch ", "fetch-pulled "} {
		says(a, verb+at+" GET /records/a", "200")
		says(a, verb+at+" GET /records/b", "404")
		says(b, verb+at+" GET /records/b", "200")
		says(b, verb+at+" GET /records/a", "404")
	}
	// Whoever asks gets the token of its own environment, whatever it says of itself, and nothing with a secret of another's.
	says(b, "fetch-pulled "+at+" GET /records/a Hearth-Tenant:"+a+" X-Amz-Tenant-Id:"+a+" Lambda-Runtime-Aws-Tenant-Id:"+a, "404")
	secrets := map[string]string{}
	for _, tenant := range []string{a, b} {
		secrets[tenant] = strings.Trim(string(call(tenant, "env HEARTH_TOKEN_AUTH").Payload), `"`)
		says(tenant, "pull "+secrets[tenant], "200")
		says(tenant, "next", "403")
	}
	says(b, "pull "+secrets[a], "403")
	if secrets[a] == secrets[b] || len(secrets[a]) < 32 {
		t.Errorf("secrets %q", secrets)
	}
	// What a function writes of it, others read as stars; and an event's run has one too.
	leak := call(a, "leak")
	if text := string(leak.Payload) + string(leak.Log); leak.FunctionError == nil || strings.Count(text, "leaks *** ***") != 3 {
		t.Errorf("written down: %s\n%s", leak.Payload, leak.Log)
	}
	for _, words := range []string{"fetch " + at + " PUT /records/event", "leak"} {
		if _, err := c.Send(withDeadline(t), client.Event{Function: "shop", Qualifier: "1", Tenant: a, Payload: []byte(`"` + words + `"`)}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the first event has run", func() bool { return shop.asked("/records/event") })
	eventually(t, "the second one is a dead letter", func() bool { return strings.Contains(f.MustCLI("deadletters", "--json"), "leaks ") })
	eventually(t, "the log has what was written", func() bool { return strings.Count(f.MustCLI("logs", "shop", "--tenant", a), "leaks ") == 4 })
	eventually(t, "the spans are there", func() bool { return spans.has(leak.RequestID) })

	tokens := shop.tokens(t)
	if len(tokens[a]) == 0 || len(tokens[b]) == 0 || len(tokens) != 2 {
		t.Fatalf("the service saw tokens of %v", slices.Collect(maps.Keys(tokens)))
	}
	for tenant, texts := range tokens {
		for _, text := range texts {
			r := f.CLI("token", "verify", "--audience", "records", "--json", text)
			if r.Code != 0 || !strings.Contains(r.Stdout, `"tenant":"`+tenant+`"`) {
				t.Errorf("of %s: exit %d: %s%s", tenant, r.Code, r.Stdout, r.Stderr)
			}
		}
	}
	if found := seen(); len(found) > 0 {
		t.Errorf("messages hold tokens: %q", found)
	}
	for stream, found := range searchStreams(t, f, tokenHead) {
		t.Errorf("stream %s holds tokens: %q", stream, found)
	}
	for where, text := range map[string]string{"a span": spans.text(), "a log": f.Server.Log() + f.Managers[0].Log() + f.Managers[1].Log() + f.Frontends[0].Log()} {
		if strings.Contains(text, tokenHead) {
			t.Errorf("%s holds a token", where)
		}
	}
	searchEnvironments(t, f, []string{a, b}, 3)
}
