//go:build linux && (amd64 || arm64)

package e2e_test

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/e2e/fabric"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// named is a way by which a caller names a sub-tenant.
type named struct {
	name   string
	token  string              // what follows the function in the subject, as it stands there
	values map[string][]string // headers
	plain  bool                // of the function that has no sub-tenants
}

// wrongNames are the sub-tenants that no call may have, S65, but for the doors' own.
func wrongNames(header string) []named {
	one := func(values ...string) map[string][]string { return map[string][]string{header: values} }
	return []named{
		{name: "none", values: nil},
		{name: "an empty one", values: one("")},
		{name: "too long", values: one(strings.Repeat("t", 257))},
		{name: "a wildcard", values: one("a*")},
		{name: "a list", values: one("a,b")},
		{name: "not ASCII", values: one("\u00fc")},
		{name: "two", values: one("a", "b")},
		{name: "twice the same", values: one("a", "a")},
		{name: "unexpected", values: one("a"), plain: true},
	}
}

// refusesNames is S65: on every door a sub-tenant that is missing, not wanted or malformed is refused with 400, or is a dead letter that
// says so, and nothing runs. Of the ids that are allowed none is taken for another, whatever door names it.
//
// Broken to see it fail: an admission that does not look at the id, or takes the first of two; ids that are compared without case.
func refusesNames(t *testing.T, f *fabric.Spread, g *gate) {
	_, port, err := net.SplitHostPort(g.l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	address := "host.hearth.internal:" + port
	f.DeployFn("ids", "--timeout", "60s", "--tenancy", "per-tenant", "--egress", g.l.Addr().String())
	f.DeployFn("plain", "--timeout", "60s", "--egress", g.l.Addr().String())
	payload := []byte(`"hold ` + address + `"`) // whoever runs it is seen at the gate
	function := func(n named) string {
		if n.plain {
			return "plain"
		}
		return "ids"
	}
	nc := f.Server.Connect()
	bySubject := append(wrongNames(schema.HeaderTenant),
		named{name: "too long in the subject", token: "." + strings.Repeat("t", 257)},
		named{name: "malformed in the subject", token: ".a=2A"},
		named{name: "no name in the subject", token: ".=zz"},
		named{name: "nothing in the subject", token: "._"},
		named{name: "a blank at its end", token: ".a=20"},
		named{name: "another case", values: map[string][]string{"hearth-tenant": {"a"}}},
		named{name: "a header unlike the subject", token: ".a", values: map[string][]string{schema.HeaderTenant: {"b"}}},
		named{name: "a header that is the subject's in another case", token: ".a", values: map[string][]string{schema.HeaderTenant: {"A"}}},
		named{name: "unexpected in the subject", token: ".a", plain: true},
	)
	t.Run("NATS", func(t *testing.T) {
		for _, n := range bySubject {
			m := &nats.Msg{Subject: "hearth.invoke.default." + function(n) + n.token, Header: n.values, Data: payload}
			answer, err := nc.RequestMsgWithContext(withDeadline(t), m)
			if err != nil || answer.Header.Get("Nats-Service-Error-Code") != "400" {
				t.Errorf("%s: %v, %v", n.name, answer, err)
			}
		}
	})
	t.Run("HTTP", func(t *testing.T) {
		doors := append(wrongNames("X-Amz-Tenant-Id"), named{name: "by another header", values: map[string][]string{schema.HeaderTenant: {"a"}}})
		for _, kind := range []string{"RequestResponse", "Event"} {
			for _, n := range doors {
				header := http.Header{"X-Amz-Invocation-Type": {kind}}
				for name, values := range n.values {
					header[name] = values
				}
				if resp, body := postTo(t, f.Frontends[0].HTTP, function(n), payload, header); resp.StatusCode != 400 {
					t.Errorf("%s, %s: %s: %s", kind, n.name, resp.Status, body)
				}
			}
		}
	})
	t.Run("CLI", func(t *testing.T) {
		for _, args := range [][]string{
			{"ids"}, {"ids", "--tenant", "a*"}, {"ids", "--tenant", " a"}, {"ids", "--tenant", strings.Repeat("t", 257)}, {"plain", "--tenant", "a"},
		} {
			for _, more := range [][]string{nil, {"--async"}} {
				r := f.CLI(append(append([]string{"invoke", "--payload", string(payload)}, args...), more...)...)
				if len(more) > 0 && r.Code == 0 { // JetStream took it, before anybody looked at it: it is a dead letter
					continue
				}
				if r.Code != 2 || !strings.Contains(r.Stderr, "TenantId") {
					t.Errorf("%q %q: exit %d, %s", args, more, r.Code, r.Stderr)
				}
			}
		}
	})
	t.Run("events", func(t *testing.T) {
		f.CLI("deadletters", "rm", "--all", "--yes")
		for i, n := range bySubject {
			m := &nats.Msg{Subject: "hearth.event.default." + function(n) + n.token, Header: n.values, Data: fmt.Appendf(nil, `"hold %s %d"`, address, i)}
			// Handed in without and with a question: what JetStream has stored is accepted, and looked at then.
			if i%2 == 0 {
				if err := nc.PublishMsg(m); err != nil {
					t.Fatal(err)
				}
			} else if _, err := nc.RequestMsgWithContext(withDeadline(t), m); err != nil {
				t.Errorf("%s: %v", n.name, err)
			}
		}
		admin := f.Admin()
		letters := map[string]*schema.DeadLetterItem{}
		eventually(t, "all are dead letters", func() bool {
			clear(letters)
			for item, err := range admin.DeadLetters(withDeadline(t), "") {
				if err != nil {
					t.Fatal(err)
				}
				if whole, err := admin.DeadLetter(withDeadline(t), item.ID); err == nil {
					letters[strings.Trim(string(whole.Payload), `"`)] = whole
				}
			}
			return len(letters) >= len(bySubject)
		})
		for i, n := range bySubject {
			it := letters[fmt.Sprintf("hold %s %d", address, i)]
			if it == nil || it.Reason != schema.DeadInvalid || it.Error == nil || it.Error.Message == "" || it.Attempts != 0 {
				t.Errorf("%s: %+v", n.name, it)
			}
		}
	})
	if n := len(g.held); n != 0 {
		t.Errorf("%d calls ran", n)
	}
	var control sync.WaitGroup
	control.Go(func() { // ends with the call, which the gate lets go
		if a, err := f.Anonymous().Invoke(withDeadline(t), client.Call{Function: "ids", Tenant: "control", Payload: payload}); err != nil || a.FunctionError != nil {
			t.Errorf("a good call: %+v, %v", a, err)
		}
	})
	release(g.wait(t, 1))
	control.Wait()
	t.Run("kept apart", func(t *testing.T) { keepsNamesApart(t, f, nc) })
}

// keepsNamesApart calls by the subject, by HTTP, by the header and by the command: each id is the same sub-tenant by all of them, and
// nobody else's.
func keepsNamesApart(t *testing.T, f *fabric.Spread, nc *nats.Conn) {
	c := f.Anonymous()
	ids := []string{
		"a", "A", "aa", "_", "__", "=5F", "=3D5F", "=", ".", "..", "a.b", "a..b", "a/b", "a=2Fb", "a b", "a  b", "a+b", "a@b:c", "-a",
		strings.Repeat("t", 255), strings.Repeat("t", 256),
	}
	environments := map[string]string{}
	for i, id := range ids {
		a, err := c.Invoke(withDeadline(t), client.Call{Function: "ids", Tenant: id, Payload: fmt.Appendf(nil, `"keep %d"`, i)})
		if err != nil || a.Tenant != id || string(a.Payload) != `"[]"` {
			t.Fatalf("%.20q: %+v, %v", id, a, err)
		}
		if other, ok := environments[a.Environment]; ok {
			t.Errorf("%.20q and %.20q share an environment", other, id)
		}
		environments[a.Environment] = id
	}
	for i, id := range ids {
		keep, own := fmt.Appendf(nil, `"keep %d"`, i), func(door string, answer []byte, environment string) {
			t.Helper()
			found := strings.Fields(strings.Trim(string(answer), `[]"`))
			for _, word := range found {
				if word != strconv.Itoa(i) {
					t.Errorf("%.20q by %s finds %q", id, door, found)
				}
			}
			if len(found) == 0 || environments[environment] != id {
				t.Errorf("%.20q by %s: %s of %s, whose is %.20q", id, door, answer, environment, environments[environment])
			}
		}
		resp, body := postTo(t, f.Frontends[0].HTTP, "ids", keep, http.Header{"X-Amz-Tenant-Id": {id}})
		own("HTTP", body, resp.Header.Get(schema.HeaderEnvironment))
		m := &nats.Msg{Subject: "hearth.invoke.default.ids", Header: nats.Header{schema.HeaderTenant: {id}}, Data: keep}
		answer, err := nc.RequestMsgWithContext(withDeadline(t), m)
		if err != nil {
			t.Fatal(err)
		}
		own("the header", answer.Data, answer.Header.Get(schema.HeaderEnvironment))
		m = &nats.Msg{Subject: "hearth.invoke.default.ids." + subjects.Escape(id), Data: []byte(`"tenant"`)}
		if answer, err = nc.RequestMsgWithContext(withDeadline(t), m); err != nil || string(answer.Data) != strconv.Quote(id) {
			t.Errorf("%.20q is told to the function as %.40q, %v", id, answer.Data, err)
		}
	}
	for _, id := range []string{"_", "=5F", "a b", "A"} {
		if got := f.MustCLI("invoke", "ids", "--tenant", id, "--payload", `"tenant"`); strings.TrimSpace(got) != strconv.Quote(id) {
			t.Errorf("%q by the command: %s", id, got)
		}
	}
}

// postTo is Lambda's Invoke at a frontend.
func postTo(t *testing.T, url, function string, payload []byte, header http.Header) (*http.Response, []byte) {
	t.Helper()
	return post(t, &fabric.Fabric{HTTP: url}, function, bytes.NewReader(payload), header)
}
