package topology_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/sourcegraph/conc/pool"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

func TestMain(m *testing.M) { natstest.Main(m) }

const patience = 20 * time.Second

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// layout is every stream with its settings and every arc's consumer with its own, as the server tells them.
type layout struct {
	streams   map[string]jetstream.StreamConfig
	created   map[string]time.Time
	consumers map[string]jetstream.ConsumerConfig
}

func read(t testing.TB, js jetstream.JetStream, names subjects.Names) layout {
	t.Helper()
	l := layout{map[string]jetstream.StreamConfig{}, map[string]time.Time{}, map[string]jetstream.ConsumerConfig{}}
	streams := js.ListStreams(within(t))
	for info := range streams.Info() {
		l.streams[info.Config.Name], l.created[info.Config.Name] = info.Config, info.Created
	}
	if err := streams.Err(); err != nil {
		t.Fatal(err)
	}
	for stream := range subjects.UnreservedStreams {
		s, err := js.Stream(within(t), names.CallsU(stream))
		if err != nil {
			t.Fatal(err)
		}
		consumers := s.ListConsumers(within(t))
		for info := range consumers.Info() {
			var nn int
			if _, err := fmt.Sscanf(info.Name, "u-%d", &nn); err != nil || nn%subjects.UnreservedStreams != stream {
				t.Errorf("consumer %s lies on %s", info.Name, info.Stream)
			}
			l.consumers[info.Name] = info.Config
		}
		if err := consumers.Err(); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func TestEnsureMakesTheLayoutOfTheDesign(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t, natstest.AllArcs())
	js := f.JetStream(t)
	before := uint64(time.Now().Add(-time.Hour).UnixMicro())
	got := read(t, js, f.Names)

	want := []string{"HEARTH_EVENTS_default", "HEARTH_RETRIES", "HEARTH_DEADLETTERS", "HEARTH_LOGS", "HEARTH_USAGE",
		"OBJ_HEARTH_code"}
	for _, kind := range []string{"functions", "reservations", "members", "ring", "arcs", "limits", "secrets", "keys"} {
		want = append(want, "KV_HEARTH_"+kind)
	}
	for stream := range subjects.UnreservedStreams {
		want = append(want, f.Names.CallsU(stream))
	}
	for _, name := range want {
		if _, ok := got.streams[name]; !ok {
			t.Errorf("stream %s is missing", name)
		}
	}
	if len(got.streams) != len(want) {
		t.Errorf("%d streams, want %d", len(got.streams), len(want))
	}

	calls := got.streams["HEARTH_CALLS_U7"]
	if calls.FirstSeq < before {
		t.Errorf("first sequence %d is not Unix microseconds", calls.FirstSeq)
	}
	calls.FirstSeq, calls.Metadata, calls.ConsumerLimits = 0, nil, jetstream.StreamConsumerLimits{}
	var taken []string
	for nn := 7; nn < 256; nn += 8 {
		taken = append(taken, fmt.Sprintf("hearth.arc.u.%d.>", nn))
	}
	if want := (jetstream.StreamConfig{
		Name: "HEARTH_CALLS_U7", Subjects: taken, Retention: jetstream.WorkQueuePolicy,
		Storage: jetstream.MemoryStorage, Replicas: 1, Discard: jetstream.DiscardNew, DiscardNewPerSubject: true,
		MaxMsgsPerSubject: 1000, MaxBytes: 64 << 20, MaxMsgs: -1, MaxMsgSize: -1, MaxConsumers: 96, AllowMsgTTL: true, AllowDirect: true,
		Duplicates: 100 * time.Millisecond,
	}); !reflect.DeepEqual(calls, want) {
		t.Errorf("CALLS_U7 is\n%+v\nwant\n%+v", calls, want)
	}

	if len(got.consumers) != subjects.DefaultArcs {
		t.Errorf("%d consumers, want %d", len(got.consumers), subjects.DefaultArcs)
	}
	for nn := range subjects.DefaultArcs {
		c := got.consumers[fmt.Sprintf("u-%d", nn)]
		c.Metadata = nil
		if want := (jetstream.ConsumerConfig{
			Name: fmt.Sprintf("u-%d", nn), Durable: fmt.Sprintf("u-%d", nn), FilterSubject: fmt.Sprintf("hearth.arc.u.%d.>", nn),
			AckPolicy: jetstream.AckExplicitPolicy, AckWait: 3 * time.Second, MaxDeliver: -1, MaxAckPending: -1, MaxWaiting: 65536,
			PriorityPolicy: jetstream.PriorityPolicyPrioritized, PriorityGroups: []string{"h"}, MemoryStorage: true, Replicas: 1,
		}); !reflect.DeepEqual(c, want) {
			t.Errorf("consumer %d is\n%+v\nwant\n%+v", nn, c, want)
		}
	}

	events := got.streams["HEARTH_EVENTS_default"]
	events.Metadata, events.ConsumerLimits = nil, jetstream.StreamConsumerLimits{}
	if want := (jetstream.StreamConfig{ // nothing by which one caller could act on the events of another
		Name: "HEARTH_EVENTS_default", Subjects: []string{"hearth.event.default.>"}, Retention: jetstream.WorkQueuePolicy,
		Storage: jetstream.FileStorage, Replicas: 1, Discard: jetstream.DiscardNew, MaxBytes: 1 << 30, MaxMsgs: -1,
		MaxMsgsPerSubject: -1, MaxMsgSize: schema.MaxEventPayload + schema.MaxHeader, MaxConsumers: 20_000, DenyPurge: true,
		Duplicates: 2 * time.Minute,
	}); !reflect.DeepEqual(events, want) {
		t.Errorf("EVENTS is\n%+v\nwant\n%+v", events, want)
	}
	if d := got.streams["HEARTH_USAGE"].Duplicates; d != 24*time.Hour {
		t.Errorf("USAGE knows a record again for %v, want a day", d)
	}
	if n := got.streams["HEARTH_RETRIES"].MaxConsumers; n != events.MaxConsumers {
		t.Errorf("RETRIES takes %d consumers, EVENTS %d", n, events.MaxConsumers)
	}

	if m := got.streams["KV_HEARTH_members"]; m.MaxAge != 2*time.Second || m.SubjectDeleteMarkerTTL != 5*time.Second || m.MaxMsgsPerSubject != 1 {
		t.Errorf("members: age %v, markers %v, history %d", m.MaxAge, m.SubjectDeleteMarkerTTL, m.MaxMsgsPerSubject)
	}
}

// A bucket is a stream of ours, made without nats.go's CreateKeyValue: it has to be one to nats.go all the same.
func TestBucketsAreThoseOfNATS(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	js := f.JetStream(t)
	for _, kind := range topology.Buckets() {
		config := jetstream.KeyValueConfig{Bucket: f.Names.Bucket(kind), Storage: jetstream.FileStorage, History: 1}
		if kind == topology.Limits || kind == topology.Reservations {
			config.LimitMarkerTTL = 5 * time.Second
		}
		if kind == topology.Members {
			config.TTL, config.LimitMarkerTTL = 2*time.Second, 5*time.Second
		}
		if _, err := js.CreateKeyValue(within(t), config); err != nil {
			t.Errorf("bucket %s is not what nats.go makes: %v", kind, err)
		}
	}
	if _, err := js.CreateObjectStore(within(t), jetstream.ObjectStoreConfig{
		Bucket: f.Names.Bucket(topology.Code), Storage: jetstream.FileStorage,
	}); err != nil {
		t.Errorf("the object store is not what nats.go makes: %v", err)
	}
}

func TestLeasesExpireVisibly(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	kv, err := f.JetStream(t).KeyValue(within(t), f.Names.Bucket(topology.Members))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.PutString(within(t), "manager.m1", "lease"); err != nil {
		t.Fatal(err)
	}
	w, err := kv.WatchAll(within(t))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	ctx := within(t)
	for {
		select {
		case e := <-w.Updates():
			if e != nil && e.Operation() == jetstream.KeyValuePurge {
				return
			}
		case <-ctx.Done():
			t.Fatal("nobody was told that the lease expired")
		}
	}
}

func TestEnsureAgainChangesNothing(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t, natstest.AllArcs())
	js := f.JetStream(t)
	before := read(t, js, f.Names)
	if err := topology.Ensure(within(t), js, f.Names, schema.DefaultFabric()); err != nil {
		t.Fatal(err)
	}
	if after := read(t, js, f.Names); !reflect.DeepEqual(before, after) {
		t.Errorf("before\n%+v\nafter\n%+v", before, after)
	}
}

