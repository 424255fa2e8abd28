package egress

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/hearth-run/hearth/worker/driver"
)

// controlPair is the socket between a worker and its helper.
func controlPair(t *testing.T) (worker, helper *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends []*net.UnixConn
	for _, fd := range fds {
		file := os.NewFile(uintptr(fd), "control")
		c, err := net.FileConn(file)
		_ = file.Close()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		ends = append(ends, c.(*net.UnixConn))
	}
	return ends[0], ends[1]
}

// hear reads one message.
func hear[T any](t *testing.T, from *net.UnixConn) (said T) {
	t.Helper()
	b := make([]byte, maxMessage)
	_ = from.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, err := from.Read(b)
	if err == nil {
		err = json.Unmarshal(b[:n], &said)
	}
	if err != nil {
		t.Fatal(err)
	}
	return said
}

// TestNoDescriptorForADevice: a helper to which the kernel could give no descriptor for a device says so.
func TestNoDescriptorForADevice(t *testing.T) {
	t.Parallel()
	worker, own := controlPair(t)
	h := &helper{control: own, places: map[uint64]*place{}}
	h.obey(order{Attach: &attach{ID: 7}}, nil)
	if r := hear[report](t, worker); r.ID != 7 || !r.End {
		t.Errorf("it says %+v", r)
	}
}

// TestAttachedAgain: an environment whose network a helper had no room for is offered again, and not forgotten.
func TestAttachedAgain(t *testing.T) {
	t.Parallel()
	worker, other := controlPair(t)
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	// Ended already as far as signals go: there is no process.
	h := &process{service: s, control: worker, done: make(chan struct{}), ended: true}
	s.helper = h
	here, there, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	defer there.Close()
	device, err := unix.Dup(int(here.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	a, err := s.Attach(device, os.Getpid(), &driver.Network{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := there.WriteString("a packet"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if o := hear[order](t, other); o.Attach == nil || o.Attach.ID != a.id {
			t.Fatalf("it is told %+v", o)
		}
		s.told(report{ID: a.id, End: true})
	}
	closed := make(chan struct{})
	go func() { // awaited below
		defer close(closed)
		a.Close()
	}()
	<-closed
	close(h.done)
	s.Close()
}

// TestMarkIsNotLost: what a worker could not be told, a mark for instance, it is told when it listens again, and no order waits for that.
//
// Broken to see it fail: what was not written is forgotten.
func TestMarkIsNotLost(t *testing.T) {
	t.Parallel()
	gone, own := controlPair(t)
	h := newHelper(own, Limits{})
	p := &place{id: 7, helper: h}
	h.places[7] = p
	_ = gone.Close()
	for range 100 { // more than any queue would take
		h.obey(order{Mark: 7}, nil)
	}
	h.tellAll(true)
	worker, own := controlPair(t)
	h.control = own
	h.tellAll(false)
	if r := hear[report](t, worker); r.ID != 7 || !r.Mark {
		t.Errorf("it says %+v", r)
	}
	// The same of numbers that change no more.
	p.tally.queries.Add(3)
	_ = worker.Close()
	h.tellAll(false)
	worker, h.control = controlPair(t)
	h.tellAll(false)
	if r := hear[report](t, worker); r.Traffic.Queries != 3 || r.Mark {
		t.Errorf("it says %+v", r)
	}
}

// TestBoundIsTold: to whom an environment is bound, whichever helper has it hears: the one that has it, and the next one.
//
// Broken to see it fail: the next one is not told.
func TestBoundIsTold(t *testing.T) {
	t.Parallel()
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	a := &Attachment{service: s, id: 7}
	worker, other := controlPair(t)
	a.Bind("A") // nobody has it yet
	for _, tenant := range []string{"A", "B"} {
		h := &process{service: s, control: worker, done: make(chan struct{}), ended: true}
		a.has(h)
		if o := hear[order](t, other); o.Bind == nil || *o.Bind != (bind{ID: 7, Tenant: tenant}) {
			t.Fatalf("it is told %+v", o)
		}
		a.Bind("B")
		if o := hear[order](t, other); o.Bind == nil || o.Bind.Tenant != "B" {
			t.Fatalf("it is told %+v", o)
		}
	}
}

// TestBoundPlace: what an environment has of connections, queries and names is its sub-tenant's when it is bound.
//
// Broken to see it fail: one of the three is left.
func TestBoundPlace(t *testing.T) {
	t.Parallel()
	h := newHelper(nil, Limits{})
	who := holder{"x", "f", ""}
	p := &place{id: 7, helper: h, flows: h.flows.share(who), asks: h.asks.share(who), names: names{room: h.names.share(who)}}
	h.places[7] = p
	now := time.Now()
	if !p.flows.take() || !p.asks.take() || !p.names.give("a.example.org", given{until: now.Add(nameLife)}, now) {
		t.Fatal("there is no room")
	}
	h.obey(order{Bind: &bind{ID: 7, Tenant: "A"}}, nil)
	for _, s := range []*shares{h.flows, h.names, h.asks} {
		if f := s.all.below["x"].below["f"]; f.below["A"] == nil || f.below["A"].has != 1 || len(f.below) != 1 {
			t.Errorf("they are %+v", f.below)
		}
	}
	p.names.forget()
	p.flows.give(1)
	p.asks.give(1)
	for _, s := range []*shares{h.flows, h.names, h.asks} {
		if s.all.has != 0 || len(s.all.below) != 0 {
			t.Errorf("nobody has %+v", s.all)
		}
	}
}

// TestQueriesAreShared: a query takes of what all have, and is refused where that is used up.
//
// Broken to see it fail: it takes nothing; it is not given back.
func TestQueriesAreShared(t *testing.T) {
	t.Parallel()
	p, guest := placeOn(t, netip.MustParseAddrPort("127.0.0.1:1"))
	defer p.close()
	block, entered := make(chan struct{}), make(chan struct{}, 1)
	p.rules = rules{} // every name is asked for
	p.dns.lookup = func(context.Context, string) ([]netip.Addr, error) {
		entered <- struct{}{}
		<-block
		return nil, errNoAnswer
	}
	ask := func() {
		t.Helper()
		if _, err := guest.Write(datagram(netip.AddrPortFrom(Gateway, 53), query(t, "x.example.org.", dnsmessage.TypeA))); err != nil {
			t.Fatal(err)
		}
	}
	ask()
	<-entered
	if _, all := p.asks.taken(); all != 1 {
		t.Errorf("%d are asking", all)
	}
	held := []*share{}
	for i := range 2 * allQueries { // others, until this one's share is used up
		one := p.helper.asks.share(holder{function: "f", tenant: fmt.Sprint("t", i)})
		one.take()
		held = append(held, one)
	}
	ask()
	for p.tally.queries.Load() < 2 || !refusedRates(p) {
		if p.life.Err() != nil {
			t.Fatal("closed")
		}
		runtime.Gosched()
	}
	close(block)
	for len(p.asking) > 0 {
		runtime.Gosched()
	}
	for _, one := range held {
		one.give(one.own)
	}
	if _, all := p.asks.taken(); all != 0 {
		t.Errorf("%d are asking", all)
	}
}

func refusedRates(p *place) bool {
	p.tally.mu.Lock()
	defer p.tally.mu.Unlock()
	return p.tally.refused[driver.RefusedRate] > 0
}
