package console_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hearth-run/hearth/frontend/console"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// patience bounds every wait for something that must happen.
const patience = time.Minute

// evil are names as nobody may deploy them, and as records, callers and errors of functions may hold them all the same.
var evil = []string{
	`<script>window.pwned=1</script>`, `"><img src=x onerror="window.pwned=1">`, `'onmouseover='window.pwned=1`, "a\u202egnp.exe", "zero\u200bwidth\u2066",
	"line\nbreak\x1b[31m\x00", `</title></style></svg><svg onload=window.pwned=1>`, "{{.}}`${window.pwned=1}`", `javascript:window.pwned=1`,
	"\xff\xfe not UTF-8", `../../../2015-03-31/functions/x?y#z`, strings.Repeat("long", 60), "$(touch pwned); `touch pwned`",
}

// stand is a console on a fabric that holds what a real one refuses to.
type stand struct {
	*httptest.Server
	console *console.Console
	fabric  *fabric
}

// fabric is what the console sees of a frontend.
type fabric struct {
	ring      schema.RingRecord
	managers  []schema.ManagerStatus
	functions map[string]*schema.FunctionRecord
	answers   map[string]any // by operation; an error is one

	once  sync.Once
	names []string // of functions

	mu     sync.Mutex
	totals console.Totals
	asked  []string // operations
}

func (f *fabric) ID() string                       { return "f1-0000" }
func (f *fabric) Ring() schema.RingRecord          { return f.ring }
func (f *fabric) Managers() []schema.ManagerStatus { return f.managers }
func (f *fabric) Totals() console.Totals           { f.mu.Lock(); defer f.mu.Unlock(); return f.totals }
func (f *fabric) Functions(string) []string {
	f.once.Do(func() { f.names = slices.Sorted(maps.Keys(f.functions)) })
	return f.names
}

func (f *fabric) Function(account, name string) (*schema.FunctionRecord, uint64, bool) {
	rec := f.functions[name]
	return rec, 1, rec != nil && rec.Account == account
}

func (f *fabric) Do(_ context.Context, _, operation string, _ []byte) ([]byte, error) {
	f.mu.Lock()
	f.asked = append(f.asked, operation)
	f.mu.Unlock()
	switch a := f.answers[operation].(type) {
	case nil:
		return nil, schema.Errorf(schema.CodeUnknownOperation, "no operation %q", operation)
	case error:
		return nil, a
	default:
		return json.Marshal(a)
	}
}

// serve starts a console; the test's cleanup ends it.
func serve(t testing.TB, f *fabric) *stand {
	t.Helper()
	names, err := subjects.NewNames("")
	if err != nil {
		t.Fatal(err)
	}
	s := &stand{console: console.New(f, names, slog.New(slog.DiscardHandler)), fabric: f}
	s.console.Operate(f)
	s.Server = httptest.NewServer(s.console)
	t.Cleanup(func() {
		s.console.End()
		s.Close()
	})
	return s
}

