package fleet_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/internal/link"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// taken is a worker that was taken over: it has its credential and its session, and says what it likes.
type taken struct {
	b       *bench
	nc      *nats.Conn
	id      string
	seq     uint64 // of its lease
	session string
	link    *link.Link
	orders  chan schema.WorkerOrder
}

// takeOver makes such a worker, with a lease and a session in order.
func (b *bench) takeOver(id string, capacity int) *taken {
	b.t.Helper()
	k := &taken{b: b, nc: b.tcp(id), id: id, orders: make(chan schema.WorkerOrder, 64)}
	opened, linked := make(chan string, 16), make(chan struct{})
	for subject, handle := range map[string]nats.MsgHandler{
		b.fabric.Names.WorkerOpen(id): func(m *nats.Msg) {
			var o schema.WorkerOpen
			if err := schema.Unmarshal(m.Data, &o); err == nil {
				opened <- o.Session
			}
		},
		b.fabric.Names.WorkerLink(id): func(m *nats.Msg) {
			select { // the manager speaks as soon as it has opened the session
			case <-linked:
			case <-b.t.Context().Done():
				return
			}
			body, err := k.link.Receive(m.Data)
			var o schema.WorkerOrder
			if err == nil && body != nil && schema.Unmarshal(body, &o) == nil {
				k.orders <- o
			}
		},
	} {
		if _, err := k.nc.Subscribe(subject, handle); err != nil {
			b.t.Fatal(err)
		}
	}
	k.lease(capacity)
	k.say(subjects.ManagerHello("m1", id), schema.WorkerHello{V: schema.Version, Worker: id, Incarnation: "mine"})
	select {
	case k.session = <-opened:
	case <-time.After(patience):
		b.t.Fatal("no session")
	}
	k.link = link.New(k.session, func(f []byte) error { return k.nc.Publish(subjects.ManagerLink("m1", k.id, k.session), f) })
	close(linked)
	return k
}

func (k *taken) lease(capacity int) uint64 {
	k.b.t.Helper()
	b, err := schema.Marshal(schema.WorkerRecord{V: schema.Version, ID: k.id, Manager: "m1", Incarnation: "mine", State: schema.MemberActive, Capacity: capacity, Tenants: true})
	if err != nil {
		k.b.t.Fatal(err)
	}
	k.seq = k.stored(subjects.ManagerLease("m1", k.id), schema.WorkerLease{V: schema.Version, Record: b, Last: k.seq})
	return k.seq
}

// stored has the manager store something and gives its sequence.
func (k *taken) stored(subject string, v any) uint64 {
	k.b.t.Helper()
	b, err := schema.Marshal(v)
	if err != nil {
		k.b.t.Fatal(err)
	}
	var m *nats.Msg
	natstest.Eventually(k.b.t, patience, func() bool { // the manager may not be listening yet
		m, err = k.nc.Request(subject, b, patience)
		return !errors.Is(err, nats.ErrNoResponders)
	}, "nobody answers at "+subject)
	var ack jetstream.PubAck
	if err == nil {
		err = json.Unmarshal(m.Data, &ack)
	}
	if err != nil || ack.Sequence == 0 {
		k.b.t.Fatalf("%s: %v", subject, err)
	}
	return ack.Sequence
}

func (k *taken) say(subject string, v any) {
	k.b.t.Helper()
	b, err := schema.Marshal(v)
	if err != nil {
		k.b.t.Fatal(err)
	}
	if err := k.nc.Publish(subject, b); err != nil {
		k.b.t.Fatal(err)
	}
}

// report says something in the session.
func (k *taken) report(r schema.WorkerReport) {
	k.b.t.Helper()
	r.V = schema.Version
	b, err := schema.Marshal(r)
	if err != nil {
		k.b.t.Fatal(err)
	}
	if err := k.link.Send(b); err != nil {
		k.b.t.Fatal(err)
	}
}

func (k *taken) event(id string, kind schema.EnvironmentEventKind, init time.Duration) schema.WorkerReport {
	return schema.WorkerReport{Event: &schema.WorkerEvent{Environment: id, Kind: kind, Init: init}}
}

// refused waits until the manager has refused n things more than at first.
func (k *taken) refused(what string, act func()) {
	k.b.t.Helper()
	was := k.b.fleet.Counters().Refused
	act()
	k.b.await(what+" is refused", func() bool { return k.b.fleet.Counters().Refused > was })
}

