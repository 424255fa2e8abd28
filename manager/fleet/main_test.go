package fleet_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/answer"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/manager/fleet"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
	"github.com/hearth-run/hearth/worker/remote"
)

// patience bounds every wait for something that must happen; it is no promise about speed.
const patience = time.Minute

func TestMain(m *testing.M) { natstest.Main(m) }

// bench is a fleet with the test as its manager and as the callers.
type bench struct {
	t      testing.TB
	fabric *natstest.Fabric
	nc     *nats.Conn // of the manager
	fleet  *fleet.Fleet
	caller *nats.Conn

	mu       sync.Mutex
	capacity int
	retired  [][]string
	events   map[string][]schema.EnvironmentEvent
	ends     map[string][]schema.Outcome // by request id
	retire   bool                        // Retire ends what it is given, as a pool does
	calls    int
}

// SetCapacity and Retire make the bench a host.
func (b *bench) SetCapacity(places int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.capacity = places
}

func (b *bench) Retire(ids []string) {
	b.mu.Lock()
	b.retired = append(b.retired, ids)
	end := b.retire
	b.mu.Unlock()
	if end {
		for _, id := range ids {
			b.fleet.End(id)
		}
	}
}

func logger(at string) *slog.Logger {
	if testing.Verbose() && os.Getenv("HEARTH_TEST_LOG") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, nil)).With("at", at)
	}
	return slog.New(slog.DiscardHandler)
}

func setup(t testing.TB, change ...func(*fleet.Config)) *bench {
	t.Helper()
	f := natstest.Start(t)
	return setupOn(t, f, f.Connect(t), change...)
}

func setupOn(t testing.TB, f *natstest.Fabric, nc *nats.Conn, change ...func(*fleet.Config)) *bench {
	t.Helper()
	b := &bench{t: t, fabric: f, nc: nc, caller: f.Connect(t), events: map[string][]schema.EnvironmentEvent{}, ends: map[string][]schema.Outcome{}, retire: true}
	cfg := fleet.Config{Manager: "m1", Names: f.Names, Logger: logger("m1")}
	for _, c := range change {
		c(&cfg)
	}
	var err error
	if b.fleet, err = fleet.New(nc, cfg); err != nil {
		t.Fatal(err)
	}
	if err := b.fleet.Open(withDeadline(t), b); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.fleet.Close(withDeadline(t)); err != nil {
			t.Error(err)
		}
	})
	return b
}

func withDeadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func (b *bench) await(what string, cond func() bool) {
	b.t.Helper()
	natstest.Eventually(b.t, patience, cond, what)
}

func (b *bench) places() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.capacity
}

func (b *bench) awaitPlaces(n int) {
	b.t.Helper()
	b.await(fmt.Sprintf("%d places", n), func() bool { return b.places() == n })
}

func (b *bench) notify(ev schema.EnvironmentEvent) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events[ev.Environment] = append(b.events[ev.Environment], ev)
}

func (b *bench) eventsOf(id string) []schema.EnvironmentEvent {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.events[id])
}

// awaitEvent waits for the nth event of an environment, which has to be of this kind.
func (b *bench) awaitEvent(id string, nth int, kind schema.EnvironmentEventKind) schema.EnvironmentEvent {
	b.t.Helper()
	b.await(fmt.Sprintf("event %d of %s", nth, id), func() bool { return len(b.eventsOf(id)) >= nth })
	ev := b.eventsOf(id)[nth-1]
	if ev.Kind != kind {
		b.t.Fatalf("event %d of %s is %+v, want kind %d", nth, id, ev, kind)
	}
	return ev
}

func binding(change ...func(*schema.Binding)) *schema.Binding {
	b := &schema.Binding{
		Key:     schema.Key{FunctionID: "f-1", Version: "7", CodeSHA256: "ab", ConfigRevision: 3},
		Account: "default", Function: "echo", Runtime: "provided.al2023", Handler: "bootstrap", MemoryMB: 128, Timeout: time.Minute,
		InitTimeout: time.Minute, Variables: schema.Variables{"COLOUR": "blue"},
	}
	for _, f := range change {
		f(b)
	}
	return b
}

func (b *bench) made(id string, change ...func(*schema.Binding)) {
	b.t.Helper()
	b.fleet.Make(id, binding(change...), b.notify)
	b.awaitEvent(id, 1, schema.EnvironmentParked)
}

