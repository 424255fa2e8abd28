//go:build linux && (amd64 || arm64)

package e2e_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/e2e/fabric"
	"github.com/hearth-run/hearth/schema"
)

// TestTenantLimits is S66, in the sandbox: too many calls of a sub-tenant are throttled at every door, and its neighbour does not notice;
// too many environments of it, or of the function, and the idle one used least recently goes first.
//
// Broken to see it fail: an admission that counts nobody (the third call is refused by the manager, which says so); a pool without the
// limit (the version that is new is the one whose environment goes, after its call); ends told at leisure (a caller that calls one after the other is
// throttled); caps that evict nothing (the last customer is throttled).
func TestTenantLimits(t *testing.T) {
	t.Parallel()
	needsSandbox(t)
	g := newGate(t)
	f := fabric.Start(t, fabric.Options{Capacity: 20, Driver: "native",
		Flags: []string{"--set", "start-by=60s", "--allow-local", g.l.Addr().String()}})
	f.DeployFn("shop", "--timeout", "60s", "--tenancy", "per-tenant", "--egress", g.l.Addr().String(), "--publish")
	f.MustCLI("limit", "shop", "2", "--per-tenant")
	if told := f.MustCLI("describe", "shop", "--json"); !strings.Contains(told, `"limit_per_tenant":2`) {
		t.Errorf("described as %s", told)
	}
	c := f.Anonymous()
	call := func(t *testing.T, tenant, qualifier, words string) *client.Answer {
		t.Helper()
		a, err := c.Invoke(withDeadline(t), client.Call{Function: "shop", Qualifier: qualifier, Tenant: tenant, Payload: []byte(`"` + words + `"`)})
		if err != nil || a.FunctionError != nil || a.Tenant != tenant {
			t.Fatalf("%s for %s: %+v, %v", words, tenant, a, err)
		}
		return a
	}
	_, port, _ := strings.Cut(g.l.Addr().String(), ":")
	var held sync.WaitGroup
	hold := func(t *testing.T, tenant string) {
		held.Go(func() {
			a, err := c.Invoke(withDeadline(t), client.Call{
				Function: "shop", Qualifier: "1", Tenant: tenant, Payload: []byte(`"hold host.hearth.internal:` + port + `"`)})
			if err != nil || a.FunctionError != nil {
				t.Errorf("held for %s: %+v, %v", tenant, a, err)
			}
		})
	}
	there := func(t *testing.T, n int) {
		t.Helper()
		eventually(t, "as many environments as may be", func() bool { return environments(f) == n })
	}
	quiet := call(t, "quiet", "1", "count")
	t.Run("a noisy sub-tenant", func(t *testing.T) {
		defer held.Wait()
		hold(t, "noisy")
		hold(t, "noisy")
		busy := g.wait(t, 2)
		for range 3 {
			_, err := c.Invoke(withDeadline(t), client.Call{Function: "shop", Qualifier: "1", Tenant: "noisy", Payload: []byte("1")})
			e := new(schema.Error)
			if !errors.As(err, &e) || e.Code != schema.CodeTenantLimit || e.Reason != schema.ThrottleConcurrency || e.Retry <= 0 ||
				!strings.Contains(e.Message, `"noisy" of function shop has all 2 calls in flight`) {
				t.Errorf("beyond the limit: %v", err)
			}
			a := call(t, "quiet", "1", "count")
			if a.Start != schema.StartWarm || a.Environment != quiet.Environment {
				t.Errorf("its neighbour: %s in %s, not in %s", a.Start, a.Environment, quiet.Environment)
			}
		}
		resp, body := post(t, f, "shop:1", strings.NewReader("1"), http.Header{"X-Amz-Tenant-Id": {"noisy"}})
		var e struct{ Reason, Code string }
		if resp.StatusCode != http.StatusTooManyRequests || json.Unmarshal(body, &e) != nil || e.Reason != schema.ThrottleConcurrency ||
			e.Code != string(schema.CodeTenantLimit) || resp.Header.Get("Retry-After") == "" {
			t.Errorf("by HTTP: %s, %v, %s", resp.Status, resp.Header, body)
		}
		by := f.CLI("invoke", "shop:1", "--tenant", "noisy", "--payload", "1")
		if by.Code != 3 || !strings.Contains(by.Stderr, string(schema.CodeTenantLimit)) || !strings.Contains(by.Stderr, "retry after ") {
			t.Errorf("by the command: exit %d, %s", by.Code, by.Stderr)
		}
		release(busy)
		held.Wait()
		there(t, 3)
	})
	t.Run("one call after the other", func(t *testing.T) {
		f.MustCLI("limit", "shop", "1", "--per-tenant")
		for range 200 { // each has ended for its caller before its frontend is told at leisure
			if a := call(t, "quiet", "1", "count"); a.Environment != quiet.Environment {
				t.Fatalf("%s in %s, not in %s", a.Start, a.Environment, quiet.Environment)
			}
		}
		there(t, 2) // of the noisy one's one is left
		f.MustCLI("limit", "shop", "2", "--per-tenant")
		hold(t, "noisy")
		hold(t, "noisy")
		release(g.wait(t, 2))
		held.Wait()
		there(t, 3)
	})
	t.Run("its own idle one goes first", func(t *testing.T) {
		if a := call(t, "noisy", "", "count"); a.Start == schema.StartWarm || string(a.Payload) != "1" {
			t.Errorf("of another version: %s, %s", a.Start, a.Payload)
		}
		there(t, 3) // one of each version, and the neighbour's
		if a := call(t, "quiet", "1", "count"); a.Start != schema.StartWarm || a.Environment != quiet.Environment {
			t.Errorf("its neighbour: %s in %s, not in %s", a.Start, a.Environment, quiet.Environment)
		}
	})
	t.Run("the function's limit", func(t *testing.T) {
		defer held.Wait()
		f.MustCLI("limit", "shop", "3") // which is what is there
		if a := call(t, "third", "1", "count"); a.Start == schema.StartWarm {
			t.Errorf("another customer: %s", a.Start)
		}
		there(t, 3)
		for tenant, qualifier := range map[string]string{"quiet": "1", "noisy": ""} { // used last
			if a := call(t, tenant, qualifier, "count"); a.Start != schema.StartWarm {
				t.Errorf("%s, which was used last: %s", tenant, a.Start)
			}
		}
		for _, tenant := range []string{"noisy", "quiet", "third"} {
			hold(t, tenant)
		}
		busy := g.wait(t, 3)
		_, err := c.Invoke(withDeadline(t), client.Call{Function: "shop", Qualifier: "1", Tenant: "fourth", Payload: []byte("1")})
		e := new(schema.Error)
		if !errors.As(err, &e) || e.Code != schema.CodeThrottled || e.Reason != schema.ThrottleFunctionConcurrency {
			t.Errorf("with all of the function's busy: %v", err)
		}
		release(busy)
	})
	if told := f.MustCLI("limit", "shop", "--per-tenant", "--delete", "--json"); !strings.Contains(told, `"limit_per_tenant":null`) {
		t.Errorf("taken away: %s", told)
	}
}
