package schema_test

import (
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hearth-run/hearth/schema"
)

var update = flag.Bool("update", false, "rewrite the golden files under testdata")

// made is when every sample was.
var made = time.Date(2026, 11, 23, 20, 15, 30, 123456789, time.UTC)

func sampleFunction() *schema.FunctionRecord {
	retries, concurrency, each := 1, 30, 4
	return &schema.FunctionRecord{
		V: 1, Account: "default", Name: "resize", ID: "6f1e0d2c4b5a69788796a5b4c3d2e1f0", PerTenant: true, Created: made, NextVersion: 2,
		Latest: schema.VersionRecord{
			Version: schema.Latest, Description: "resizes", Runtime: "nodejs22.x", Handler: "index.handler", Role: "arn:aws:iam::000000000000:role/any",
			MemoryMB: 256, Timeout: 3 * time.Second, EphemeralMB: 512, Architecture: "arm64", CodeSHA256: strings.Repeat("ab", 32), CodeSize: 70_000,
			ConfigRevision: 9, VariableNames: []string{"MODE", "TOKEN"}, SecretKey: "6f1e.9", SecretsSHA256: strings.Repeat("cd", 32), LogFormat: "JSON",
			LogGroup: "/aws/lambda/resize", LogLevel: "WARN", SystemLogLevel: "DEBUG", Tracing: "Active",
			Idempotent: true, Egress: []string{"none"}, Audiences: []string{"db"}, RevisionID: "0f0e", Modified: made,
		},
		Versions: []schema.VersionRecord{{
			Version: "1", Runtime: "provided", MemoryMB: 128, Timeout: time.Second, CodeSHA256: strings.Repeat("ef", 32), CodeSize: 9, ConfigRevision: 3,
			RevisionID: "0a0b", Modified: made.Truncate(time.Second),
		}},
		Aliases: map[string]schema.AliasRecord{"live": {Name: "live", Version: "1", SecondVersion: "2", SecondWeight: 0.25, Description: "d", RevisionID: "0c"}},
		Tags:    map[string]string{"team": "images"},
		Event:   &schema.EventInvokeConfigRecord{Retries: &retries, MaxAge: time.Hour, OnFailure: "arn:aws:nats:::failed"}, Concurrency: &concurrency,
		TenantConcurrency: &each,
	}
}

func filledEvent() *schema.Event {
	return &schema.Event{
		V: 1, ID: "default/dxq/7", RequestID: "0b1fe5b4-9e7e-4b1c-8a4e-2f6f3a1b6c11", Account: "default", Function: "resize", Qualifier: "live",
		Tenant: "t", BySubject: true, ClientContext: []byte(`{"a":1}`), Traceparent: "00-1-1-01", Tracestate: "x=y", Payload: []byte{0, 0xff, '{'},
		Accepted: made, Attempts: 1, Throttles: 2, Hops: 3, FirstTry: "00-1-2-01", DeadTry: "00-1-3-01",
		LastError: &schema.EventError{Code: "CapacityExceeded", Message: "busy", Status: 429},
	}
}

