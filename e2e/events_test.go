package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/e2e/fabric"
	"github.com/hearth-run/hearth/schema"
)

// TestServerKilledUnderEvents is S53: what was accepted is processed, however often the server is killed.
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

// TestTriesOfEvents is S55.
func TestTriesOfEvents(t *testing.T) {
	t.Parallel()
	t.Run("S55", func(t *testing.T) {
		f := fabric.StartSpread(t, fabric.SpreadOptions{Managers: 1, Capacity: 2})
		f.DeployFn("fn", "--timeout", "60s", "--retry-delay", "1s")
		f.DeployFn("impatient", "--retry-delay", "1s", "--max-age", "1m")
		l := newLedger(t, &f.Door, newRecord(t))
		file := filepath.Join(reachable(t), "there")

		// While all places are held, an event is refused and backs off; that costs none of its tries.
		g := newGate(t)
		holders := l.beginAll(t, 2, "fn", g.words())
		g.wait(t, len(holders))
		tag := l.mustPublish(t, "fn", "needs "+file)
		admin := f.Admin()
		eventually(t, "the event backs off", func() bool {
			e := listEvents(t, admin, "fn")
			return e.Retrying == 1 && len(e.Events) == 1 && e.Events[0].Attempts == 0 && e.Events[0].LastError != nil &&
				e.Events[0].LastError.Status == 429
		})
		old := ""
		if os.Getenv("HEARTH_LONG") != "" {
			old = l.mustPublish(t, "impatient", "")
			eventuallyWithin(t, 2*time.Minute, "an event grows too old", func() bool { return len(deadLetters(t, l)) == 1 })
			if d := deadLetters(t, l)[0]; d.Reason != schema.DeadEventAge || d.Event.Attempts != 0 {
				t.Errorf("too old: %s after %d tries", d.Reason, d.Event.Attempts)
			}
			f.MustCLI("deadletters", "rm", "--function", "impatient", "--yes")
		}
		g.open()

		// It fails, and gets exactly two more tries.
		// The back-off may have grown to half a minute and more meanwhile.
		eventuallyWithin(t, 2*time.Minute, "a dead letter", func() bool { return len(deadLetters(t, l)) == 1 })
		drained(t, l)
		var letter struct {
			ID, Reason string
			Attempts   int
			Payload    string
			Error      struct{ Code string }
		}
		out := f.MustCLI("deadletters", "ls", "fn", "--json")
		if err := json.Unmarshal([]byte(out), &letter); err != nil {
			t.Fatalf("deadletters ls --json: %v\n%s", err, out)
		}
		if runs := l.runs(t)[tag]; len(runs) != 3 || runs[0] != runs[1] || runs[1] != runs[2] {
			t.Errorf("it ran under the request ids %v, want one of them three times", runs)
		}
		if letter.Reason != "RetriesExhausted" || letter.Attempts != 3 || letter.Error.Code != "Fn.Needs" ||
			strconv.Quote(letter.Payload) != l.payload(tag, "needs "+file) {
			t.Errorf("the dead letter says %+v", letter)
		}

		// What it lacked is there now, and it is run again.
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		f.MustCLI("deadletters", "redrive", letter.ID)
		eventually(t, "it ran once more", func() bool { return len(l.runs(t)[tag]) == 4 })
		drained(t, l)
		if dead := deadLetters(t, l); len(dead) > 0 {
			t.Errorf("dead after the redrive: %+v", dead)
		}
		if n := len(l.runs(t)[old]); n > 0 {
			t.Errorf("the event that had grown too old ran %d times", n)
		}
		quiet(t, f)
	})
}

// mustPublish hands in one event and gives its tag.
func (l *ledger) mustPublish(t testing.TB, function, words string) (tag string) {
	t.Helper()
	tag = l.tag("e")
	m := message("hearth.event.default.", function)
	m.Data = []byte(l.payload(tag, words))
	a, err := l.nc.RequestMsgWithContext(withDeadline(t), m)
	if err != nil || !strings.Contains(string(a.Data), `"stream"`) {
		t.Fatalf("hand in an event: %v, %v", a, err)
	}
	return tag
}

// listEvents is what `hearth events` tells of a function.
func listEvents(t testing.TB, admin *client.Client, function string) (out schema.EventsOutput) {
	t.Helper()
	if err := admin.Do(withDeadline(t), "ListEvents", schema.EventsInput{FunctionName: function}, &out); err != nil {
		t.Fatal(err)
	}
	return out
}
