package fleet_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
	"github.com/hearth-run/hearth/worker"
	"github.com/hearth-run/hearth/worker/remote"
)

// TestUsageOfAWorker: what a worker counted is written under its manager's name, once however often it is sent. One that was taken over
// bills nobody for functions that it does not run, and nobody else's.
//
// Broken to see it fail: rows are not compared with what the worker was given.
func TestUsageOfAWorker(t *testing.T) {
	t.Parallel()
	b := setup(t)
	k := b.takeOver("k", 4)
	_ = k.link.Beat()
	b.awaitPlaces(4)
	own := binding(coded(b.deployed([]byte("a package"))))
	b.fleet.Make("own", own, b.notify)
	record := func(number uint64, change func(*schema.UsageRecord)) []byte {
		r := &schema.UsageRecord{V: schema.Version, Account: own.Account, Worker: "k", Incarnation: "i", Number: number,
			Rows: []schema.UsageRow{{Function: own.Function, Tenant: "acme", UsageCounts: schema.UsageCounts{Calls: 1}}}}
		if change != nil {
			change(r)
		}
		body, err := schema.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	to, inbox := subjects.ManagerUsage("m1", "k"), subjects.WorkerInbox("k", "r.x")
	for name, body := range map[string][]byte{
		"nothing":             {0xdd, 0xff, 0xff, 0xff, 0xff},
		"another worker's":    record(1, func(r *schema.UsageRecord) { r.Worker = "w1" }),
		"no account's":        record(1, func(r *schema.UsageRecord) { r.Account = "" }),
		"another account's":   record(1, func(r *schema.UsageRecord) { r.Account = "other" }),
		"another function's":  record(1, func(r *schema.UsageRecord) { r.Rows[0].Function = "others" }),
		"one that gives back": record(1, func(r *schema.UsageRecord) { r.Rows[0].BilledMS = -1 }),
		"far too much":        record(1, func(r *schema.UsageRecord) { r.Rows = make([]schema.UsageRow, schema.MaxUsageRows+1) }),
		"a name without end":  record(1, func(r *schema.UsageRecord) { r.Incarnation = string(make([]byte, 65)) }),
	} {
		k.refused("usage: "+name, func() { _ = k.nc.PublishMsg(&nats.Msg{Subject: to, Reply: inbox, Data: body}) })
	}
	twice := &schema.UsageRecord{}
	if err := schema.Unmarshal(record(1, nil), twice); err != nil {
		t.Fatal(err)
	}
	for _, want := range []error{nil, worker.ErrUsageTwice} {
		if err := remote.NewStreams(k.nc, b.fabric.Names, "m1", "k").StoreUsage(withDeadline(t), twice); !errors.Is(err, want) {
			t.Errorf("a record that is sent twice: %v, want %v", err, want)
		}
	}
	for _, number := range []uint64{1, 1, 2} { // the PubAck of the first was lost
		if m, err := k.nc.Request(to, record(number, nil), patience); err != nil || m.Header.Get(schema.HeaderStatus) != "" {
			t.Fatalf("record %d: %v", number, err)
		}
	}
	stream := b.fabric.Names.Stream(topology.Usage)
	if got := b.last(stream); got != 2 {
		t.Errorf("%d records stand in the ledger, want 2", got)
	}
	s, err := b.fabric.JetStream(t).Stream(withDeadline(t), stream)
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.GetLastMsgForSubject(withDeadline(t), b.fabric.Names.Usage(own.Account, "m1"))
	var r schema.UsageRecord
	if err == nil {
		err = schema.Unmarshal(m.Data, &r)
	}
	if err != nil || r.Number != 2 || len(r.Rows) != 1 || r.Rows[0].Tenant != "acme" || r.Rows[0].Calls != 1 {
		t.Errorf("%+v, %v", r, err)
	}

	// A flood is held, and is no offence: the worker is to come again.
	refused, passed := b.fleet.Counters().Refused, 0
	for number := uint64(3); ; number++ {
		if passed > 50 {
			t.Fatal("a flood of usage is not held")
		}
		m, err := k.nc.Request(to, record(number, func(r *schema.UsageRecord) {
			r.Rows[0].Tenant = strings.Repeat("x", schema.MaxUsageBytes)
		}), patience)
		if err != nil {
			t.Fatal(err)
		}
		if status := m.Header.Get(schema.HeaderStatus); status != "" {
			if status != schema.StatusLater || passed == 0 {
				t.Errorf("after %d records of a flood: status %q", passed, status)
			}
			break
		}
		passed++
	}
	if got := b.last(stream); got != uint64(2+passed) || b.fleet.Counters().Refused != refused {
		t.Errorf("%d records stand in the ledger, want %d; %d refused", got, 2+passed, b.fleet.Counters().Refused-refused)
	}
	rec := &schema.UsageRecord{V: schema.Version, Account: own.Account, Worker: "k", Incarnation: "i", Number: 1000,
		Rows: []schema.UsageRow{{Function: "others"}}}
	streams := remote.NewStreams(k.nc, b.fabric.Names, "m1", "k")
	if err := streams.StoreUsage(withDeadline(t), rec); !errors.Is(err, worker.ErrUsageRefused) {
		t.Errorf("what is refused for good: %v", err)
	}
	rec.Rows[0].Function, rec.Rows[0].Tenant = own.Function, strings.Repeat("x", schema.MaxUsageBytes)
	for err, passed = nil, 0; err == nil && passed <= 50; passed++ { // what may be stored has grown since the flood on a slow machine
		err = streams.StoreUsage(withDeadline(t), rec)
		rec.Number++
	}
	if err == nil || errors.Is(err, worker.ErrUsageRefused) {
		t.Errorf("what is too much for now: %v", err)
	}
}