// samples is one filled value of everything that is stored or sent as a record; each is a pointer.
func samples() map[string]any {
	fabric := schema.DefaultFabric()
	fabric.MaxEnvironments, fabric.TenantJWKS, fabric.Issuer = 500, "https://id.example.org/jwks.json", "https://hearth.example.org"
	return map[string]any{
		"function": sampleFunction(),
		"secret":   &schema.SecretRecord{V: 1, KeyID: "k1", Sealed: []byte{1, 2, 3, 0xff}},
		"seal_key": &schema.SealKeyRecord{V: 1, KeyID: "k1", Public: make([]byte, 32)},
		"member":   &schema.MemberRecord{V: 1, ID: "m1", Incarnation: "7c", State: schema.MemberActive, Capacity: 64, Build: "v0.1.0", Reads: 1},
		"lease":    &schema.LeaseRecord{V: 1, Holder: "m1", Incarnation: "7c"},
		"ring":     &schema.RingRecord{V: 1, Epoch: 12, Members: []string{"m1", "m2"}, Leaving: []string{"m3"}},
		"limit":    &schema.LimitRecord{V: 1, Held: map[string]schema.Holding{"m1": {Incarnation: "7c", N: 3}}, Began: made, Made: 2},
		"arc":      &schema.ArcRecord{V: 1, Length: 3},
		"fabric":   &fabric,
		"manager_status": &schema.ManagerStatus{
			V: 1, ID: "m1", Incarnation: "7c", Number: 1 << 40, RingEpoch: 12, State: schema.MemberDraining, Capacity: 64, Tenants: true, Room: 3, Hot: 1, Soon: 2, Idle: 2, Busy: 1, Starting: 1,
			Reserved: 4, Surplus: 1, Partial: true, Counted: true, Stock: &schema.Stock{Ready: 3, Made: 9, Taken: 5, Missed: 2, Discarded: 1, Frozen: 4},
			Arcs: []schema.ArcStatus{{Arc: "u.17", Share: 2, Unable: true, Failed: "Runtime.ExitError", Account: "default", Function: "resize", Version: "1", Tenant: "t", Ready: 3, Idle: 2, Busy: 1, Starting: 1}},
		},
		"reservation": &schema.ReservationRecord{
			V: 1, Account: "default", Function: "resize", FunctionID: "6f1e", Version: "1", Limit: 10, State: schema.ReservationActive, Epoch: 7,
			Shard: 1, Marker: 1 << 50, Length: 2, Skip: []string{"m3"}, SkipLimit: 10, SkipRing: 3, Closing: []schema.ClosingArc{{Epoch: 3, Shard: 2, Marker: 9}},
			Failed: "Runtime.ExitError", Updated: made,
		},
		"frontend_status": &schema.FrontendStatus{V: 1, ID: "f1", Incarnation: "8d", Number: 3, Functions: 99, InFlight: map[string]int{"a.resize.1": 2}, Reconnects: 4, Partial: true},
		"usage": &schema.UsageRecord{
			V: 1, Account: "default", Worker: "w1", Incarnation: "7c", Number: 3, From: made, To: made.Add(10 * time.Second),
			Rows: []schema.UsageRow{{Function: "resize", Tenant: "t", UsageCounts: schema.UsageCounts{
				Calls: 12, Errors: 1, BilledMS: 340, MemoryMBMS: 43_520, Sent: 70_000, Received: 1 << 33, Connections: 2, Refused: 1,
			}}},
		},
		"ends": &schema.Ends{Manager: "m1", Incarnation: "7c", Tokens: []uint64{1, 1 << 63}, Marks: []byte{5, 11}},
		"manager_claim": &schema.ManagerClaim{
			V: 1, Ask: &schema.PromiseAsk{FunctionID: "6f1e", Version: "1", CodeSHA256: "ab", ConfigRevision: 9, Tenant: "t", Reservation: 7},
			Claim: &schema.HandedClaim{
				Promise: 3, Subject: "hearth.arc.u.17.default.resize.1._", Ack: "$JS.ACK.HEARTH_CALLS_U1.u-17.1.5.5.1.0", Age: time.Millisecond,
				Untouched: time.Millisecond, Call: []byte{1},
			},
			Way: &schema.WayAsk{Account: "default", Function: "resize", Idle: time.Second, For: &schema.PromiseAsk{FunctionID: "6f1e", Version: "2", Tenant: "t"}},
		},
		"way":     &schema.Way{V: 1, Ended: true, Warm: true},
		"promise": &schema.Promise{V: 1, Number: 3},
		"ask":     &schema.Ask{V: 1, Event: "default/dxq/7/0", Frontend: "f1", Token: 1 << 63, Reply: "_HF.f1.a.8000000000000000"},
		"event":   filledEvent(),
		"dead_letter": &schema.DeadLetter{
			V: 1, Event: *filledEvent(), Reason: schema.DeadRetriesExhausted, Died: made,
			Error: &schema.EventError{Code: "Oops", Message: "no", Status: 200, Body: []byte(`{"errorType":"Oops"}`), Version: "3"},
		},
		"control":      &schema.Control{V: 1, Op: schema.ControlLevel, Level: &schema.LevelOrder{V: 1, Level: "debug", For: time.Minute}},
		"key_ask":      &schema.KeyAsk{V: 1, Manager: "m1", Public: make([]byte, 32)},
		"key_answer":   &schema.KeyAnswer{V: 1, Sealed: []byte{1, 2, 3, 0xff}},
		"worker":       &schema.WorkerRecord{V: 1, ID: "w1", Manager: "m1", Incarnation: "7c", State: schema.MemberActive, Capacity: 64, Driver: "native", Tenants: true, Limits: true, Build: "v0.1.0", Reads: 1},
		"worker_lease": &schema.WorkerLease{V: 1, Record: []byte{0x80}, Last: 12},
		"worker_hello": &schema.WorkerHello{V: 1, Worker: "w1", Incarnation: "7c", Session: "9e"},
		"worker_open":  &schema.WorkerOpen{V: 1, Manager: "m1", Incarnation: "7c", Session: "9e"},
		"link_frame":   &schema.LinkFrame{V: 1, Session: "9e", Number: 3, Last: 3, Ack: 300, Again: true, Body: []byte{1}},
		"worker_order": &schema.WorkerOrder{
			V: 1,
			Make: &schema.WorkerMake{
				Environment: "7c-1", FunctionID: "6f1e", Version: "1", CodeSHA256: "ab", ConfigRevision: 9, PerTenant: true, Reserved: true, Account: "default", Function: "resize",
				Runtime: "provided", Handler: "h", MemoryMB: 128, EphemeralMB: 1024, Timeout: 3 * time.Second, InitTimeout: 10 * time.Second, Variables: schema.Variables{"A": "b"},
				Logging: &schema.Logging{Format: "JSON", Group: "g", Level: "INFO", SystemLevel: "WARN"}, Egress: []string{"10.0.0.0/8"},
			},
			Start: &schema.WorkerStart{
				Run: 3, Environment: "7c-1", Subject: "hearth.arc.u.17.default.resize.1._", Arc: "u.17", Rank: 1, Start: "cold", Init: time.Millisecond, Call: []byte{1},
			},
			End: "7c-1", Done: &schema.WorkerDone{Run: 3, Reply: "_INBOX.x"}, Bye: true, Level: &schema.LevelOrder{V: 1, Level: "debug"},
		},
		"worker_report": &schema.WorkerReport{
			V: 1, Drain: true, Bye: true, Answered: 2, Ended: &schema.WorkerEnded{Run: 3, Reusable: true, Error: "Oops", ByFunction: true, Duration: time.Millisecond},
			Event: &schema.WorkerEvent{Environment: "7c-1", Kind: schema.EnvironmentFailed, Init: time.Millisecond, Type: "Oops", Message: "no", Body: []byte(`{}`), Posted: true},
		},
		"node_level":  &schema.NodeLevel{V: 1, Kind: schema.StoryManager, ID: "m1", Level: "debug", Until: made},
		"level_order": &schema.LevelOrder{V: 1, Level: "debug", For: time.Minute},
		"story_ask":   &schema.StoryAsk{V: 1, RequestID: "0b1fe5b4-9e7e-4b1c-8a4e-2f6f3a1b6c11", Account: "default"},
		"story_part": &schema.StoryPart{
			V: 1, Node: schema.StoryNode{Kind: schema.StoryManager, ID: "m1", Clock: "5eed"},
			Calls: []schema.StoryTold{{Function: "resize", Version: "1", Tenant: "t", Left: 2, Steps: []schema.StoryStep{
				{At: made, What: "claimed", Text: "claimed", Facts: map[string]string{"rank": "0"}, Publication: 1 << 63, Stage: 3},
			}}},
		},
		"beat": &schema.Beat{Manager: "m1", Incarnation: "7c", Number: 4, Tokens: []uint64{300}, Late: []uint64{290}, Locks: []uint64{310}},
	}
}

