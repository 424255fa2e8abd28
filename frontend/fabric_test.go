package frontend_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/frontend"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// patience bounds every wait for something that must happen.
const patience = time.Minute

// bundle is a fabric with one frontend, and what stands for its managers.
type bundle struct {
	*natstest.Fabric
	f       *frontend.Frontend
	caller  *nats.Conn // has no part in the fabric
	manager *nats.Conn
	url     string // of HTTP, "" without
}

type settings struct {
	fabric    func(*schema.Fabric)
	config    func(*frontend.Config)
	http      bool
	deserted  bool     // nobody is on the ring
	leaving   []string // managers that leave it
	functions []*schema.FunctionRecord
	server    []natstest.Option
}

// setup starts a frontend on a fabric of its own, with function "echo" and those asked for.
func setup(t testing.TB, s settings) *bundle {
	t.Helper()
	numbers := natstest.Small()
	if s.fabric != nil {
		s.fabric(&numbers)
	}
	b := &bundle{Fabric: natstest.Start(t, s.server...)}
	b.caller, b.manager = b.Connect(t), b.Connect(t)
	ring := schema.RingRecord{V: schema.Version, Epoch: 1, Leaving: s.leaving}
	if !s.deserted {
		ring.Members = []string{"m1"}
	}
	b.put(t, topology.Ring, schema.FabricKey, &numbers)
	b.put(t, topology.Ring, schema.RingKey, &ring)
	b.deploy(t, record("echo"))
	for _, fn := range s.functions {
		b.deploy(t, fn)
	}
	b.beStatus(t, "m1")
	b.f = b.start(t, s)
	return b
}

// start starts one more frontend on the fabric, stopped by the test's cleanup.
func (b *bundle) start(t testing.TB, s settings) *frontend.Frontend {
	t.Helper()
	cfg := frontend.Config{Names: b.Names, Anonymous: true}
	if s.http {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		cfg.HTTP, b.url = l, "http://"+l.Addr().String()
	}
	if s.config != nil {
		s.config(&cfg)
	}
	// While a test restarts the server, watches tell of themselves on stderr by default.
	quiet := nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})
	f, err := frontend.New(b.Connect(t, quiet), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := f.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // whatever a test has left in flight is not waited for
		_ = f.Stop(ctx)
	})
	return f
}

// record is a function of one unpublished version.
func record(name string) *schema.FunctionRecord {
	return &schema.FunctionRecord{
		V: schema.Version, Account: subjects.DefaultAccount, Name: name, ID: "id-" + name, NextVersion: 1,
		Latest: schema.VersionRecord{
			Version: schema.Latest, Runtime: "provided", MemoryMB: 128, Timeout: 3 * time.Second,
			CodeSHA256: strings.Repeat("ab", 32), ConfigRevision: 1,
		},
	}
}

func (b *bundle) kv(t testing.TB, kind string) jetstream.KeyValue {
	t.Helper()
	kv, err := b.JetStream(t).KeyValue(t.Context(), b.Names.Bucket(kind))
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

func (b *bundle) put(t testing.TB, kind, key string, v any) uint64 {
	t.Helper()
	data, err := schema.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	revision, err := b.kv(t, kind).Put(t.Context(), key, data)
	if err != nil {
		t.Fatal(err)
	}
	return revision
}

func (b *bundle) deploy(t testing.TB, fn *schema.FunctionRecord) uint64 {
	t.Helper()
	return b.put(t, topology.Functions, subjects.Escape(fn.Account)+"."+subjects.Escape(fn.Name), fn)
}

// beStatus tells the status of a manager until the test ends.
func (b *bundle) beStatus(t testing.TB, id string) {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		ticker := time.NewTicker(50 * time.Millisecond)
		defer ticker.Stop()
		for n := uint64(1); ; n++ {
			data, err := schema.Marshal(&schema.ManagerStatus{
				V: schema.Version, ID: id, Incarnation: "life-" + id, Number: n, State: schema.MemberActive, Capacity: 4, Room: 4,
			})
			if err != nil {
				t.Error(err)
				return
			}
			_ = b.manager.Publish(b.Names.ManagerStatus(id), data) // fails while a test restarts the server
			select {
			case <-stop:
				return
			case <-ticker.C:
			}
		}
	})
	t.Cleanup(func() { close(stop); wg.Wait() })
}

