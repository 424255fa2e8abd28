package worker_test

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/lifecycle"
	"github.com/hearth-run/hearth/internal/lifecycle/lifecycletest"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker"
)

// port is a fabric with a shipper that has started.
type port struct {
	*natstest.Fabric
	t       *testing.T
	shipper *worker.Shipper
}

func shipping(t *testing.T, change ...func(*worker.ShipperConfig)) *port {
	t.Helper()
	p := &port{Fabric: natstest.Start(t), t: t}
	cfg := worker.ShipperConfig{Manager: "m1", Names: p.Names, Every: time.Millisecond}
	for _, f := range change {
		f(&cfg)
	}
	s, err := worker.NewShipper(p.Connect(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.shipper = s
	t.Cleanup(p.stop)
	return p
}

func (p *port) stop() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := p.shipper.Stop(ctx); err != nil {
		p.t.Error(err)
	}
}

func (p *port) sink(function, environment string) worker.Sink {
	return p.shipper.Open(worker.Source{Account: "default", Function: function, Version: "1", Environment: environment})
}

// stored are the batches of a function, in the order of the stream.
func (p *port) stored(function string) []schema.LogLines {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	c, err := p.JetStream(p.t).OrderedConsumer(ctx, p.Names.Stream(topology.Logs), jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{p.Names.LogsOf("default", function, "", "")},
	})
	if err != nil {
		p.t.Fatal(err)
	}
	info, err := c.Info(ctx)
	if err != nil {
		p.t.Fatal(err)
	}
	var all []schema.LogLines
	for range info.NumPending {
		m, err := c.Next(jetstream.FetchMaxWait(patience))
		if err != nil {
			p.t.Fatal(err)
		}
		if len(m.Data()) > 600<<10 {
			p.t.Errorf("a message of %d bytes", len(m.Data()))
		}
		var l schema.LogLines
		if err := schema.Unmarshal(m.Data(), &l); err != nil {
			p.t.Fatal(err)
		}
		all = append(all, l)
	}
	return all
}

func line(text string) schema.LogLine {
	return schema.LogLine{Time: time.Now(), Text: []byte(text), RequestID: "r"}
}

func TestShipperKeepsOrderAndFunctionsApart(t *testing.T) {
	t.Parallel()
	p := shipping(t)
	var wg conc.WaitGroup
	for _, function := range []string{"a", "b"} {
		for e := range 4 {
			wg.Go(func() {
				id := fmt.Sprint(function, e)
				sink := p.sink(function, id)
				for i := range 2000 {
					sink.Line(line(fmt.Sprint(id, " ", i)))
				}
			})
		}
	}
	wg.Wait()
	p.stop()
	for _, function := range []string{"a", "b"} {
		next := map[string]int{}
		for _, batch := range p.stored(function) {
			if batch.Manager != "m1" || !strings.HasPrefix(batch.Environment, function) {
				t.Fatalf("batch of %s of %s among those of %s", batch.Environment, batch.Manager, function)
			}
			for _, l := range batch.Lines {
				want := fmt.Sprint(batch.Environment, " ", next[batch.Environment])
				if string(l.Text) != want || l.RequestID != "r" {
					t.Fatalf("line %q, want %q", l.Text, want)
				}
				next[batch.Environment]++
			}
		}
		for e := range 4 {
			if n := next[fmt.Sprint(function, e)]; n != 2000 {
				t.Errorf("%d lines of %s%d, want 2000", n, function, e)
			}
		}
	}
	if s := p.shipper.Shipped(); s.Lines != 16000 || s.Dropped != 0 || s.Waiting != 0 || s.Batches > 8000 {
		t.Errorf("%+v", s)
	}
}

// TestShipperWithoutAServer keeps what it may, says what it dropped, and one environment leaves room for others.
func TestShipperWithoutAServer(t *testing.T) {
	t.Parallel()
	const bound = 1 << 20
	p := shipping(t, func(c *worker.ShipperConfig) { c.Bytes = bound })
	flood, other := p.sink("flood", "e1"), p.sink("other", "e2")
	other.Line(line("before"))
	natstest.Eventually(t, patience, func() bool { return p.shipper.Shipped().Lines == 1 }, "the first line is stored")
	p.Stop()
	text := strings.Repeat("f", 1000)
	for range 5000 {
		flood.Line(line(text))
	}
	other.Line(line("meanwhile"))
	if s := p.shipper.Shipped(); s.Waiting > bound || s.Dropped < 4000 {
		t.Errorf("%+v, bound %d", s, bound)
	}
	p.Restart(t)
	natstest.Eventually(t, patience, func() bool { return p.shipper.Shipped().Waiting == 0 }, "everything is stored")
	flood.Line(line("after"))
	p.stop()
	var got []string
	for _, batch := range p.stored("other") {
		for _, l := range batch.Lines {
			got = append(got, string(l.Text))
		}
	}
	if fmt.Sprint(got) != "[before meanwhile]" {
		t.Errorf("lines of the other: %q", got)
	}
	kept, dropped, size, last := 0, 0, 0, ""
	for _, batch := range p.stored("flood") {
		for _, l := range batch.Lines {
			last = string(l.Text)
			switch {
			case l.Platform: // one for each time that lines were kept again
				var n, b int
				if _, err := fmt.Sscanf(string(l.Text), "%d lines, %d bytes of output, were dropped", &n, &b); err != nil {
					t.Errorf("a note says %q: %v", l.Text, err)
				}
				dropped, size = dropped+n, size+b
			case bytes.Equal(l.Text, []byte(text)):
				kept++
			}
		}
	}
	if want := 5000 - kept; kept == 0 || dropped != want || size != want*1000 || last != "after" {
		t.Errorf("%d lines kept, notes tell of %d lines and %d bytes, want %d; the last line is %q", kept, dropped, size, want, last)
	}
}

