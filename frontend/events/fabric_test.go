package events_test

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/frontend"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/manager"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// patience bounds every wait for something that must happen.
const patience = time.Minute

// bundle is a fabric with a manager, whose worker is scripted, and a frontend.
type bundle struct {
	*natstest.Fabric
	caller *nats.Conn // has no part in the fabric
	js     jetstream.JetStream
	worker *scripted
	f      *frontend.Frontend

	frontend *nats.Conn // of f
}

// setup starts a fabric with function "f" and those named.
func setup(t testing.TB, functions ...string) *bundle {
	t.Helper()
	return setupWith(t, 16, functions)
}

func setupWith(t testing.TB, capacity int, functions []string, opts ...natstest.Option) *bundle {
	t.Helper()
	b := fabricWith(t, capacity, opts...)
	for _, name := range functions {
		b.deploy(t, name, nil)
	}
	b.frontend = b.connect(t)
	b.f = b.startFrontend(t, b.frontend)
	return b
}

// fabricWith is a fabric with function "f" and no frontend.
func fabricWith(t testing.TB, capacity int, opts ...natstest.Option) *bundle {
	t.Helper()
	b := &bundle{Fabric: natstest.Start(t, opts...)}
	b.caller = b.Connect(t)
	b.js = b.JetStream(t)
	b.deploy(t, "f", nil)
	b.startManager(t, "m1", capacity)
	return b
}

func (b *bundle) connect(t testing.TB) *nats.Conn {
	return b.Connect(t, nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
}

func logger(name string) *slog.Logger {
	if testing.Verbose() && os.Getenv("HEARTH_TEST_LOG") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, nil)).With("at", name)
	}
	return nil
}

func (b *bundle) startManager(t testing.TB, id string, capacity int) *manager.Manager {
	t.Helper()
	nc := b.connect(t)
	b.worker = newScripted(nc)
	m, err := manager.New(nc, b.worker, manager.Config{
		ID: id, Names: b.Names, Fabric: natstest.Small(), Capacity: capacity, Build: "test", Logger: logger(id),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := m.Start(ctx); err != nil {
		t.Fatal(err)
	}
	w := b.worker
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = m.Stop(ctx) // a test may have taken its server away
		w.tasks.Wait()
	})
	return m
}

// startFrontend starts a frontend on a connection, stopped by the test's cleanup.
func (b *bundle) startFrontend(t testing.TB, nc *nats.Conn) *frontend.Frontend {
	t.Helper()
	f, err := frontend.New(nc, frontend.Config{Names: b.Names, Logger: logger("frontend")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := f.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // whatever a test has left in flight is not waited for
		_ = f.Stop(ctx)
	})
	return f
}

// deploy writes a function's record, as the control handlers do.
func (b *bundle) deploy(t testing.TB, name string, change func(*schema.FunctionRecord)) {
	t.Helper()
	rec := &schema.FunctionRecord{
		V: schema.Version, Account: subjects.DefaultAccount, Name: name, ID: "id-" + name, Created: time.Unix(0, 0), NextVersion: 1,
		Latest: schema.VersionRecord{
			Version: schema.Latest, Runtime: "provided", MemoryMB: 128, Timeout: 30 * time.Second, CodeSHA256: strings.Repeat("ab", 32),
			ConfigRevision: 1, Modified: time.Unix(0, 0),
		},
	}
	if change != nil {
		change(rec)
	}
	data, err := schema.Marshal(rec)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.functions(t).Put(t.Context(), functionKey(name), data); err != nil {
		t.Fatal(err)
	}
}

func (b *bundle) functions(t testing.TB) jetstream.KeyValue {
	t.Helper()
	kv, err := b.js.KeyValue(t.Context(), b.Names.Bucket(topology.Functions))
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

func functionKey(name string) string {
	return subjects.Escape(subjects.DefaultAccount) + "." + subjects.Escape(name)
}

// configure sets what happens to a function's events and waits until the frontend has it.
func (b *bundle) configure(t testing.TB, name string, c schema.EventInvokeConfigRecord) {
	t.Helper()
	c.Modified = time.Now()
	b.deploy(t, name, func(r *schema.FunctionRecord) { r.Event = &c })
	natstest.Eventually(t, patience, func() bool {
		r, _, ok := b.f.Function(subjects.DefaultAccount, name)
		return ok && r.Event != nil && r.Event.Modified.Equal(c.Modified)
	}, "the frontend has the configuration")
}

// event hands an event in and gives its sequence.
func (b *bundle) event(t testing.TB, function, payload string, header ...string) uint64 {
	t.Helper()
	ack, err := b.publish(t, b.Names.Event(subjects.DefaultAccount, function, ""), payload, header...)
	if err != nil {
		t.Fatalf("event of %s: %v", function, err)
	}
	return ack.Sequence
}

func (b *bundle) publish(t testing.TB, subject, payload string, header ...string) (*jetstream.PubAck, error) {
	t.Helper()
	m := nats.NewMsg(subject)
	m.Data = []byte(payload)
	for i := 0; i < len(header); i += 2 {
		m.Header[header[i]] = append(m.Header[header[i]], header[i+1])
	}
	return b.js.PublishMsg(t.Context(), m, jetstream.WithRetryAttempts(0))
}

// held is how many messages a stream has.
func (b *bundle) held(t testing.TB, stream string) uint64 {
	t.Helper()
	s, err := b.js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

func (b *bundle) events() string  { return b.Names.Events(subjects.DefaultAccount) }
func (b *bundle) retries() string { return b.Names.Stream(topology.Retries) }

// drained waits until no event waits or runs.
func (b *bundle) drained(t testing.TB) {
	t.Helper()
	natstest.Eventually(t, patience, func() bool { return b.held(t, b.events()) == 0 }, "all events are done")
}

// dead waits for n dead letters and gives all there are, oldest first.
func (b *bundle) dead(t testing.TB, n uint64) (letters []schema.DeadLetter) {
	t.Helper()
	stream := b.Names.Stream(topology.DeadLetters)
	natstest.Eventually(t, patience, func() bool { return b.held(t, stream) >= n }, "the dead letters are there")
	s, err := b.js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	state := s.CachedInfo().State
	for at := state.FirstSeq; at <= state.LastSeq; at++ {
		m, err := s.GetMsg(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		var d schema.DeadLetter
		if err := schema.Unmarshal(m.Data, &d); err != nil {
			t.Fatal(err)
		}
		if want := b.Names.Dead(d.Event.Account, d.Event.Function); m.Subject != want {
			t.Errorf("a dead letter of %q lies on %s", d.Event.Function, m.Subject)
		}
		letters = append(letters, d)
	}
	return letters
}