// request sends a call over NATS and waits for its answer.
func (b *bundle) request(t testing.TB, function string, payload []byte, h nats.Header) *nats.Msg {
	t.Helper()
	m, err := b.caller.RequestMsg(&nats.Msg{
		Subject: b.Names.Invoke(subjects.DefaultAccount, function, ""), Data: payload, Header: h,
	}, patience)
	if err != nil {
		t.Fatalf("call of %s: %v", function, err)
	}
	return m
}

// send sends a call over NATS and gives the inbox of its answer.
func (b *bundle) send(t testing.TB, function string, h nats.Header) *nats.Subscription {
	t.Helper()
	inbox := b.caller.NewInbox()
	sub, err := b.caller.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	m := &nats.Msg{Subject: b.Names.Invoke(subjects.DefaultAccount, function, ""), Reply: inbox, Data: []byte(`{}`), Header: h}
	if err := b.caller.PublishMsg(m); err != nil {
		t.Fatal(err)
	}
	return sub
}

func next(t testing.TB, sub *nats.Subscription) *nats.Msg {
	t.Helper()
	m, err := sub.NextMsg(patience)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	return m
}

// wantRefusal checks a micro error: status, code and a part of its text.
func wantRefusal(t testing.TB, m *nats.Msg, code schema.Code, text string) {
	t.Helper()
	row := code.Row()
	if got := m.Header.Get(schema.HeaderErrorCode); got != fmt.Sprint(row.Status) {
		t.Errorf("status %q, want %d; headers %v, body %q", got, row.Status, m.Header, m.Data)
	}
	got := m.Header.Get(schema.HeaderError)
	e := schema.ParseErrorHeaders(m.Header.Get(schema.HeaderErrorCode), got)
	if e.Code != code || !strings.HasPrefix(got, string(code)+": ") || !strings.Contains(e.Message, text) {
		t.Errorf("error %q, want code %s and %q", got, code, text)
	}
	if len(got) > 1024 {
		t.Errorf("the refusal repeats %d bytes of what it refuses", len(got))
	}
	if len(m.Data) != 0 {
		t.Errorf("a refusal has body %q", m.Data)
	}
}

// wantLost checks the answer of a call that may have run.
func wantLost(t testing.TB, m *nats.Msg) {
	t.Helper()
	if m.Header.Get(schema.HeaderFunctionError) != schema.FunctionErrorUnhandled || m.Header.Get(schema.HeaderErrorCode) != "" {
		t.Errorf("headers %v, want a function error", m.Header)
	}
	var body struct{ ErrorType, ErrorMessage string }
	if err := json.Unmarshal(m.Data, &body); err != nil || body.ErrorType != string(schema.CodeExecutionLost) {
		t.Errorf("body %s (%v), want %s", m.Data, err, schema.CodeExecutionLost)
	}
	if want := "RequestId: " + m.Header.Get(schema.HeaderRequestID) + " Error: "; !strings.HasPrefix(body.ErrorMessage, want) {
		t.Errorf("message %q, want it to begin with %q", body.ErrorMessage, want)
	}
}

// nothingInFlight waits until C is 0 (S07).
func (b *bundle) nothingInFlight(t testing.TB) {
	t.Helper()
	natstest.Eventually(t, patience, func() bool { return b.f.Counters().InFlight == 0 }, "calls stay in flight")
}

// waiting is how many calls stand in the streams of unreserved arcs.
func (b *bundle) waiting(t testing.TB) (n uint64) {
	t.Helper()
	for number := range subjects.UnreservedStreams {
		stream, err := b.JetStream(t).Stream(t.Context(), b.Names.CallsU(number))
		if err != nil {
			t.Fatal(err)
		}
		n += stream.CachedInfo().State.Msgs
	}
	return n
}

// streamOf is the stream of a function's unreserved arc.
func (b *bundle) streamOf(function string) string {
	return b.Names.CallsOf(subjects.UnreservedArc(subjects.DefaultAccount, function, "", natstest.Arcs))
}
