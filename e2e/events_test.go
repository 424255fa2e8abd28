package e2e_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/e2e/fabric"
	"github.com/hearth-run/hearth/schema"
)

// TestServerKilledUnderEvents is S53: what was accepted is processed, however often the server is killed.
//
// Broken to see it fail: events acknowledged when they are claimed ([events.Events]).
func TestServerKilledUnderEvents(t *testing.T) {
	t.Parallel()
	t.Run("S53", func(t *testing.T) {
		kills := 2
		if os.Getenv("HEARTH_LONG") != "" {
			kills = 10
		}
		f := fabric.StartSpread(t, fabric.SpreadOptions{Capacity: 8})
		f.DeployFn("fn")
		l := newLedger(t, &f.Door, newRecord(t))
		work := loaded(4, func(ctx context.Context) { l.handIn(ctx, "fn", "nap 3") })
		defer work.stop()
		for range kills {
			l.accepts(t, 200)
			f.Server.Kill()
			f.Server.Start()
		}
		l.accepts(t, 50)
		work.stop()
		drained(t, l)
		quiet(t, f)
		if dead := deadLetters(t, l); len(dead) > 0 {
			t.Errorf("%d dead letters: %+v", len(dead), dead[0])
		}
		l.settle(t)
	})
}

// handIn is [ledger.publish] for loads, at a pace at which a small fabric keeps up.
func (l *ledger) handIn(ctx context.Context, function, words string) {
	within, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	l.publish(within, function, words)
	select {
	case <-ctx.Done():
	case <-time.After(20 * time.Millisecond):
	}
}

// accepts waits until so many more events are accepted.
func (l *ledger) accepts(t testing.TB, n int) {
	t.Helper()
	accepted := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.events)
	}
	until := accepted() + n
	eventually(t, "more events are accepted", func() bool { return accepted() >= until })
}

// eventStreams are where events are until they are done.
var eventStreams = []string{"HEARTH_EVENTS_default", "HEARTH_RETRIES"}

// drained waits until no event waits, runs, or waits for its next try: no message is left on the streams of events.
func drained(t testing.TB, l *ledger) {
	t.Helper()
	js := l.jetStream(t)
	late := time.NewTimer(2 * deadline)
	defer late.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		left := uint64(0)
		for _, name := range eventStreams {
			s, err := js.Stream(withDeadline(t), name)
			if err != nil {
				t.Fatalf("look at %s: %v", name, err)
			}
			left += s.CachedInfo().State.Msgs
		}
		if left == 0 {
			return
		}
		select {
		case <-late.C:
			t.Fatalf("events are left:\n%s", leftOn(t, js))
		case <-tick.C:
		}
	}
}

// leftOn tells what the streams of events and their consumers hold.
func leftOn(t testing.TB, js jetstream.JetStream) string {
	var b strings.Builder
	ctx := withDeadline(t)
	for _, name := range eventStreams {
		s, err := js.Stream(ctx, name)
		if err != nil {
			return err.Error()
		}
		info, err := s.Info(ctx, jetstream.WithSubjectFilter(">"))
		if err != nil {
			return err.Error()
		}
		fmt.Fprintf(&b, "%s: messages %d to %d: %v\n", name, info.State.FirstSeq, info.State.LastSeq, info.State.Subjects)
		for c := range s.ListConsumers(ctx).Info() {
			fmt.Fprintf(&b, "  %s: pending %d, claimed %d, delivered %d, acknowledged up to %d, pulls %d, redelivered %d\n", c.Name,
				c.NumPending, c.NumAckPending, c.Delivered.Stream, c.AckFloor.Stream, c.NumWaiting, c.NumRedelivered)
		}
		for seq := info.State.FirstSeq; info.State.Msgs > 0 && seq <= min(info.State.LastSeq, info.State.FirstSeq+5); seq++ {
			if m, err := s.GetMsg(ctx, seq); err == nil {
				fmt.Fprintf(&b, "  %d on %s, %v: %v\n", seq, m.Subject, m.Time.UTC(), m.Header)
			}
		}
	}
	return b.String()
}

func (l *ledger) jetStream(t testing.TB) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(l.nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// deadLetters are all that there are.
func deadLetters(t testing.TB, l *ledger) (all []schema.DeadLetter) {
	t.Helper()
	ctx := withDeadline(t)
	s, err := l.jetStream(t).Stream(ctx, "HEARTH_DEADLETTERS")
	if err != nil {
		t.Fatal(err)
	}
	state := s.CachedInfo().State
	for seq := state.FirstSeq; state.Msgs > 0 && seq <= state.LastSeq; seq++ {
		m, err := s.GetMsg(ctx, seq)
		if err != nil {
			continue // removed
		}
		var d schema.DeadLetter
		if err := schema.Unmarshal(m.Data, &d); err != nil {
			t.Fatalf("dead letter %d: %v", seq, err)
		}
		all = append(all, d)
	}
	return all
}
