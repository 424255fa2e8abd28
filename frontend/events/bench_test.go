package events_test

import (
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/subjects"
)

// backlog hands n events of a function in.
func (b *bundle) backlog(t testing.TB, subject string, n int) {
	t.Helper()
	for range n {
		if _, err := b.js.PublishAsync(subject, []byte(`{}`), jetstream.WithStallWait(patience)); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-b.js.PublishAsyncComplete():
	case <-time.After(patience):
		t.Fatal("the events are not accepted")
	}
}

// BenchmarkDrain is how long an event of a backlog takes, and what a hand-written loop over a queue of the same kind takes that
// asks a responder for each.
func BenchmarkDrain(b *testing.B) {
	const n = 10_000
	f := setupWith(b, 256, nil)
	run := func(b *testing.B, subject string, done func() uint64) {
		var cpu time.Duration
		for b.Loop() {
			b.StopTimer()
			want := done() + n
			f.backlog(b, subject, n)
			before := processor(b)
			b.StartTimer()
			natstest.Eventually(b, 4*patience, func() bool { return done() >= want }, "all events are done")
			cpu += processor(b) - before
		}
		b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
		b.ReportMetric(float64(cpu.Microseconds())/float64(n)/float64(b.N), "cpu-us/event")
	}
	b.Run("events", func(b *testing.B) {
		run(b, f.Names.Event(subjects.DefaultAccount, "f", ""), func() uint64 { return f.f.Events().Done })
	})
	b.Run("plain", func(b *testing.B) { run(b, "plain", f.plain(b).Load) })
}

// processor is what this process has used of the processors so far: on a machine that others use too it says more than time.
func processor(t testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// plain is a file queue with one consumer and a loop that acknowledges what it has "run": it asks a responder.
func (b *bundle) plain(t testing.TB) *atomic.Uint64 {
	t.Helper()
	s, err := b.js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{
		Name: "PLAIN", Subjects: []string{"plain"}, Retention: jetstream.WorkQueuePolicy, Storage: jetstream.FileStorage,
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.CreateOrUpdateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "p", AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		t.Fatal(err)
	}
	worker, err := b.connect(t).Subscribe("plain.function", func(m *nats.Msg) { _ = m.Respond(m.Data) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = worker.Unsubscribe() })
	caller := b.connect(t)
	done := new(atomic.Uint64)
	work := make(chan jetstream.Msg, 256)
	for range 128 {
		go func() {
			for m := range work {
				if _, err := caller.Request("plain.function", m.Data(), patience); err == nil {
					_ = m.Ack()
					done.Add(1)
				}
			}
		}()
	}
	consuming, err := c.Consume(func(m jetstream.Msg) { work <- m }, jetstream.PullMaxMessages(256))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { consuming.Stop(); <-consuming.Closed(); close(work) })
	return done
}

// BenchmarkHandIn is how long an event takes from being handed in until it is done, on an idle fabric.
func BenchmarkHandIn(b *testing.B) {
	f := setupWith(b, 16, nil)
	nc := f.connect(b)
	run := func(b *testing.B, subject string, done func() uint64) {
		for b.Loop() {
			want := done() + 1
			if _, err := nc.Request(subject, []byte(`{}`), patience); err != nil {
				b.Fatal(err)
			}
			for done() < want {
				runtime.Gosched()
			}
		}
	}
	b.Run("events", func(b *testing.B) {
		run(b, f.Names.Event(subjects.DefaultAccount, "f", ""), func() uint64 { return f.f.Events().Done })
	})
	b.Run("plain", func(b *testing.B) { run(b, "plain", f.plain(b).Load) })
}
