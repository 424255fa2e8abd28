//go:build linux && (amd64 || arm64)

package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/e2e/fabric"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// once makes calls of sub-tenants over one NATS connection and keeps every answer that each of them got, however many.
type once struct {
	t     *testing.T
	nc    *nats.Conn
	inbox string

	mu   sync.Mutex // guards what follows
	all  []*onceCall
	made map[string]int // by sub-tenant
	fine map[string]int
}

// onceCall is one call; first takes its first answer.
type onceCall struct {
	tenant  string
	first   chan *nats.Msg
	answers []end
}

func newOnce(t *testing.T, nc *nats.Conn) *once {
	t.Helper()
	o := &once{t: t, nc: nc, inbox: nats.NewInbox() + ".", made: map[string]int{}, fine: map[string]int{}}
	sub, err := nc.Subscribe(o.inbox+"*", func(m *nats.Msg) {
		var at int
		if _, err := fmt.Sscan(strings.TrimPrefix(m.Subject, o.inbox), &at); err != nil {
			return
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		c := o.all[at]
		if c.answers = append(c.answers, endOf(m)); len(c.answers) == 1 {
			c.first <- m
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Unsubscribe() })
	return o
}

// call makes a call and gives its first answer if a function gave it. Under kills it may be refused, or lost.
func (o *once) call(function, tenant, words string) (a *client.Answer, ok bool) {
	c := &onceCall{tenant: tenant, first: make(chan *nats.Msg, 1)}
	o.mu.Lock()
	m := nats.NewMsg("hearth.invoke.default." + function + "." + subjects.Escape(tenant))
	m.Reply, m.Data = o.inbox+fmt.Sprint(len(o.all)), []byte(`"`+words+`"`)
	o.all = append(o.all, c)
	o.made[tenant]++
	o.mu.Unlock()
	if err := o.nc.PublishMsg(m); err != nil {
		o.t.Errorf("%s: %v", tenant, err)
		return nil, false
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	select {
	case m = <-c.first:
	case <-ctx.Done():
		o.t.Errorf("a call of %s has no answer", tenant)
		return nil, false
	}
	switch ended := endOf(m); {
	case ended == fine:
		o.mu.Lock()
		o.fine[tenant]++
		o.mu.Unlock()
		if got := m.Header.Get(schema.HeaderTenant); got != tenant {
			o.t.Errorf("a call of %s is answered for %q", tenant, got)
		}
		return &client.Answer{Payload: m.Data, Environment: m.Header.Get(schema.HeaderEnvironment), Start: schema.Start(m.Header.Get(schema.HeaderStart))}, true
	case ended != lost && !strings.HasPrefix(string(ended), refused+"503 ") && !strings.HasPrefix(string(ended), refused+"429 "):
		o.t.Errorf("%s: %s", tenant, ended)
	}
	return nil, false
}

// answered is how many calls a function answered.
func (o *once) answered() (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, of := range o.fine {
		n += of
	}
	return n
}

// settle holds the number of answers of each call against one, but see [double].
func (o *once) settle() (doubles int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, c := range o.all {
		switch {
		case len(c.answers) == 1:
		case double(c.answers):
			doubles++
		default:
			o.t.Errorf("call %d, of %s, has %d answers: %q", i, c.tenant, len(c.answers), c.answers)
		}
	}
	return doubles
}

// TestTenantsKilled is S61 while managers and workers are killed: calls of 50 sub-tenants in turn, and no environment ever serves two, nor
// does what one of them left outlive a process to be found by another; each call has one answer. No sub-tenant is billed for calls that it
// did not make; and once nothing is killed any more the ledger has exactly those that were answered. The full number runs where HEARTH_LONG
// is set: there are nearly as many places as sub-tenants then, for a sandbox takes ten times as long as a call.
//
// That a worker takes no other's call, whoever sends it, is TestForgedStart; that no record is written twice, TestLedgerKnowsWhatWasStoredUnheard.
func TestTenantsKilled(t *testing.T) {
	t.Parallel()
	needsSandbox(t)
	calls, kills, capacity, after := 160, 2, 20, 0
	if os.Getenv("HEARTH_LONG") != "" {
		calls, kills, capacity, after = 10_000, 40, 22, 500
	}
	f := fabric.StartSpread(t, fabric.SpreadOptions{Managers: 2, Workers: 2, Capacity: capacity, Driver: "native", Set: []string{"growth=1000000"}})
	f.DeployFn("shop", "--timeout", "60s", "--tenancy", "per-tenant")
	o := newOnce(t, f.Admin().Conn())
	traces := &traces{served: map[string]string{}}
	work := loaded(4, func(context.Context) {
		tenant := oneOfMany()
		if a, ok := o.call("shop", tenant, "keep "+tenant); ok {
			traces.note(t, tenant, a)
		}
	})
	defer work.stop()
	victims := []*fabric.Role{f.Workers[0], f.Managers[1], f.Workers[1], f.Managers[0]}
	for i := range kills {
		eventually(t, fmt.Sprintf("calls before kill %d", i), func() bool { return o.answered() >= (i+1)*calls/(kills+1) })
		victim := victims[i%len(victims)]
		victim.Kill()
		victim.Start()
	}
	eventually(t, "all calls", func() bool { return o.answered() >= calls })
	work.stop()
	traces.prove(t)
	t.Logf("%d calls answered by %d environments, %d refused or lost, %d with a second answer", o.answered(), len(traces.served),
		len(o.all)-o.answered(), o.settle())
	if after == 0 {
		return
	}
	for tenant, u := range billed(t, f, "shop") { // of a worker that was killed its last seconds are missing
		if u.Calls > o.made[tenant] {
			t.Errorf("%s is billed for %d calls and made %d", tenant, u.Calls, o.made[tenant])
		}
	}
	f.DeployFn("after", "--tenancy", "per-tenant")
	rest := newOnce(t, f.Admin().Conn())
	more := loaded(4, func(context.Context) { rest.call("after", oneOfMany(), "count") })
	defer more.stop()
	eventually(t, "calls after all kills", func() bool { return rest.answered() >= after })
	more.stop()
	rest.settle()
	var ledger map[string]used
	eventually(t, "the ledger has them", func() bool {
		ledger = billed(t, f, "after")
		n := 0
		for _, u := range ledger {
			n += u.Calls
		}
		return n >= rest.answered()
	})
	for tenant, n := range rest.fine {
		if ledger[tenant].Calls != n {
			t.Errorf("%s is billed for %d calls, %d were answered", tenant, ledger[tenant].Calls, n)
		}
	}
}

// billed is what the ledger says of a function, by sub-tenant.
func billed(t *testing.T, f *fabric.Spread, function string) map[string]used {
	t.Helper()
	all := map[string]used{}
	for line := range strings.Lines(f.MustCLI("usage", function, "--json")) {
		var u used
		if err := json.Unmarshal([]byte(line), &u); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		all[u.Tenant] = u
	}
	return all
}
