package control_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// reservable gives a fabric of two managers with this much room each and a function with version 1 of 256 MB.
func reservable(t *testing.T, room int) *bundle {
	t.Helper()
	b := setup(t)
	b.put(t, topology.Ring, schema.RingKey, schema.RingRecord{V: 1, Epoch: 1, Members: []string{"m1", "m2"}})
	b.view.managers = []schema.ManagerStatus{
		{V: 1, ID: "m1", State: schema.MemberActive, Capacity: room, Room: room},
		{V: 1, ID: "m2", State: schema.MemberActive, Capacity: room, Room: room},
	}
	b.must(t, "CreateFunction", function("resize", b.putZip(t, "x"), object{"MemorySize": 256, "Publish": true}))
	return b
}

func (b *bundle) reservation(t *testing.T, key string) (r schema.ReservationRecord) {
	t.Helper()
	if _, err := b.view.get(topology.Reservations, key, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func reserve(qualifier string, n any) object {
	return object{"FunctionName": "resize", "Qualifier": qualifier, "ProvisionedConcurrentExecutions": n}
}

// A reservation begins as a wish: the handler writes its limit and nothing else, and tells what managers have of it.
func TestReserve(t *testing.T) {
	t.Parallel()
	b := reservable(t, 20)
	out := b.must(t, "PutProvisionedConcurrencyConfig", reserve("1", 10))
	if out["RequestedProvisionedConcurrentExecutions"] != 10.0 || out["Status"] != "IN_PROGRESS" || out["AvailableProvisionedConcurrentExecutions"] != 0.0 {
		t.Fatalf("answer %v", out)
	}
	r := b.reservation(t, "default.resize.1")
	if r.Limit != 10 || r.State != schema.ReservationProvisioning || r.Epoch != 0 || r.FunctionID != b.record(t, "resize").ID {
		t.Fatalf("record %+v", r)
	}
	// As the controller and the managers would.
	r.Epoch, r.State, r.Marker, r.Skip = 7, schema.ReservationActive, 99, nil
	b.put(t, topology.Reservations, "default.resize.1", r)
	status := func(m int, share, ready, busy int) {
		b.view.managers[m].Arcs = []schema.ArcStatus{
			{Arc: "r.0.default.resize.1.7", Account: "default", Function: "resize", Version: "1", Share: share, Ready: ready, Busy: busy, Idle: ready - busy},
			{Arc: "r.0.default.resize.1.3", Account: "default", Function: "resize", Version: "1", Ready: 2}, // another opening's
		}
	}
	status(0, 5, 5, 2)
	status(1, 5, 4, 0)
	if out = b.must(t, "GetProvisionedConcurrencyConfig", object{"FunctionName": "resize", "Qualifier": "1"}); out["Status"] != "IN_PROGRESS" ||
		out["AvailableProvisionedConcurrentExecutions"] != 9.0 {
		t.Fatalf("nine of ten: %v", out)
	}
	status(1, 5, 7, 0)
	b.view.late.Store(true) // the next call would still go elsewhere
	if out = b.must(t, "GetProvisionedConcurrencyConfig", object{"FunctionName": "resize", "Qualifier": "1"}); out["Status"] != "IN_PROGRESS" {
		t.Fatalf("calls do not go there yet: %v", out)
	}
	b.view.late.Store(false)
	list := b.must(t, "ListReservations", object{})["Reservations"].([]any)
	one := list[0].(object)
	if len(list) != 1 || one["size"] != 12.0 || one["busy"] != 2.0 || one["surplus"] != 2.0 || one["status"] != "READY" || one["epoch"] != 7.0 {
		t.Fatalf("twelve of ten: %v", list)
	}
	members := map[any]any{}
	for _, m := range one["arc"].([]any) {
		members[m.(object)["manager"]] = m.(object)["members"]
	}
	if len(members) != 2 || members["m1"] != 5.0 || members["m2"] != 7.0 {
		t.Fatalf("members %v", members)
	}
	// Less, and none: only the limit changes.
	b.must(t, "PutProvisionedConcurrencyConfig", reserve("1", 4))
	if now := b.reservation(t, "default.resize.1"); now.Limit != 4 || now.Epoch != 7 || now.Marker != 99 || now.State != schema.ReservationActive {
		t.Fatalf("record %+v", now)
	}
	b.must(t, "DeleteProvisionedConcurrencyConfig", object{"FunctionName": "resize", "Qualifier": "1"})
	if now := b.reservation(t, "default.resize.1"); now.Limit != 0 || now.State != schema.ReservationActive {
		t.Fatalf("record %+v", now)
	}
	b.refused(t, schema.CodeNoProvisioned, "GetProvisionedConcurrencyConfig", object{"FunctionName": "resize", "Qualifier": "1"})
	b.refused(t, schema.CodeNoProvisioned, "DeleteProvisionedConcurrencyConfig", object{"FunctionName": "resize", "Qualifier": "1"})
	if left := b.must(t, "ListProvisionedConcurrencyConfigs", object{"FunctionName": "resize"})["ProvisionedConcurrencyConfigs"].([]any); len(left) != 0 {
		t.Fatalf("listed %v", left)
	}
	// What is still being emptied is neither deleted nor hidden.
	for _, request := range []object{{"FunctionName": "resize"}, {"FunctionName": "resize", "Qualifier": "1"}} {
		if body := b.refused(t, schema.CodeConflict, "DeleteFunction", request); !strings.Contains(body.Message, "version 1") {
			t.Fatalf("deleting %v: %+v", request, body)
		}
	}
	if err := b.bucket(t, topology.Reservations).Purge(t.Context(), "default.resize.1"); err != nil {
		t.Fatal(err)
	}
	b.must(t, "DeleteFunction", object{"FunctionName": "resize"})
}

// What managers keep free for the members that another reservation lacks is not in the room that they tell, and is not taken off it a
// second time: of many reservations that were made one after the other the last ones were refused.
func TestReserveBesideOneThatIsMade(t *testing.T) {
	t.Parallel()
	b := reservable(t, 10)
	b.must(t, "CreateFunction", function("other", b.putZip(t, "y"), object{"Publish": true}))
	b.put(t, topology.Reservations, "default.other.1", schema.ReservationRecord{
		V: 1, Account: "default", Function: "other", FunctionID: b.record(t, "other").ID, Version: "1", Limit: 10, Epoch: 7,
		State: schema.ReservationProvisioning,
	})
	for i := range b.view.managers {
		b.view.managers[i].Arcs = []schema.ArcStatus{{Arc: "r.0.default.other.1.7", Account: "default", Function: "other", Version: "1", Share: 5}}
	}
	body := b.refused(t, schema.CodeInvalidParameter, "PutProvisionedConcurrencyConfig", reserve("1", 11))
	if !strings.Contains(body.Message, "at most 10 of its 256 MB") {
		t.Errorf("%+v", body)
	}
	b.must(t, "PutProvisionedConcurrencyConfig", reserve("1", 10))
}

// Bad limits and versions are refused by field, and what does not fit with what is free.
func TestReserveRefused(t *testing.T) {
	t.Parallel()
	b := reservable(t, 21) // ten of two places each
	b.must(t, "CreateAlias", object{"FunctionName": "resize", "Name": "live", "FunctionVersion": "1"})
	b.must(t, "CreateAlias", object{"FunctionName": "resize", "Name": "head", "FunctionVersion": "$LATEST"})
	b.must(t, "CreateFunction", function("other", b.putZip(t, "y"), object{"Publish": true}))
	for _, c := range []struct {
		request object
		code    schema.Code
		says    string
	}{
		{reserve("1", -1), schema.CodeInvalidParameter, "ProvisionedConcurrentExecutions"},
		{reserve("1", 0), schema.CodeInvalidParameter, "ProvisionedConcurrentExecutions"},
		{reserve("1", "many"), schema.CodeInvalidParameter, "ProvisionedConcurrentExecutions"},
		{object{"FunctionName": "resize", "Qualifier": "1"}, schema.CodeInvalidParameter, "required"},
		{reserve("", 1), schema.CodeInvalidParameter, "Qualifier"},
		{reserve("$LATEST", 1), schema.CodeInvalidParameter, "unpublished function versions"},
		{reserve("head", 1), schema.CodeInvalidParameter, "unpublished function versions"},
		{reserve("2", 1), schema.CodeNotFound, "resize:2 (the function is there, this version is not; there is 1)"},
		{object{"FunctionName": "nosuch", "Qualifier": "1", "ProvisionedConcurrentExecutions": 1}, schema.CodeNotFound, "nosuch"},
		{reserve("1", 21), schema.CodeInvalidParameter, "at most 20"},
	} {
		if body := b.refused(t, c.code, "PutProvisionedConcurrencyConfig", c.request); !strings.Contains(body.Message, c.says) {
			t.Errorf("%v: %q does not say %q", c.request, body.Message, c.says)
		}
	}
	b.must(t, "PutProvisionedConcurrencyConfig", object{"FunctionName": "other", "Qualifier": "1", "ProvisionedConcurrentExecutions": 10})
	// Ten places have been promised to the other, which has none of them yet.
	if body := b.refused(t, schema.CodeInvalidParameter, "PutProvisionedConcurrencyConfig", reserve("live", 16)); !strings.Contains(body.Message, "at most 15") {
		t.Errorf("beside another: %q", body.Message)
	}
	b.must(t, "PutProvisionedConcurrencyConfig", reserve("live", 15))
	if r := b.reservation(t, subjects.ReservationKey("default", "resize", "1")); r.Limit != 15 {
		t.Errorf("the alias's version has %+v", r)
	}
}

// Of two who change a limit at once one wins, and the other is told what it is now; the controller's changes are nobody's
// business.
func TestReserveAtOnce(t *testing.T) {
	t.Parallel()
	b := reservable(t, 1000)
	b.another(t)
	b.must(t, "PutProvisionedConcurrencyConfig", reserve("1", 1))
	type result struct {
		n    int
		code string
		data string
	}
	const rounds = 20
	told, won := 0, 0
	for round := range rounds {
		results := make(chan result, 2)
		for _, n := range []int{10 + 2*round, 11 + 2*round} {
			go func() {
				m, err := b.nc.Request(b.Names.API(subjects.DefaultAccount, "PutProvisionedConcurrencyConfig"), []byte(text(t, reserve("1", n))), patience)
				if err != nil {
					results <- result{n, "error", err.Error()}
					return
				}
				results <- result{n, m.Header.Get(schema.HeaderErrorCode), string(m.Data)}
			}()
		}
		done := map[int]bool{}
		for range 2 {
			switch r := <-results; r.code {
			case "":
				done[r.n], won = true, won+1
			case "409":
				told++
				if !strings.Contains(r.data, "somebody else") {
					t.Fatalf("the other was told %s", r.data)
				}
			default:
				t.Fatalf("%+v", r)
			}
		}
		if now := b.reservation(t, "default.resize.1"); !done[now.Limit] {
			t.Fatalf("the limit is %d, which nobody was told to have written: %v", now.Limit, done)
		}
	}
	t.Logf("%d won, %d were told", won, told)
	if won < rounds {
		t.Errorf("%d of %d rounds had a winner", won, rounds)
	}
}

// A function's limit is set, told and taken away; it and what is reserved hold each other in bounds.
func TestConcurrency(t *testing.T) {
	t.Parallel()
	b := reservable(t, 1000)
	of := object{"FunctionName": "resize"}
	if out := b.must(t, "GetFunctionConcurrency", of); len(out) != 0 {
		t.Fatalf("without a limit: %v", out)
	}
	limit := func(n any) object { return object{"FunctionName": "resize", "ReservedConcurrentExecutions": n} }
	if out := b.must(t, "PutFunctionConcurrency", limit(10)); out["ReservedConcurrentExecutions"] != 10.0 {
		t.Fatalf("set: %v", out)
	}
	if out, want := b.must(t, "GetFunction", object{"FunctionName": "resize"})["Concurrency"], (object{"ReservedConcurrentExecutions": 10.0}); !reflect.DeepEqual(out, any(want)) {
		t.Errorf("the function has %v, want %v", out, want)
	}
	b.must(t, "PutProvisionedConcurrencyConfig", reserve("1", 10))
	if body := b.refused(t, schema.CodeInvalidParameter, "PutProvisionedConcurrencyConfig", reserve("1", 11)); !strings.Contains(body.Message, "at most 10") {
		t.Errorf("more reserved than the limit: %q", body.Message)
	}
	if body := b.refused(t, schema.CodeInvalidParameter, "PutFunctionConcurrency", limit(9)); !strings.Contains(body.Message, "at least 10") {
		t.Errorf("a limit below what is reserved: %q", body.Message)
	}
	for _, request := range []object{limit(-1), limit("x"), of, {"FunctionName": "resize:1", "ReservedConcurrentExecutions": 3}} {
		b.refused(t, schema.CodeInvalidParameter, "PutFunctionConcurrency", request)
	}
	b.refused(t, schema.CodeNotFound, "PutFunctionConcurrency", object{"FunctionName": "nosuch", "ReservedConcurrentExecutions": 3})
	b.must(t, "DeleteFunctionConcurrency", of)
	if out := b.must(t, "GetFunctionConcurrency", of); len(out) != 0 {
		t.Fatalf("taken away: %v", out)
	}
}

// What all reservations take together is never more than the fabric may have.
func TestReserveBeyondMaxEnvironments(t *testing.T) {
	t.Parallel()
	b := reservable(t, 1000)
	fabric := schema.DefaultFabric()
	fabric.MaxEnvironments = 10
	b.put(t, topology.Ring, schema.FabricKey, fabric)
	b.must(t, "CreateFunction", function("other", b.putZip(t, "y"), object{"Publish": true}))
	b.must(t, "PutProvisionedConcurrencyConfig", object{"FunctionName": "other", "Qualifier": "1", "ProvisionedConcurrentExecutions": 7})
	if body := b.refused(t, schema.CodeInvalidParameter, "PutProvisionedConcurrencyConfig", reserve("1", 4)); !strings.Contains(body.Message, "at most 3") ||
		!strings.Contains(body.Message, "max-environments") {
		t.Errorf("%q", body.Message)
	}
	b.must(t, "PutProvisionedConcurrencyConfig", reserve("1", 3))
	b.must(t, "PutProvisionedConcurrencyConfig", reserve("1", 2))
}

// A function that is deleted while it is reserved leaves no reservation behind that nobody could take back.
func TestReservedWhileItIsDeleted(t *testing.T) {
	t.Parallel()
	b := reservable(t, 1000)
	for round := range 40 {
		if round > 0 {
			b.must(t, "CreateFunction", function("resize", b.putZip(t, "x"), object{"MemorySize": 256, "Publish": true}))
		}
		ask := func(operation string, request object) (code string) {
			m, err := b.nc.Request(b.Names.API(subjects.DefaultAccount, operation), []byte(text(t, request)), patience)
			if err != nil {
				t.Error(err)
				return "error"
			}
			return m.Header.Get(schema.HeaderErrorCode)
		}
		put := make(chan string, 1)
		go func() { put <- ask("PutProvisionedConcurrencyConfig", reserve("1", 1)) }()
		deleted, reserved := ask("DeleteFunction", object{"FunctionName": "resize"}), <-put
		var r schema.ReservationRecord
		revision, err := b.view.get(topology.Reservations, "default.resize.1", &r)
		there := err == nil && revision > 0
		switch {
		case deleted == "" && there && r.Limit > 0:
			t.Fatalf("round %d: deleted, and reserved (%q): %+v", round, reserved, r)
		case deleted == "" && reserved == "" && !there:
			t.Fatalf("round %d: deleted, and reserved without a record", round)
		}
		if there { // as the controller does
			if err := b.bucket(t, topology.Reservations).Purge(t.Context(), "default.resize.1"); err != nil {
				t.Fatal(err)
			}
		}
		if deleted != "" {
			b.must(t, "DeleteFunction", object{"FunctionName": "resize"})
		}
	}
}
