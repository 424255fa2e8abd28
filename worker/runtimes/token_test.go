package runtimes_test

import (
	"strings"
	"testing"

	"github.com/hearth-run/hearth/schema"
)

const (
	tokenAuth = "the-secret-of-this-environment"
	pulled    = "eyJ.of.the-endpoint"
	pushed    = "eyJ.of.the-call"
)

func perTenant(b *schema.Binding) { b.PerTenant = true }

// withToken is a call as one for a sub-tenant comes.
func withToken(event string) call {
	return call{event: event, headers: map[string]string{"Lambda-Runtime-Aws-Tenant-Id": "acme", "Hearth-Tenant-Token": pushed}}
}

// TestToken: handlers find their sub-tenant's token in the context, get a fresh one by asking, and write it nowhere by printing the
// context. What a package makes of its variables while it loads does not lead the question, and with it the secret, elsewhere.
func TestToken(t *testing.T) {
	t.Parallel()
	const elsewhere = "http://192.0.2.1/"
	for _, test := range []struct{ name, runtime, handler, file, code string }{
		{"Node", nodejs, "index.handler", "index.js", `
			for (const name of ["HEARTH_TOKEN_URL", "HEARTH_TOKEN_AUTH", "HTTP_PROXY", "http_proxy"]) process.env[name] = "` + elsewhere + `";
			process.env.NODE_USE_ENV_PROXY = "1";
			exports.handler = async (e, c) => {
				console.log(c, JSON.stringify(c), { ...c });
				return [c.tenantId, c.hearthToken, await c.getHearthToken()];
			};`},
		{"Python", python, "app.handler", "app.py", `
import os
for name in "HEARTH_TOKEN_URL", "HEARTH_TOKEN_AUTH", "HTTP_PROXY", "http_proxy":
    os.environ[name] = "` + elsewhere + `"
def handler(e, c):
    print(c, vars(c))
    return [c.tenant_id, c.hearth_token, c.get_hearth_token()]
`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, test.runtime, test.handler, map[string]string{test.file: test.code}, perTenant)
			equalJSON(t, p.make(withToken("{}")).body, `["acme","`+pushed+`","`+pulled+`"]`)
			p.stop()
			out := p.output.String()
			for _, secret := range []string{pushed, pulled, tokenAuth} {
				if strings.Contains(out, secret) {
					t.Errorf("the context is printed with %s: %s", secret, out)
				}
			}
			if !strings.Contains(out, "acme") {
				t.Errorf("the context is not printed at all: %s", out)
			}
		})
	}
}

// TestNoToken: a function without sub-tenants has nothing of it, and one without an audience is told so where it asks.
func TestNoToken(t *testing.T) {
	t.Parallel()
	t.Run("Node", func(t *testing.T) {
		t.Parallel()
		files := map[string]string{"index.js": `exports.handler = async (e, c) => ["hearthToken" in c, "getHearthToken" in c, c.hearthToken === undefined];`}
		start(t, nodejs, "index.handler", files).call("{}").want(t, "response", `[false,false,true]`)
		start(t, nodejs, "index.handler", files, perTenant).call("{}").want(t, "response", `[true,true,true]`)
	})
	t.Run("Python", func(t *testing.T) {
		t.Parallel()
		files := map[string]string{"app.py": "def handler(e, c): return c.hearth_token or c.get_hearth_token()"}
		start(t, python, "app.handler", files).call("{}").wantError(t, "error", "HearthTokenError", "no token: this function has no sub-tenants")
	})
}

// TestTokenRefusal: a refusal of the endpoint is the error of who asks, with its reason and without the secret.
func TestTokenRefusal(t *testing.T) {
	t.Parallel()
	const many = "a token can be asked for 10 times a second"
	t.Run("Node", func(t *testing.T) {
		t.Parallel()
		p := start(t, nodejs, "index.handler", map[string]string{"index.js": `exports.handler = async (e, c) => {
			for (let i = 0; i < 100; i++) await c.getHearthToken();
		};`}, perTenant)
		p.call("{}").wantError(t, "error", "TooManyRequests", "no token: "+many)
	})
	t.Run("Python", func(t *testing.T) {
		t.Parallel()
		p := start(t, python, "app.handler", map[string]string{"app.py": "def handler(e, c):\n    for _ in range(100): c.get_hearth_token()"}, perTenant)
		p.call("{}").wantError(t, "error", "HearthTokenError", "no token: "+many)
	})
}

// TestFetchIsRefused is why Node's functions have a way of their own: its fetch says Sec-Fetch-Mode by itself, which the endpoint
// takes for a request on somebody else's behalf (SECURITY 4). Should this fail because fetch has stopped doing so, all the better.
func TestFetchIsRefused(t *testing.T) {
	t.Parallel()
	p := start(t, nodejs, "index.handler", map[string]string{"index.js": `exports.handler = async () => {
		const headers = { "Hearth-Token-Request": "true", "Hearth-Token-Auth": process.env.HEARTH_TOKEN_AUTH };
		const res = await fetch(process.env.HEARTH_TOKEN_URL, { method: "POST", headers });
		return [res.status, (await res.json()).errorMessage];
	};`}, perTenant)
	p.call("{}").want(t, "response", `[403,"a request with sec-fetch-mode was made for somebody else"]`)
}