// call is a run and where its answers come.
type call struct {
	*schema.Run
	sub *nats.Subscription
}

func (b *bench) call(environment string, payload []byte, change ...func(*schema.Call)) *call {
	b.t.Helper()
	b.mu.Lock()
	b.calls++
	id := fmt.Sprintf("r-%d", b.calls)
	b.mu.Unlock()
	sub, err := b.caller.SubscribeSync(b.caller.NewInbox())
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.caller.Flush(); err != nil {
		b.t.Fatal(err)
	}
	bind := binding()
	c := &schema.Call{Key: bind.Key, RequestID: id, Account: bind.Account, Function: bind.Function, Frontend: "f1", Token: 7,
		Reply: sub.Subject, Reason: schema.ReasonUnreserved, Attempt: 1, Timeout: time.Minute, Payload: payload}
	for _, f := range change {
		f(c)
	}
	return &call{sub: sub, Run: &schema.Run{
		Call: c, Subject: b.fabric.Names.UnreservedCall(17, "default", "echo", "7", ""), Environment: environment, Arc: "u.17", Rank: 1,
		Manager: "m1", Start: schema.StartWarm,
		Ended: func(r *schema.Run, o *schema.Outcome) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.ends[r.Call.RequestID] = append(b.ends[r.Call.RequestID], *o)
		},
	}}
}

// answered waits for a call's answer and looks that its end was told before, once.
func (b *bench) answered(c *call) (*nats.Msg, schema.Outcome) {
	b.t.Helper()
	m, err := c.sub.NextMsg(patience)
	if err != nil {
		b.t.Fatalf("answer of %s: %v", c.Call.RequestID, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	ends := b.ends[c.Call.RequestID]
	if len(ends) != 1 {
		b.t.Fatalf("%s is answered %q and has %d ends", c.Call.RequestID, m.Data[:min(len(m.Data), 200)], len(ends))
	}
	return m, ends[0]
}

// lost is answered for a call whose worker has gone: once, as lost.
func (b *bench) lost(c *call) {
	b.t.Helper()
	m, end := b.answered(c)
	if m.Header.Get(schema.HeaderFunctionError) == "" || !bytes.Contains(m.Data, []byte(schema.CodeExecutionLost)) || end.Reusable {
		b.t.Errorf("%s: %q, reusable %v, want it lost", c.Call.RequestID, m.Data, end.Reusable)
	}
}

// hand is a worker whose environments do what the test says.
type hand struct {
	nc   *nats.Conn
	init func(id string) *schema.FunctionError
	run  func(run *schema.Run) // before the end

	answer func(run *schema.Run) // between the end and the answer
	tasks  conc.WaitGroup

	mu           sync.Mutex
	environments map[string]*handEnvironment
	seen         []string // as they were made
	variables    schema.Variables
	tokens       map[string]schema.TokenSource
}

type handEnvironment struct {
	notify func(schema.EnvironmentEvent)
	busy   bool
	ended  bool
}

func (h *hand) Make(id string, b *schema.Binding, notify func(schema.EnvironmentEvent)) {
	h.mu.Lock()
	e := &handEnvironment{notify: notify, busy: true}
	h.environments[id] = e
	h.seen = append(h.seen, id)
	h.variables = b.Variables
	if b.Token != nil {
		if h.tokens == nil {
			h.tokens = map[string]schema.TokenSource{}
		}
		h.tokens[id] = b.Token
	}
	h.mu.Unlock()
	h.tasks.Go(func() {
		if h.init != nil {
			if f := h.init(id); f != nil {
				notify(schema.EnvironmentEvent{Environment: id, Kind: schema.EnvironmentFailed, Error: f})
				return
			}
		}
		h.parked(id, e, 3*time.Millisecond)
	})
}

func (h *hand) parked(id string, e *handEnvironment, init time.Duration) {
	h.mu.Lock()
	e.busy = false
	ended := e.ended
	h.mu.Unlock()
	if ended {
		e.notify(schema.EnvironmentEvent{Environment: id, Kind: schema.EnvironmentGone})
		return
	}
	e.notify(schema.EnvironmentEvent{Environment: id, Kind: schema.EnvironmentParked, InitDuration: init})
}

func (h *hand) Start(run *schema.Run) {
	h.mu.Lock()
	e := h.environments[run.Environment]
	if e != nil {
		e.busy = true
	}
	before, between := h.run, h.answer
	h.mu.Unlock()
	h.tasks.Go(func() {
		if before != nil {
			before(run)
		}
		o := &schema.Outcome{Payload: run.Call.Payload, Reusable: true, Duration: time.Millisecond}
		if e == nil {
			o = &schema.Outcome{Error: &schema.FunctionError{Type: string(schema.CodeExecutionLost), Body: []byte(`{"errorType":"Hearth.ExecutionLost"}`)}}
		}
		run.Ended(run, o)
		if e != nil {
			h.parked(run.Environment, e, 0)
		}
		if between != nil {
			between(run)
		}
		_ = answer.Publish(h.nc.PublishMsg, run, o, true) // a closed connection is part of some tests
		if run.Answered != nil {
			run.Answered(run)
		}
	})
}

func (h *hand) End(id string) {
	h.mu.Lock()
	e := h.environments[id]
	delete(h.environments, id)
	idle := e != nil && !e.busy && !e.ended
	if e != nil {
		e.ended = true
	}
	h.mu.Unlock()
	if idle {
		h.tasks.Go(func() { e.notify(schema.EnvironmentEvent{Environment: id, Kind: schema.EnvironmentGone}) })
	}
}

// does has calls do this from now on: before their end, and between it and their answer.
func (h *hand) does(run, answer func(*schema.Run)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.run, h.answer = run, answer
}

// bound is where the tokens of an environment come from, as it was made.
func (h *hand) bound(id string) schema.TokenSource {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.tokens[id]
}

func (h *hand) live() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.environments)
}

