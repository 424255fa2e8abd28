//go:build linux && (amd64 || arm64)

package e2e_test

import (
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/e2e/fabric"
	"github.com/hearth-run/hearth/schema"
)

// TestForgedStart: a message on the link between manager and worker that hands B's call to A's environment has the environment killed, is
// answered with an error, and nothing of B's call reaches what was A's, whoever sent it (DESIGN 7, SECURITY 1).
//
// Broken to see it fail: a worker that takes what it is told for its environment's (A's environment answers B, and lives).
func TestForgedStart(t *testing.T) {
	t.Parallel()
	needsSandbox(t)
	f := fabric.StartSpread(t, fabric.SpreadOptions{Managers: 1, Workers: 1, Driver: "native"})
	f.DeployFn("shop", "--timeout", "60s", "--tenancy", "per-tenant")
	nc := f.Server.Connect()
	var mu sync.Mutex
	var last schema.LinkFrame     // of the manager's
	var start *schema.WorkerStart // the last one that it sent
	link, err := nc.Subscribe("hearth.w.w1.link", func(m *nats.Msg) {
		var frame schema.LinkFrame
		var order schema.WorkerOrder
		mu.Lock()
		defer mu.Unlock()
		if schema.Unmarshal(m.Data, &frame) != nil {
			return
		}
		if last = frame; frame.Number > 0 && schema.Unmarshal(frame.Body, &order) == nil && order.Start != nil {
			start = order.Start
		}
	})
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	c := f.Anonymous()
	a, err := c.Invoke(withDeadline(t), client.Call{Function: "shop", Tenant: "acme", Payload: []byte(`"keep acme"`)})
	if err != nil || string(a.Payload) != `"[]"` {
		t.Fatalf("%+v, %v", a, err)
	}
	own := programsOf(t, f.Workers[0].PID(), "bootstrap")
	if len(own) == 0 {
		t.Fatal("no process of the environment is found: this proves nothing")
	}
	inbox, err := nc.SubscribeSync(nats.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = inbox.Unsubscribe(); _ = link.Unsubscribe() }()
	eventually(t, "the start is seen", func() bool { mu.Lock(); defer mu.Unlock(); return start != nil })
	mu.Lock()
	var call schema.Call
	if err := schema.DecodeCall(start.Call, &call); err != nil || call.Tenant != "acme" || start.Environment != a.Environment {
		t.Fatalf("%+v, %v", start, err)
	}
	call.Tenant, call.RequestID, call.Reply, call.Payload = "globex", "8476a536-e9f4-11e8-9739-2dfe598c3fcd", inbox.Subject, []byte(`"keep globex"`)
	forged := *start
	forged.Run, forged.Start, forged.Call = start.Run+1, string(schema.StartWarm), schema.EncodeCall(nil, &call)
	forged.Subject = strings.TrimSuffix(start.Subject, ".acme") + ".globex"
	body, err := schema.Marshal(&schema.WorkerOrder{V: schema.Version, Start: &forged})
	if err != nil {
		t.Fatal(err)
	}
	frame := schema.LinkFrame{V: schema.Version, Session: last.Session, Number: last.Last + 1, Last: last.Last + 1, Ack: last.Ack, Body: body}
	mu.Unlock()
	data, err := schema.Marshal(frame)
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Publish("hearth.w.w1.link", data); err != nil {
		t.Fatal(err)
	}
	m, err := inbox.NextMsg(deadline)
	if err != nil {
		t.Fatalf("the forged call has no answer: %v\n%s", err, f.Workers[0].Log())
	}
	if endOf(m) != failed+end(schema.CodeBindingMismatch) {
		t.Errorf("the forged call is answered %q, %v", m.Data, m.Header)
	}
	eventually(t, "the environment is killed", func() bool {
		return !slices.ContainsFunc(programsOf(t, f.Workers[0].PID(), "bootstrap"), func(pid int) bool { return slices.Contains(own, pid) })
	})
	if !strings.Contains(f.Workers[0].Log(), "a call met an environment of another binding") {
		t.Errorf("nobody is told:\n%s", f.Workers[0].Log())
	}
	if os.Getenv("HEARTH_LONG") == "" {
		f.Workers[0].Kill() // the link has to be mended first, which takes a while
		f.Managers[0].Kill()
		return
	}
	// Both go on, each in an environment of its own, where nothing is of the other.
	for _, tenant := range []string{"acme", "globex"} {
		eventually(t, "a call of "+tenant, func() bool {
			a, err := c.Invoke(withDeadline(t), client.Call{Function: "shop", Tenant: tenant, Timeout: 10 * time.Second, Payload: []byte(`"keep ` + tenant + `"`)})
			if err == nil && a.FunctionError == nil && strings.Trim(string(a.Payload), `"[]`) != "" {
				t.Errorf("%s finds %s", tenant, a.Payload)
			}
			return err == nil && a.FunctionError == nil
		})
	}
}
