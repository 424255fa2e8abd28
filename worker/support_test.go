package worker_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
	"github.com/hearth-run/hearth/worker"
	"github.com/hearth-run/hearth/worker/driver/drivertest"
	"github.com/hearth-run/hearth/worker/driver/process"
)

// patience is how long a test waits for what has to come.
const patience = time.Minute

// store is a code store in memory, by hash.
type store map[string][]byte

func (s store) Open(_ context.Context, sha string) (io.ReadCloser, int64, error) {
	b, ok := s[sha]
	if !ok {
		return nil, 0, schema.Errorf(schema.CodeNotFound, "no package %s", sha)
	}
	return io.NopCloser(bytes.NewReader(b)), int64(len(b)), nil
}

// put adds a package with these files, 0755 each.
func (s store) put(t testing.TB, files map[string]string) (sha string) {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for name, text := range files {
		h := &zip.FileHeader{Name: name, Method: zip.Deflate}
		h.SetMode(0o755)
		if name == "plain" {
			h.SetMode(0o644)
		}
		f, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(f, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return s.add(b.Bytes())
}

// add adds a package.
func (s store) add(zip []byte) (sha string) {
	sum := sha256.Sum256(zip)
	sha = hex.EncodeToString(sum[:])
	s[sha] = zip
	return sha
}

// bench is a worker over real processes, with the test as its manager and as the caller.
type bench struct {
	t      testing.TB
	worker *worker.Worker
	store  store
	code   string // a package whose bootstrap is the test binary as a function
	names  subjects.Names

	publish atomic.Pointer[func(*nats.Msg) error] // instead of the usual

	mu      sync.Mutex
	order   []string // "ended ID", "answer ID", "parked ENV", "failed ENV", "gone ENV"
	answers map[string][]*nats.Msg
	ended   map[string][]schema.Outcome
	events  map[string][]schema.EnvironmentEvent
	changed chan struct{}
	calls   int
}

func setup(t testing.TB, change ...func(*worker.Config)) *bench {
	t.Helper()
	names, err := subjects.NewNames("")
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, names: names, store: store{}, answers: map[string][]*nats.Msg{}, ended: map[string][]schema.Outcome{},
		events: map[string][]schema.EnvironmentEvent{}, changed: make(chan struct{})}
	folder := drivertest.Folder(t)
	b.code = b.store.put(t, map[string]string{"bootstrap": "#!/bin/sh\nexec " + functionPath + " " + functionArgument + "\n"})
	cfg := worker.Config{ID: "w1", Publish: b.published, Code: b.store, CacheDir: filepath.Join(folder, "cache"), Names: names,
		Tenants: true, Path: os.Getenv("PATH")}
	for _, f := range change {
		f(&cfg)
	}
	if cfg.Driver == nil {
		d, err := process.New(process.Config{Dir: filepath.Join(folder, "environments")})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
		cfg.Driver = d
	}
	b.worker, err = worker.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := b.worker.Stop(ctx); err != nil {
			t.Error(err)
		}
		if c := b.worker.Counters(); c.Environments != 0 || c.BodyBytes != 0 {
			t.Errorf("left: %+v", c)
		}
		b.eachEnvironmentHasOneLastEvent()
	})
	return b
}

func (b *bench) note(what, id string) {
	b.order = append(b.order, what+" "+id)
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *bench) published(m *nats.Msg) error {
	if f := b.publish.Load(); f != nil {
		if err := (*f)(m); err != nil {
			return err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	id := m.Header.Get(schema.HeaderRequestID)
	c := &nats.Msg{Subject: m.Subject, Data: bytes.Clone(m.Data), Header: nats.Header{}}
	for k, v := range m.Header {
		c.Header[k] = append([]string(nil), v...)
	}
	b.answers[id] = append(b.answers[id], c)
	b.note("answer", id)
	return nil
}

func (b *bench) notify(ev schema.EnvironmentEvent) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events[ev.Environment] = append(b.events[ev.Environment], ev)
	b.note(map[schema.EnvironmentEventKind]string{schema.EnvironmentParked: "parked", schema.EnvironmentFailed: "failed",
		schema.EnvironmentGone: "gone"}[ev.Kind], ev.Environment)
}

// await waits until cond holds; it is asked again after everything that happens. The mutex is held.
func (b *bench) await(what string, cond func() bool) {
	b.t.Helper()
	deadline := time.After(patience)
	for {
		b.mu.Lock()
		ok, changed := cond(), b.changed
		order := fmt.Sprint(b.order)
		b.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			b.t.Fatalf("waited %s for %s; so far: %s", patience, what, order)
		}
	}
}

