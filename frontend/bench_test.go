package frontend

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

func benchFunction() *function {
	return newFunction(&schema.FunctionRecord{
		V: schema.Version, Account: subjects.DefaultAccount, Name: "echo", ID: "0190c0de-0000-7000-8000-000000000000",
		Latest: schema.VersionRecord{Version: schema.Latest, Timeout: 3 * time.Second, CodeSHA256: "ab", ConfigRevision: 1},
	}, 1, nil, newFunctions().told.Hold(target{}))
}

func benchFrontend(b testing.TB) *Frontend {
	fabric := natstest.Start(b)
	f, err := New(fabric.Connect(b), Config{Names: fabric.Names})
	if err != nil {
		b.Fatal(err)
	}
	f.clock.up.Store(true)
	f.view.ring.Store(&schema.RingRecord{Members: []string{"m1"}})
	f.functions.known[target{subjects.DefaultAccount, "echo"}] = benchFunction()
	return f
}

// reserveBench gives version "1" of echo with an open arc that has members.
func (f *Frontend) reserveBench(b testing.TB) *version {
	b.Helper()
	record := *benchFunction().record
	record.Versions = []schema.VersionRecord{record.Latest}
	record.Versions[0].Version = "1"
	f.functions.changed(&record, functionKey(target{subjects.DefaultAccount, "echo"}), 2, false)
	f.reservationChanged(subjects.ReservationKey(record.Account, record.Name, "1"), schema.ReservationRecord{
		Account: record.Account, Function: record.Name, FunctionID: record.ID, Version: "1", Limit: 1 << 20,
		State: schema.ReservationActive, Epoch: 7, Shard: 3, Marker: 9,
	}, 1, false)
	v := f.functions.get(target{subjects.DefaultAccount, "echo"}).versions["1"]
	f.view.told(schema.ManagerStatus{ID: "m1", Arcs: []schema.ArcStatus{{Arc: v.tally.reservation.Load().name, Ready: 1 << 19}}}, 1)
	return v
}