func TestEnsureBySeveralAtOnce(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t, natstest.Bare())
	p := pool.New().WithErrors()
	for range 3 {
		js := f.JetStream(t)
		p.Go(func() error { return topology.Ensure(within(t), js, f.Names, schema.DefaultFabric()) })
	}
	if err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, f.JetStream(t), f.Names); len(got.streams) != 14+subjects.UnreservedStreams || len(got.consumers) != subjects.DefaultArcs {
		t.Errorf("%d streams, %d consumers", len(got.streams), len(got.consumers))
	}
}

func TestEnsureRestoresWhatARestartTook(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	js, err := jetstream.New(f.ConnectTCP(t))
	if err != nil {
		t.Fatal(err)
	}
	before := read(t, js, f.Names)
	kv, err := js.KeyValue(within(t), f.Names.Bucket(topology.Functions))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.PutString(within(t), "default.f", "kept"); err != nil {
		t.Fatal(err)
	}
	f.Restart(t)
	// At once, while the connection is still coming back: it has to wait for the server by itself.
	if err := topology.Ensure(within(t), js, f.Names, schema.DefaultFabric()); err != nil {
		t.Fatal(err)
	}
	after := read(t, js, f.Names)
	for stream := range subjects.UnreservedStreams {
		was, is := before.streams[f.Names.CallsU(stream)], after.streams[f.Names.CallsU(stream)]
		if is.FirstSeq <= was.FirstSeq {
			t.Errorf("first sequence %d after %d: sequences come again", is.FirstSeq, was.FirstSeq)
		}
	}
	if !reflect.DeepEqual(after.consumers, before.consumers) {
		t.Errorf("consumers after the restart:\n%+v\nbefore:\n%+v", after.consumers, before.consumers)
	}
	if e, err := kv.Get(within(t), "default.f"); err != nil || string(e.Value()) != "kept" {
		t.Errorf("default.f: %v, %v", e, err)
	}
}