// TestTakenOver: a worker that was taken over speaks for its own environments and for nothing else (SECURITY 1, K).
//
// Broken to see it fail: an event finds its environment among all of the fleet: that of another worker goes.
func TestTakenOver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	honest := b.worker("w1", b.tcp("w1"), places(2))
	b.awaitPlaces(2)
	g := newGate()
	calls := b.holding(honest, g, "theirs")
	payload := bytes.Repeat([]byte("s"), schema.MaxCarried+1)
	b.made("secret")
	secret := b.call("secret", payload)
	b.fleet.Start(secret.Run)
	g.wait(t, 1)

	k := b.takeOver("k", 4)
	_ = k.link.Beat()
	b.awaitPlaces(6)
	b.fleet.Make("own", binding(), b.notify)
	if o := <-k.orders; o.Make == nil || o.Make.Environment != "own" {
		t.Fatalf("%+v", o)
	}
	for _, bad := range []schema.WorkerReport{
		k.event("theirs", schema.EnvironmentGone, 0), k.event("theirs", schema.EnvironmentParked, 0), k.event("nobody's", schema.EnvironmentFailed, 0),
		k.event("own", 0, 0), k.event("own", 9, 0), k.event("own", schema.EnvironmentParked, -1), k.event("own", schema.EnvironmentParked, 1<<62),
		{Ended: &schema.WorkerEnded{Run: 1, Reusable: true}}, {Ended: &schema.WorkerEnded{Run: 1 << 63}},
	} {
		k.refused(fmt.Sprintf("%+v", bad), func() { k.report(bad) })
	}
	k.refused("a frame of nothing", func() {
		_ = k.nc.Publish(subjects.ManagerLink("m1", k.id, k.session), []byte{0xdd, 0xff, 0xff, 0xff, 0xff})
	})
	k.refused("a report of nothing", func() { _ = k.link.Send([]byte{0xdd, 0xff, 0xff, 0xff, 0xff}) })
	k.refused("a hello of nothing", func() { _ = k.nc.Publish(subjects.ManagerHello("m1", "k"), []byte{0xc1}) })
	k.refused("a hello for another", func() {
		k.say(subjects.ManagerHello("m1", "k"), schema.WorkerHello{V: schema.Version, Worker: "w1", Incarnation: "mine"})
	})
	k.refused("a question for a payload, answered elsewhere", func() {
		_ = k.nc.PublishRequest(subjects.ManagerPayload("m1", k.id, k.session), "$KV.HEARTH_functions.x", []byte("1"))
	})
	for _, number := range []string{"1", "2", "ffffffffffffffff"} {
		m, err := k.nc.Request(subjects.ManagerPayload("m1", k.id, k.session), []byte(number), patience)
		if err != nil || len(m.Data) != 0 {
			t.Errorf("the payload of run %s of another: %d bytes, %v", number, len(m.Data), err)
		}
	}
	if evs := b.eventsOf("theirs"); len(evs) != 1 {
		t.Errorf("an honest worker's environment: %+v", evs)
	}

	// Its own environment: parked twice is nothing, gone under its call loses that call alone.
	k.report(k.event("own", schema.EnvironmentParked, 1))
	b.awaitEvent("own", 1, schema.EnvironmentParked)
	own := b.call("own", []byte("x"))
	b.fleet.Start(own.Run)
	if o := <-k.orders; o.Start == nil || o.Start.Run != 1 {
		t.Fatalf("%+v", o)
	}
	k.refused("parked under a call", func() { k.report(k.event("own", schema.EnvironmentParked, 0)) })
	k.report(k.event("own", schema.EnvironmentGone, 0))
	b.lost(own)
	b.awaitEvent("own", 2, schema.EnvironmentGone)
	close(g.open)
	for _, c := range append(calls, secret) {
		if m, end := b.answered(c); !end.Reusable || m.Header.Get(schema.HeaderFunctionError) != "" {
			t.Errorf("an honest worker's call: %q", m.Data[:min(len(m.Data), 99)])
		}
	}
}

// TestCapacityClaimed: what no worker can have is refused at the door.
func TestCapacityClaimed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	k := &taken{b: b, nc: b.tcp("k"), id: "k"}
	for _, capacity := range []int{-1, 0, schema.MaxWorkerPlaces + 1, 1 << 60} {
		k.lease(capacity)
		k.refused(fmt.Sprint(capacity, " places"), func() {
			k.say(subjects.ManagerHello("m1", "k"), schema.WorkerHello{V: schema.Version, Worker: "k", Incarnation: "mine"})
		})
	}
	if b.places() != 0 || b.fleet.Counters().Opened != 0 {
		t.Errorf("%d places", b.places())
	}
}