// The decision, the arc and its subject cost no allocation; admission of a plain call neither.
func TestHotPathAllocations(t *testing.T) {
	f := benchFrontend(t)
	fabric := f.view.fabric.Load()
	r := &schema.Request{Account: subjects.DefaultAccount, Function: "echo", Payload: []byte(`{}`)}
	v, err := f.admit(r)
	if err != nil {
		t.Fatal(err)
	}
	reserved := f.reserveBench(t)
	subject := f.names.Invoke(subjects.DefaultAccount, "echo", "")
	traced := &schema.Request{Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Tracestate: "a=1"}
	c, env, answer := &call{version: v, requestID: "id"}, &schema.Call{}, &nats.Msg{}
	free, limited := benchTenant(0), benchTenant(4)
	for name, do := range map[string]func(){
		"parse":  func() { f.names.ParseInvoke(subject) },
		"admit":  func() { _, _ = f.admit(r) },
		"route":  func() { Route(v.tally.reservation.Load().load(1, fabric.Theta)) },
		"arc":    func() { f.unreserved(v, "", fabric.Arcs) },
		"header": func() { f.publication.header(fabric.StartBy) },
		"reserved": func() {
			if r := reserved.tally.reservation.Load(); !Route(r.load(1, fabric.Theta)).Reserved || r.header(fabric.StartBy) == nil {
				t.Error("not reserved")
			}
		},
		"free":    func() { f.count(free) },
		"limited": func() { f.count(limited) },
		"spans that nobody records": func() {
			if trace := traceOf(traced); trace.Traceparent == "" {
				t.Error("the caller's trace is lost")
			}
			d := Decision{}
			c.span = f.spanCall(traced, v, c.requestID, true, nil)
			f.spanDecision(c, &d)
			f.spanPublish(c, env, &d, subject).End()
			c.concluded(answer)
		},
		"shard": func() { f.streamNamed([]byte("HEARTH_CALLS_R3")) },
		"ack":   func() { pubAck([]byte(`{"stream":"HEARTH_CALLS_U","seq":1764000000000001}`)) },
	} {
		do()
		if n := testing.AllocsPerRun(100, do); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

func BenchmarkAdmit(b *testing.B) {
	f := benchFrontend(b)
	r := &schema.Request{Account: subjects.DefaultAccount, Function: "echo", Payload: []byte(`{}`)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.admit(r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRoute(b *testing.B) {
	f := benchFrontend(b)
	v := f.functions.get(target{subjects.DefaultAccount, "echo"}).versions[""]
	fabric := f.view.fabric.Load()
	b.ReportAllocs()
	for b.Loop() {
		Route(v.tally.reservation.Load().load(1, fabric.Theta))
		f.unreserved(v, "", fabric.Arcs)
	}
}

// BenchmarkLaunchReserved is [BenchmarkLaunch] on a reserved arc: one allocation more, of the copy that is published again
// should the arc refuse it.
func BenchmarkLaunchReserved(b *testing.B) {
	f := benchFrontend(b)
	f.reserveBench(b)
	benchLaunch(b, f, &schema.Request{Account: subjects.DefaultAccount, Function: "echo", Qualifier: "1", Payload: make([]byte, 128)})
}

// BenchmarkLaunch is the frontend's whole work on one call but for NATS' own goroutines: admission, arc, envelope,
// publication, bookkeeping, and the end.
func BenchmarkLaunch(b *testing.B) {
	f := benchFrontend(b)
	r := &schema.Request{Account: subjects.DefaultAccount, Function: "echo", Payload: make([]byte, 128)}
	// No stream takes these: the subject is outside of it, so that only the frontend is measured.
	v, err := f.admit(r)
	if err != nil {
		b.Fatal(err)
	}
	v.arc.Store(&unreservedArc{arcs: 64, number: 1, subject: "nobody.listens"})
	benchLaunch(b, f, r)
}

func benchLaunch(b *testing.B, f *Frontend, r *schema.Request) {
	f.startBys.count = 1 // keeps the wheel from being woken; it does not run
	reply := nats.NewInbox()
	b.ReportAllocs()
	for b.Loop() {
		v, err := f.admit(r)
		if err != nil {
			b.Fatal(err)
		}
		c, err := f.begin(r, v, reply, nil, nil)
		if err != nil {
			b.Fatal(err)
		}
		f.pending.end(c.token, 1, how{})
		if f.startBys.count > 100_000 {
			f.startBys = newWheel()
			f.startBys.count = 1
		}
	}
}

func BenchmarkAckSequence(b *testing.B) {
	ack := []byte(`{"stream":"HEARTH_CALLS_U","seq":1764000000000001}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, ok := pubAck(ack); !ok {
			b.Fatal("not read")
		}
	}
}

// benchTenant is a call of a sub-tenant of a function with this limit, 0 for none.
func benchTenant(limit int) *call {
	record := *benchFunction().record
	record.PerTenant = true
	if limit > 0 {
		record.TenantConcurrency = &limit
	}
	fn := newFunction(&record, 1, nil, newFunctions().told.Hold(target{}))
	fn.tenants.enter("another", 1)
	return &call{version: fn.versions[""], tenant: "acme", attempt: 1}
}

// count counts a call to its sub-tenant's and out again.
func (f *Frontend) count(c *call) {
	if f.enterTenant(c) == nil {
		c.leaveTenant()
	}
}

// BenchmarkTenantLimit is what a limit by sub-tenant adds to a call at the frontend.
func BenchmarkTenantLimit(b *testing.B) {
	for name, limit := range map[string]int{"off": 0, "on": 4} {
		b.Run(name, func(b *testing.B) {
			f, c := benchFrontend(b), benchTenant(limit)
			b.ReportAllocs()
			for b.Loop() {
				f.count(c)
			}
		})
	}
}