func TestEnsureWithMoreArcsOpensThemAndWithFewerLeavesThem(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t, natstest.Numbers(schema.Fabric{Arcs: 4}))
	js := f.JetStream(t)
	for _, arcs := range []int{4, 8, 2} {
		if err := topology.EnsureCalls(within(t), js, f.Names, schema.Fabric{Arcs: arcs}); err != nil {
			t.Fatal(err)
		}
		if got, want := len(read(t, js, f.Names).consumers), max(arcs, 4); arcs != 2 && got != want || arcs == 2 && got != 8 {
			t.Errorf("%d consumers for %d arcs", got, arcs)
		}
	}
	err := topology.EnsureCalls(within(t), js, f.Names, schema.Fabric{Arcs: subjects.MaxArcs + 1})
	if !errors.Is(err, &schema.Error{Code: schema.CodeInvalidParameter}) {
		t.Errorf("too many arcs: %v", err)
	}
}

func TestEnsureEndsWithItsContext(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t, natstest.Bare(), natstest.Server(func(o *natstest.ServerOptions) { o.JetStream = false }))
	js, err := jetstream.New(f.Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	cause := errors.New("told to stop")
	ctx, cancel := context.WithTimeoutCause(within(t), 500*time.Millisecond, cause)
	defer cancel()
	err = topology.Ensure(ctx, js, f.Names, schema.DefaultFabric())
	if !errors.Is(err, cause) || !errors.Is(err, nats.ErrNoResponders) || schema.CodeOf(err) != schema.CodeUnavailable {
		t.Errorf("without JetStream, told to stop: %v", err)
	}
}

// The values that are made later, with reservations and accounts, have to be ones that the server takes.
func TestValuesThatEnsureDoesNotMake(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	js := f.JetStream(t)
	for _, c := range []jetstream.StreamConfig{
		topology.CallsR(f.Names, 0, time.Now()), topology.CallsR(f.Names, 63, time.Now()),
		topology.Events(f.Names, "default"), topology.Events(f.Names, "a.b c"),
	} {
		if _, err := js.CreateStream(within(t), c); err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
	}
}

func BenchmarkEnsure(b *testing.B) {
	f := natstest.Start(b, natstest.AllArcs())
	js := f.JetStream(b)
	b.Run("nothing to do", func(b *testing.B) {
		for b.Loop() {
			if err := topology.Ensure(within(b), js, f.Names, schema.DefaultFabric()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("64 arcs", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			for stream := range subjects.UnreservedStreams {
				if err := js.DeleteStream(within(b), f.Names.CallsU(stream)); err != nil {
					b.Fatal(err)
				}
			}
			b.StartTimer()
			if err := topology.EnsureCalls(within(b), js, f.Names, schema.DefaultFabric()); err != nil {
				b.Fatal(err)
			}
		}
	})
}