// TestShipperStopsInTime gives up what it cannot send.
func TestShipperStopsInTime(t *testing.T) {
	t.Parallel()
	p := &port{Fabric: natstest.Start(t), t: t}
	s, err := worker.NewShipper(p.Connect(t), worker.ShipperConfig{Manager: "m1", Names: p.Names})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.Stop()
	s.Open(worker.Source{Account: "default", Function: "f", Version: "1", Environment: "e"}).Line(line("x"))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Stop(ctx); err == nil || !strings.Contains(err.Error(), "were not stored") {
		t.Errorf("stopped with %v", err)
	}
}

func TestShipperLifecycle(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	nc := f.Connect(t)
	lifecycletest.Exercise(t, func(t *testing.T) lifecycle.Component {
		s, err := worker.NewShipper(nc, worker.ShipperConfig{Manager: "m1", Names: f.Names})
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

// TestShippedLongLines: messages stay below what servers take, and no line is lost.
func TestShippedLongLines(t *testing.T) {
	t.Parallel()
	p := shipping(t)
	sink := p.sink("f", "e1")
	for i := range 3 {
		sink.Line(line(strings.Repeat(fmt.Sprint(i), worker.MaxLine)))
	}
	p.stop()
	n := 0
	for _, batch := range p.stored("f") {
		for _, l := range batch.Lines {
			if len(l.Text) != worker.MaxLine {
				t.Errorf("line of %d bytes", len(l.Text))
			}
			n++
		}
	}
	if n != 3 {
		t.Errorf("%d lines, want 3", n)
	}
}

// TestShipperWithoutTakers: lines that nobody takes, as of a worker whose manager has stopped or does not know yet what it runs, do not
// keep Stop.
//
// Broken to see it fail: a shipper that tries on until its context ends; one that drops them.
// A server that is away is not waited for until the end of all time.
func TestShipperStopsWithoutAServer(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	nc := f.Connect(t)
	s, err := worker.NewShipper(nc, worker.ShipperConfig{Manager: "m1", Names: f.Names})
	if err == nil {
		err = s.Start(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	f.Stop()
	natstest.Eventually(t, patience, func() bool { return !nc.IsConnected() }, "the server is away")
	s.Open(worker.Source{Account: "default", Function: "f", Version: "1", Environment: "e"}).Line(line("x"))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.Stop(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("stopped: %v; want what was left, before the wait's end", err)
	}
}

func TestShipperWithoutTakers(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	for _, why := range []error{nats.ErrNoResponders, worker.ErrLinesLater} {
		t.Run(why.Error(), func(t *testing.T) {
			t.Parallel()
			s, err := worker.NewShipper(f.Connect(t), worker.ShipperConfig{
				Manager: "m1", Names: f.Names, Every: time.Millisecond,
				Store: func(context.Context, string, []byte) error { return fmt.Errorf("ask: %w", why) },
			})
			if err == nil {
				err = s.Start(t.Context())
			}
			if err != nil {
				t.Fatal(err)
			}
			s.Open(worker.Source{Account: "default", Function: "f", Version: "1", Environment: "e"}).Line(schema.LogLine{Text: []byte("x")})
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := s.Stop(ctx); err == nil || ctx.Err() != nil {
				t.Errorf("stopped: %v; want what was left, at once", err)
			}
		})
	}
}

// TestShipperDropsWhatIsRefused: lines that nobody ever takes are counted, and hold up no others and no end.
//
// Broken to see it fail: a refusal is an error as any other.
func TestShipperDropsWhatIsRefused(t *testing.T) {
	t.Parallel()
	var taken atomic.Int64
	p := shipping(t, func(cfg *worker.ShipperConfig) {
		refused := cfg.Names.Log("default", "refused", "1", "")
		cfg.Store = func(_ context.Context, subject string, _ []byte) error {
			if subject == refused {
				return fmt.Errorf("%w: by the manager", worker.ErrLinesRefused)
			}
			taken.Add(1)
			return nil
		}
	})
	p.sink("refused", "e1").Line(schema.LogLine{Text: []byte("x")})
	p.sink("f", "e2").Line(schema.LogLine{Text: []byte("y")})
	for deadline := time.Now().Add(patience); ; runtime.Gosched() {
		s := p.shipper.Shipped()
		if taken.Load() == 1 && s.Dropped == 1 && s.Lines == 1 && s.Waiting == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d taken, %+v", taken.Load(), s)
		}
	}
}