// get asks for a page.
func (s *stand) get(t testing.TB, path string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// record is a function with versions, aliases and everything else that a page shows, all of it called name.
func record(name string) *schema.FunctionRecord {
	limit := 12
	v := schema.VersionRecord{
		Version: schema.Latest, Runtime: name, Handler: name, Description: name, MemoryMB: 128, Timeout: 3 * time.Second, CodeSHA256: strings.Repeat("ab", 32),
		CodeSize: 12345, VariableNames: []string{name}, Egress: []string{name}, Idempotent: true, Modified: time.Now().Add(-time.Hour),
	}
	one := v
	one.Version = "1"
	return &schema.FunctionRecord{
		Account: subjects.DefaultAccount, Name: name, ID: "id", PerTenant: true, Latest: v, Versions: []schema.VersionRecord{one}, NextVersion: 2,
		Aliases:     map[string]schema.AliasRecord{name: {Name: name, Version: "1", SecondVersion: "1", SecondWeight: 0.25}},
		Event:       &schema.EventInvokeConfigRecord{OnFailure: name, OnSuccess: name},
		Concurrency: &limit, TenantConcurrency: &limit,
	}
}

// hostile is a fabric in which everything is called by evil names.
func hostile() *fabric {
	f := &fabric{functions: make(map[string]*schema.FunctionRecord), answers: make(map[string]any)}
	now := time.Now().Add(-time.Minute)
	f.ring.Epoch = 3
	ring := schema.RingOutput{Epoch: 3}
	var reservations schema.ListReservationsOutput
	var letters schema.DeadLettersOutput
	events := schema.EventsOutput{Waiting: 1, Running: 2, Retrying: 3, DeadLetters: 4}
	story := &schema.Story{
		RequestID: someID, Function: evil[0], Version: evil[1], Tenant: evil[2], Status: schema.StoryError, Began: now, Ended: now.Add(time.Second), Tries: 2,
		Node: schema.StoryNode{Kind: evil[3], ID: evil[4], Clock: "a"}, Silent: evil, Other: evil, Left: 1,
	}
	for i, name := range evil {
		f.functions[name] = record(name)
		f.ring.Members = append(f.ring.Members, name)
		f.managers = append(f.managers, schema.ManagerStatus{ID: name, State: schema.MemberState([]string{"active", "draining", name}[i%3]), Capacity: 8, Idle: 2, Busy: 3, Starting: 1})
		ring.Arcs = append(ring.Arcs,
			schema.RingArc{Subject: "hearth.arc.u." + fmt.Sprint(i) + ".>", Kind: "unreserved", Ranks: []string{name, evil[0]}, Pending: i, Claimed: 1},
			schema.RingArc{Subject: name, Kind: "reserved", Ranks: []string{name}, Pending: -1, Claimed: -1})
		reservations.Reservations = append(reservations.Reservations, schema.ReservationOutput{
			Function: name, Version: "1", Limit: 4, Size: 2, Busy: 1, State: schema.ReservationActive, Status: schema.ReservationFailed, Reason: name,
			Arc: []schema.ReservationMember{{Manager: name, Share: 4, Members: 2}},
		})
		failed := &schema.EventError{Code: name, Message: name}
		quoted, _ := json.Marshal(name)
		letters.DeadLetters = append(letters.DeadLetters, schema.DeadLetterItem{
			ID: fmt.Sprint(i + 1), Function: name, Qualifier: name, Tenant: name, RequestID: name, Reason: schema.DeadReason(name), Error: failed, Attempts: 3,
			Accepted: now, Died: now, Bytes: 10, Payload: quoted,
		})
		events.Events = append(events.Events, schema.EventItem{RequestID: name, State: "retrying", Tenant: name, Accepted: now, Due: &now, LastError: failed})
		story.Steps = append(story.Steps, schema.StoryStep{
			At: now, Node: schema.StoryNode{Kind: "manager", ID: name, Clock: []string{"a", "b"}[i%2]}, What: name, Text: name, Facts: map[string]string{name: name},
		})
	}
	letters.NextMarker = evil[0]
	f.answers = map[string]any{
		"GetRing": ring, "ListReservations": reservations, "ListDeadLetters": letters, "ListEvents": events, "GetTrace": story,
	}
	return f
}

// someID is a request id.
const someID = "00000000-0000-4000-8000-00000000000a"

// paths are the pages of a hostile fabric.
func paths() []string {
	all := []string{"/console", "/console/functions", "/console/ring", "/console/calls", "/console/events", "/console/trace", "/console/trace/" + someID, "/console/nowhere"}
	for _, name := range []string{evil[0], evil[3], evil[5], evil[10], evil[11]} {
		q := pathEscape(name)
		all = append(all, "/console/functions/"+q, "/console/functions?q="+q, "/console/events?function="+q, "/console/ring?function="+q, "/console/calls?function="+q)
	}
	return all
}
