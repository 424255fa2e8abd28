package frontend_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// S66: at one frontend a sub-tenant has no more calls in flight than its limit says, however they end and whatever version they name; who is
// beyond it is told so at every door, and its neighbour is not.
func TestTenantLimit(t *testing.T) {
	t.Parallel()
	most := 2
	fn := record("shop")
	fn.PerTenant, fn.TenantConcurrency = true, &most
	v := fn.Latest
	v.Version = "1"
	fn.Versions = []schema.VersionRecord{v}
	b := setup(t, settings{functions: []*schema.FunctionRecord{fn}, http: true})
	send := func(tenant, qualifier string) *nats.Subscription {
		t.Helper()
		h := nats.Header{schema.HeaderTenant: {tenant}}
		if qualifier != "" {
			h[schema.HeaderQualifier] = []string{qualifier}
		}
		return b.send(t, "shop", h)
	}
	arc := subjects.UnreservedArc(subjects.DefaultAccount, "shop", "noisy", natstest.Arcs)
	claims := b.claimerOf(t, b.Names.CallsOf(arc), b.Names.UnreservedDurable(arc))
	admitted := func(n int) {
		t.Helper()
		natstest.Eventually(t, patience, func() bool { return b.f.Counters().InFlight == n }, fmt.Sprint(n, " calls are in flight"))
	}
	throttled := func(m *nats.Msg) {
		t.Helper()
		wantRefusal(t, m, schema.CodeTenantLimit, `sub-tenant "noisy" of function shop has all 2 calls in flight`)
		e := schema.ParseErrorHeaders(m.Header.Get(schema.HeaderErrorCode), m.Header.Get(schema.HeaderError))
		if e.Reason != schema.ThrottleConcurrency || e.Retry <= 0 {
			t.Errorf("%+v, want a reason and a hint", e)
		}
	}
	first, second := send("noisy", ""), send("noisy", "1")
	admitted(2)
	throttled(next(t, send("noisy", "")))
	throttled(next(t, send("noisy", "1")))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.url+"/2015-03-31/functions/shop/invocations", strings.NewReader("1"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Amz-Tenant-Id", "noisy")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	var shape struct{ Reason, Message, Code string }
	if resp.StatusCode != http.StatusTooManyRequests || json.Unmarshal(body, &shape) != nil || shape.Reason != schema.ThrottleConcurrency ||
		!strings.Contains(shape.Message, `"noisy"`) || shape.Code != string(schema.CodeTenantLimit) || resp.Header.Get("Retry-After") == "" ||
		resp.Header.Get("X-Amzn-ErrorType") != "TooManyRequestsException" {
		t.Errorf("by HTTP: %s, %v, %s", resp.Status, resp.Header, body)
	}
	quiet := []*nats.Subscription{send("quiet", ""), send("quiet", "")}
	admitted(4)
	for range 2 { // a call that ends makes room for one, in whatever way
		c := claims.claim(t).ack(t)
		c.answer(t, []byte("1"), nil)
		c.end(t)
	}
	admitted(2)
	for _, sub := range []*nats.Subscription{first, second} {
		if m := next(t, sub); string(m.Data) != "1" {
			t.Errorf("the first two: %v", m.Header)
		}
	}
	expire := nats.Header{schema.HeaderTenant: {"noisy"}, schema.HeaderTimeout: {"100ms"}}
	wantRefusal(t, next(t, b.send(t, "shop", expire)), schema.CodeCapacityExceeded, "start-by")
	admitted(2)
	gone, cancel := context.WithCancel(t.Context())
	door := make(chan error, 1)
	go func() {
		_, err := b.f.Invoke(gone, &schema.Request{Account: subjects.DefaultAccount, Function: "shop", Tenant: "noisy", Payload: []byte("1")})
		door <- err
	}()
	admitted(3)
	cancel()
	if err := <-door; !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that left: %v", err)
	}
	last := send("noisy", "") // the one whose caller left is in flight still
	admitted(4)
	throttled(next(t, send("noisy", "")))
	for range 2 {
		c := claims.claim(t).ack(t)
		c.answer(t, []byte("2"), nil)
		c.end(t)
	}
	if m := next(t, last); string(m.Data) != "2" {
		t.Errorf("the last: %v", m.Header)
	}
	admitted(2)
	// Without the limit nobody is counted.
	fn.TenantConcurrency = nil
	b.deploy(t, fn)
	natstest.Eventually(t, patience, func() bool {
		rec, _, ok := b.f.Function(subjects.DefaultAccount, "shop")
		return ok && rec.TenantConcurrency == nil
	}, "the frontend knows that the limit is gone")
	for range 3 {
		send("noisy", "")
	}
	admitted(5)
	for _, sub := range quiet {
		if m, err := sub.NextMsg(time.Millisecond); err == nil {
			t.Errorf("the neighbour was answered %v", m.Header)
		}
	}
	if n := b.f.Counters().Refused[schema.CodeTenantLimit]; n != 4 {
		t.Errorf("%d refusals counted", n)
	}
}