// TestWireForms holds the bytes of every record and of the envelope: a change here is one of the wire, and needs a version.
func TestWireForms(t *testing.T) {
	t.Parallel()
	forms := map[string][]byte{"call": schema.EncodeCall(nil, sampleCall())}
	for name, v := range samples() {
		b, err := schema.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		forms[name] = b
	}
	for name, b := range forms {
		golden := filepath.Join("testdata", name+".golden")
		if *update {
			if err := os.MkdirAll("testdata", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(golden, []byte(hex.Dump(b)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.Dump(b); got != string(want) {
			t.Errorf("%s is not as in %s (-update rewrites it):\n%s", name, golden, got)
		}
	}
	if left, _ := filepath.Glob(filepath.Join("testdata", "*.golden")); len(left) != len(forms) {
		t.Errorf("%d golden files for %d forms", len(left), len(forms))
	}
}

func TestRecordsComeBackAsTheyWere(t *testing.T) {
	t.Parallel()
	for name, want := range samples() {
		b, err := schema.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		got := reflect.New(reflect.TypeOf(want).Elem()).Interface()
		if err := schema.Unmarshal(b, got); err != nil {
			t.Fatal(err)
		}
		if again, err := schema.Marshal(got); err != nil || string(again) != string(b) {
			t.Errorf("%s: %+v, read as %+v, %v", name, want, got, err)
		}
		if empty := zeroFields(reflect.ValueOf(want).Elem()); len(empty) > 0 {
			t.Errorf("%s: the sample leaves %v empty, so nothing is known of them", name, empty)
		}
	}
}

// zeroFields are the stored fields of a struct that are empty, and those of the structs in it.
func zeroFields(v reflect.Value) []string {
	var names []string
	for i := range v.NumField() {
		switch f := v.Type().Field(i); {
		case f.Tag.Get("msgpack") == "-":
		case v.Field(i).IsZero():
			names = append(names, f.Name)
		case f.Type == reflect.TypeFor[schema.VersionRecord]():
			names = append(names, zeroFields(v.Field(i))...)
		}
	}
	return names
}

func TestRecordsOfOtherVersions(t *testing.T) {
	t.Parallel()
	write := func(v int) []byte {
		// As another build would: the same members, its own number.
		b, err := schema.Marshal(map[string]any{"v": v, "length": 3, "unknown": map[string]any{"deep": []int{1, 2}}})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var a schema.ArcRecord
	if err := schema.Unmarshal(write(schema.Version), &a); err != nil || a.Length != 3 {
		t.Errorf("own version: %+v, %v", a, err)
	}
	for v, say := range map[int]string{0: "without a version", -1: "without a version", schema.Version + 1: "update this node"} {
		if err := schema.Unmarshal(write(v), new(schema.ArcRecord)); err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("version %d: %v, want it to say %q", v, err, say)
		}
	}
	if _, err := schema.Marshal(&schema.ArcRecord{Length: 3}); err == nil {
		t.Error("a record without its version was written")
	}
	if _, err := schema.Marshal(schema.ArcRecord{V: schema.Version + 1}); err == nil {
		t.Error("a record of a version to come was written")
	}
}

func TestWriteVersion(t *testing.T) {
	t.Parallel()
	members := func(reads ...int) (m []schema.MemberRecord) {
		for _, r := range reads {
			m = append(m, schema.MemberRecord{Reads: r})
		}
		return m
	}
	for _, c := range []struct {
		members []schema.MemberRecord
		want    int
	}{{nil, schema.Version}, {members(schema.Version, schema.Version+1), schema.Version}, {members(9, 1, 9), 1}, {members(0), 1}} {
		if got := schema.WriteVersion(c.members); got != c.want {
			t.Errorf("%+v: %d, want %d", c.members, got, c.want)
		}
	}
}

func FuzzUnmarshal(f *testing.F) {
	for _, v := range samples() {
		b, err := schema.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{0xdd, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0x81, 0xa1, 'v', 0xc0})
	f.Fuzz(func(t *testing.T, b []byte) {
		for name, sample := range samples() {
			v := reflect.New(reflect.TypeOf(sample).Elem()).Interface()
			if err := schema.Unmarshal(b, v); err != nil {
				continue
			}
			again, err := schema.Marshal(v)
			if err != nil {
				t.Fatalf("%s: read %+v, and cannot write it: %v", name, v, err)
			}
			if err := schema.Unmarshal(again, reflect.New(reflect.TypeOf(sample).Elem()).Interface()); err != nil {
				t.Fatalf("%s: wrote % x, and cannot read it: %v", name, again, err)
			}
		}
	})
}
