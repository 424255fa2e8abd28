package control_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// A drain is the manager's to do: the operation hands the order on and the answer back.
func TestDrainManager(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.put(t, topology.Ring, schema.RingKey, schema.RingRecord{V: 1, Epoch: 1, Members: []string{"m1"}, Leaving: []string{"m4"}})
	nc := b.Connect(t)
	orders := make(chan schema.ControlOp, 8)
	stands := schema.DrainOutput{Manager: "m1", State: schema.MemberDraining, Busy: 2, OnRing: true}
	if _, err := nc.Subscribe(b.Names.ManagerControl("m1"), func(m *nats.Msg) {
		var order schema.Control
		if err := schema.Unmarshal(m.Data, &order); err != nil {
			t.Error(err)
		}
		orders <- order.Op
		answer := nats.NewMsg(m.Reply)
		if order.Op == schema.ControlUndrain {
			status, text := schema.ErrorHeaders(schema.Errorf(schema.CodeUnavailable, "manager m1 is stopping"))
			answer.Header.Set(schema.HeaderErrorCode, status)
			answer.Header.Set(schema.HeaderError, text)
		} else if body, err := schema.Marshal(stands); err == nil {
			answer.Data = body
		}
		if err := nc.PublishMsg(answer); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	for request, want := range map[string]schema.ControlOp{
		`{"Manager":"m1"}`: schema.ControlDrain, `{"Manager":"m1","Look":true}`: schema.ControlState,
	} {
		m := b.ask(t, subjects.FabricAccount, "DrainManager", request)
		var out schema.DrainOutput
		if err := json.Unmarshal(m.Data, &out); err != nil || out != stands {
			t.Errorf("%s: %+v, %v, %v", request, out, err, m.Header)
		}
		if got := <-orders; got != want {
			t.Errorf("%s: the manager was told %s", request, got)
		}
	}
	for request, tt := range map[string]struct {
		code schema.Code
		says string
	}{
		`{"Manager":"m1","Cancel":true}`: {schema.CodeUnavailable, "stopping"},
		`{"Manager":"m2"}`:               {schema.CodeNotFound, "m1, m4"},
		`{}`:                             {schema.CodeInvalidParameter, "Manager"},
		`{"Manager":"m1","Look":true,"Cancel":true}`: {schema.CodeInvalidParameter, "Look"},
		`{"Manager":"m1","Force":true}`:              {schema.CodeInvalidParameter, "Force"},
	} {
		m := b.ask(t, subjects.FabricAccount, "DrainManager", request)
		err := schema.ParseErrorHeaders(m.Header.Get(schema.HeaderErrorCode), m.Header.Get(schema.HeaderError))
		if schema.CodeOf(err) != tt.code || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %s that says %q", request, err, tt.code, tt.says)
		}
	}
}