func (b *bench) binding(change ...func(*schema.Binding)) *schema.Binding {
	binding := &schema.Binding{
		Key:     schema.Key{FunctionID: "f-1", Version: "7", CodeSHA256: b.code, ConfigRevision: 3},
		Account: "default", Function: "echo", Runtime: "provided.al2023", Handler: "bootstrap", MemoryMB: 128,
		Timeout: time.Minute, InitTimeout: time.Minute,
	}
	for _, f := range change {
		f(binding)
	}
	return binding
}

// made makes an environment and waits until it is parked.
func (b *bench) made(id string, binding *schema.Binding) {
	b.t.Helper()
	b.worker.Make(id, binding, b.notify)
	b.awaitEvent(id, schema.EnvironmentParked, 1)
}

// awaitEvent waits for the nth event of a kind.
func (b *bench) awaitEvent(id string, kind schema.EnvironmentEventKind, nth int) schema.EnvironmentEvent {
	b.t.Helper()
	var found schema.EnvironmentEvent
	b.await(fmt.Sprintf("event %d of %s", kind, id), func() bool {
		n := 0
		for _, ev := range b.events[id] {
			if ev.Kind == kind {
				if n++; n == nth {
					found = ev
					return true
				}
			}
			if kind == schema.EnvironmentParked && ev.Error != nil {
				b.t.Errorf("%s failed: %+v", id, ev.Error)
			}
		}
		return false
	})
	return found
}

// run is a call for an environment; its id is unique in the bench.
func (b *bench) run(environment string, binding *schema.Binding, payload string) *schema.Run {
	b.mu.Lock()
	b.calls++
	id := fmt.Sprintf("00000000-0000-4000-8000-%012d", b.calls)
	b.mu.Unlock()
	return &schema.Run{
		Call: &schema.Call{Key: binding.Key, RequestID: id, Account: binding.Account, Function: binding.Function, Frontend: "f1",
			Reply: "_INBOX.caller." + id, Reason: schema.ReasonUnreserved, Attempt: 1, Timeout: binding.Timeout,
			Payload: []byte(payload)},
		Subject:     b.names.UnreservedCall(17, binding.Account, binding.Function, binding.Version, binding.Tenant),
		Environment: environment, Arc: "u.17", Rank: 1, Manager: "m1", Start: schema.StartWarm,
		Ended: func(r *schema.Run, o *schema.Outcome) {
			b.mu.Lock()
			defer b.mu.Unlock()
			c := *o
			c.Payload = bytes.Clone(o.Payload)
			b.ended[r.Call.RequestID] = append(b.ended[r.Call.RequestID], c)
			b.note("ended", r.Call.RequestID)
		},
	}
}

// perTenant is of a function with sub-tenants.
func perTenant(b *schema.Binding) { b.PerTenant = true }

// runFor is a call of a sub-tenant.
func (b *bench) runFor(tenant, environment string, binding *schema.Binding, payload string) *schema.Run {
	run := b.run(environment, binding, payload)
	run.Call.Tenant = tenant
	run.Subject = b.names.UnreservedCall(17, binding.Account, binding.Function, binding.Version, tenant)
	return run
}

// answer waits for a call's answer and looks that it is the only one, after the only end.
func (b *bench) answer(run *schema.Run) (*nats.Msg, schema.Outcome) {
	b.t.Helper()
	id := run.Call.RequestID
	b.await("the answer of "+id, func() bool { return len(b.answers[id]) > 0 })
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.answers[id]) != 1 || len(b.ended[id]) != 1 {
		b.t.Fatalf("%d answers and %d ends of %s", len(b.answers[id]), len(b.ended[id]), id)
	}
	if b.position("ended "+id) > b.position("answer "+id) {
		b.t.Fatalf("answered before its end: %v", b.order)
	}
	return b.answers[id][0], b.ended[id][0]
}

func (b *bench) position(what string) int {
	for i, o := range b.order {
		if o == what {
			return i
		}
	}
	return -1
}

// call starts a call and waits for its answer.
func (b *bench) call(environment string, binding *schema.Binding, payload string) (*nats.Msg, schema.Outcome) {
	b.t.Helper()
	run := b.run(environment, binding, payload)
	b.worker.Start(run)
	return b.answer(run)
}

func (b *bench) eachEnvironmentHasOneLastEvent() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, events := range b.events {
		for i, ev := range events {
			if last := ev.Kind != schema.EnvironmentParked; last != (i == len(events)-1) {
				b.t.Errorf("events of %s: %+v", id, events)
			}
		}
	}
	for id, ended := range b.ended {
		if len(ended) != 1 {
			b.t.Errorf("%d ends of %s", len(ended), id)
		}
	}
}

// functionError compares an answer with a failure.
func functionError(t testing.TB, m *nats.Msg, body string) {
	t.Helper()
	if m.Header.Get(schema.HeaderFunctionError) != "Unhandled" || string(m.Data) != body {
		t.Fatalf("answer %q with %v, want the failure %s", m.Data, m.Header, body)
	}
}

var errBroken = errors.New("broken on purpose")

// quoted is a JSON string.
func quoted(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}
