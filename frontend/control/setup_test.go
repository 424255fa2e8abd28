package control_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/frontend/control"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/internal/seal"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// patience bounds every wait for something that must happen.
const patience = time.Minute

// bundle is a fabric with one control service, as each test gets its own.
type bundle struct {
	*natstest.Fabric
	nc      *nats.Conn // of whoever asks
	js      jetstream.JetStream
	service *control.Service
	view    *kvView
	key     *seal.Key
	logs    *syncBuffer
}

// kvView is a frontend's view by plain reads of KV: always up to date.
type kvView struct {
	names    subjects.Names
	js       jetstream.JetStream
	managers []schema.ManagerStatus

	frontends []string

	mu     sync.Mutex
	waited []uint64
	wait   func(context.Context) error // nil: at once

	late atomic.Bool // it does not send calls to reserved arcs yet
}

func (v *kvView) get(kind, key string, to any) (uint64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	kv, err := v.js.KeyValue(ctx, v.names.Bucket(kind))
	if err != nil {
		return 0, err
	}
	entry, err := kv.Get(ctx, key)
	if err != nil {
		return 0, err
	}
	return entry.Revision(), schema.Unmarshal(entry.Value(), to)
}

func (v *kvView) Ring() (r schema.RingRecord) {
	if _, err := v.get(topology.Ring, schema.RingKey, &r); err != nil && !errors.Is(err, jetstream.ErrKeyNotFound) {
		panic(err)
	}
	return r
}

func (v *kvView) Fabric() (f schema.Fabric) {
	if _, err := v.get(topology.Ring, schema.FabricKey, &f); err != nil {
		return schema.DefaultFabric()
	}
	return f
}

func (v *kvView) Managers() []schema.ManagerStatus { return v.managers }

func (v *kvView) Frontends() []string { return v.frontends }

func (v *kvView) ArcLength(int) int { return 0 }

func (v *kvView) Function(account, name string) (*schema.FunctionRecord, uint64, bool) {
	rec := new(schema.FunctionRecord)
	revision, err := v.get(topology.Functions, subjects.Escape(account)+"."+subjects.Escape(name), rec)
	return rec, revision, err == nil
}

func (v *kvView) Reserves(*schema.ReservationRecord) bool { return !v.late.Load() }

func (v *kvView) TokenKeys() schema.TokenKeysOutput {
	fabric := v.Fabric()
	return schema.TokenKeysOutput{Issuer: fabric.TokenIssuer("hearth"), Keys: []schema.TokenJWK{{Kind: "OKP", ID: "k"}}}
}

func (v *kvView) WaitFunctions(ctx context.Context, revision uint64) error {
	v.mu.Lock()
	v.waited = append(v.waited, revision)
	wait := v.wait
	v.mu.Unlock()
	if wait != nil {
		return wait(ctx)
	}
	return nil
}

// setup starts a fabric whose managers have published their key and the numbers, and a service with this configuration.
func setup(t *testing.T, change ...func(*control.Config)) *bundle {
	t.Helper()
	b := bare(t, change...)
	b.put(t, topology.Keys, schema.SealKeyName, schema.SealKeyRecord{V: 1, KeyID: b.key.ID(), Public: b.key.Public()})
	b.put(t, topology.Ring, schema.FabricKey, schema.DefaultFabric())
	return b
}

// bare is setup before any manager has started.
func bare(t *testing.T, change ...func(*control.Config)) *bundle {
	t.Helper()
	b := &bundle{Fabric: natstest.Start(t), logs: new(syncBuffer)}
	b.nc = b.Connect(t)
	b.js = b.JetStream(t)
	b.view = &kvView{names: b.Names, js: b.js, managers: []schema.ManagerStatus{{ID: "m1", Capacity: 8, Tenants: true}}}
	key, err := seal.Draft(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	b.key = key
	b.service = b.another(t, change...)
	return b
}

// another starts one more frontend's service on the fabric.
func (b *bundle) another(t *testing.T, change ...func(*control.Config)) *control.Service {
	t.Helper()
	cfg := control.Config{
		Names: b.Names, Keep: time.Nanosecond, Logger: slog.New(slog.NewTextHandler(b.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, f := range change {
		f(&cfg)
	}
	s, err := control.New(b.Connect(t), b.view, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (b *bundle) bucket(t *testing.T, kind string) jetstream.KeyValue {
	t.Helper()
	kv, err := b.js.KeyValue(t.Context(), b.Names.Bucket(kind))
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

func (b *bundle) put(t *testing.T, kind, key string, value any) {
	t.Helper()
	data, err := schema.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.bucket(t, kind).Put(t.Context(), key, data); err != nil {
		t.Fatal(err)
	}
}

func (b *bundle) record(t *testing.T, name string) *schema.FunctionRecord {
	t.Helper()
	rec, _, ok := b.view.Function(subjects.DefaultAccount, name)
	if !ok {
		t.Fatalf("function %s has no record", name)
	}
	return rec
}

// putObject writes any bytes under any name into the code store.
func (b *bundle) putObject(t *testing.T, name string, data []byte) {
	t.Helper()
	store, err := b.js.ObjectStore(t.Context(), b.Names.Bucket(topology.Code))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Put(t.Context(), jetstream.ObjectMeta{Name: name}, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
}

// putZip puts a zip of one file with this text into the store and returns its hash.
func (b *bundle) putZip(t *testing.T, text string) string {
	t.Helper()
	data := zipOf(t, text)
	name := sha(data)
	b.putObject(t, name, data)
	return name
}

func sha(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func zipOf(t testing.TB, text string) []byte {
	t.Helper()
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	w, err := z.CreateHeader(&zip.FileHeader{Name: "bootstrap", Method: zip.Store})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// ask sends a request over NATS, as any client would.
func (b *bundle) ask(t *testing.T, account, operation, request string) *nats.Msg {
	t.Helper()
	m, err := b.nc.Request(b.Names.API(account, operation), []byte(request), patience)
	if err != nil {
		t.Fatalf("%s: %v", operation, err)
	}
	return m
}

// must is ask for an answer.
func (b *bundle) must(t *testing.T, operation string, request any) map[string]any {
	t.Helper()
	m := b.ask(t, subjects.DefaultAccount, operation, text(t, request))
	if code := m.Header.Get(schema.HeaderErrorCode); code != "" {
		t.Fatalf("%s: %s %s", operation, code, m.Header.Get(schema.HeaderError))
	}
	var out map[string]any
	if len(m.Data) > 0 {
		if err := json.Unmarshal(m.Data, &out); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// refused is ask for a refusal of this code; it returns its body.
func (b *bundle) refused(t *testing.T, code schema.Code, operation string, request any) schema.APIError {
	t.Helper()
	m := b.ask(t, subjects.DefaultAccount, operation, text(t, request))
	var body schema.APIError
	if err := json.Unmarshal(m.Data, &body); err != nil || body.Code != code {
		t.Fatalf("%s: answered %s %s, want %s", operation, m.Header.Get(schema.HeaderError), m.Data, code)
	}
	return body
}

func text(t testing.TB, request any) string {
	t.Helper()
	if s, ok := request.(string); ok {
		return s
	}
	data, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// object is a JSON object in a test's words.
type object = map[string]any

func function(name, code string, more object) object {
	o := object{"FunctionName": name, "Runtime": "provided", "Code": object{"Sha256": code}}
	for k, v := range more {
		o[k] = v
	}
	return o
}

// syncBuffer is what a service logs, for many goroutines.
type syncBuffer struct {
	mu   sync.Mutex
	data bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.String()
}