// far is a worker of another process, as far as the manager sees.
type far struct {
	*remote.Remote
	*hand
}

func (b *bench) worker(id string, nc *nats.Conn, change ...func(*remote.Config)) *far {
	b.t.Helper()
	w := b.newWorker(id, nc, change...)
	if err := w.Remote.Start(withDeadline(b.t)); err != nil {
		b.t.Fatal(err)
	}
	return w
}

func (b *bench) newWorker(id string, nc *nats.Conn, change ...func(*remote.Config)) *far {
	b.t.Helper()
	cfg := remote.Config{ID: id, Manager: "m1", Names: b.fabric.Names, Capacity: 8, Driver: "null", Tenants: true, Logger: logger(id)}
	for _, f := range change {
		f(&cfg)
	}
	h := &hand{nc: nc, environments: map[string]*handEnvironment{}}
	r, err := remote.New(nc, h, cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = r.Stop(ctx) // a closed connection, or a manager that ends nothing, are part of some tests
		h.tasks.Wait()
	})
	return &far{r, h}
}

// tcp is a connection as a worker has it: its inboxes are its own.
func (b *bench) tcp(id string) *nats.Conn {
	b.t.Helper()
	return b.fabric.ConnectTCP(b.t, nats.CustomInboxPrefix(subjects.WorkerInbox(id, "r")))
}

func places(n int) func(*remote.Config) { return func(c *remote.Config) { c.Capacity = n } }

// gate holds calls.
type gate struct {
	entered chan string
	open    chan struct{}
}

func newGate() *gate { return &gate{make(chan string, 1024), make(chan struct{})} }

func (g *gate) pass(run *schema.Run) {
	g.entered <- run.Call.RequestID
	<-g.open
}

func (g *gate) wait(t testing.TB, n int) {
	t.Helper()
	for range n {
		select {
		case <-g.entered:
		case <-time.After(patience):
			t.Fatal("no call came")
		}
	}
}

// lease is what stands in bucket members of a worker.
func (b *bench) lease(id string) (*schema.WorkerRecord, error) {
	b.t.Helper()
	js, err := jetstream.New(b.caller)
	if err != nil {
		b.t.Fatal(err)
	}
	kv, err := js.KeyValue(withDeadline(b.t), b.fabric.Names.Bucket(topology.Members))
	if err != nil {
		b.t.Fatal(err)
	}
	entry, err := kv.Get(withDeadline(b.t), fleet.WorkerKey(id))
	if err != nil {
		return nil, err
	}
	var rec schema.WorkerRecord
	return &rec, errors.Join(err, schema.Unmarshal(entry.Value(), &rec))
}
