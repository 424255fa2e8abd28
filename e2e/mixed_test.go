package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/sourcegraph/conc/pool"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/e2e/fabric"
	"github.com/hearth-run/hearth/schema"
)

// TestMixed is S07: whatever calls and events do, and whether their callers stay or go, nothing of them is left, and the story of each
// is told whole. The full number runs where HEARTH_LONG is set.
func TestMixed(t *testing.T) {
	t.Parallel()
	t.Run("S07", func(t *testing.T) {
		calls := 500
		if os.Getenv("HEARTH_LONG") != "" {
			calls = 10_000
		}
		f := fabric.StartSpread(t, fabric.SpreadOptions{Managers: 3, Frontends: 2, Capacity: 24})
		f.DeployFn("fn", "--timeout", "3s", "--retry-delay", "1s") // a good call never takes so long
		c := f.Anonymous()
		l := newLedger(t, &f.Door, newRecord(t))
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		random := rand.New(rand.NewPCG(seed, 7))
		var s stories
		crew := pool.New().WithMaxGoroutines(12).WithErrors()
		for range calls {
			kind, async := random.IntN(200), random.IntN(4) == 0
			crew.Go(func() error {
				if async {
					return mixedEvent(l, &s, kind)
				}
				return mixedCall(c, &s, kind)
			})
		}
		if err := crew.Wait(); err != nil {
			t.Error(err)
		}
		drained(t, l)
		quiet(t, f)
		nobodyCalls(t, f)
		l.settle(t)
		failing, dead := 0, deadLetters(t, l)
		for _, words := range l.events {
			if words != "" && words != "nap 5" {
				failing++
			}
		}
		for _, d := range dead {
			if d.Reason != schema.DeadRetriesExhausted || d.Event.Attempts != 3 {
				t.Errorf("%s is dead: %s after %d tries", d.Event.Payload, d.Reason, d.Event.Attempts)
			}
		}
		// Of events whose publisher did not wait for the acceptance nobody can tell whether they were accepted; they do not fail.
		if len(dead) != failing {
			t.Errorf("%d events that fail always were accepted, %d are dead", failing, len(dead))
		}
		s.check(t, &f.Door)
	})
}

// mixedEvent is [mixedCall] as an event: one that is done, fails, crashes or hangs in each of its tries, or whose publisher
// does not wait.
func mixedEvent(l *ledger, s *stories, kind int) error {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	words, ends := "nap 5", told{status: schema.StoryError}
	switch {
	case kind == 0:
		words, ends.status = "hang", schema.StoryTimeout
	case kind < 3:
		words = "exit 1"
	case kind < 20:
		words = "error"
	case kind < 30:
		gone, leave := context.WithTimeout(ctx, time.Millisecond)
		defer leave()
		l.publish(gone, "fn", words)
		return nil
	case kind < 100:
		words, ends.status = "", schema.StoryOK
	default:
		ends.status = schema.StoryOK
	}
	if !l.publishAs(ctx, "fn", words, s.draw(ends)) {
		return fmt.Errorf("an event (%s) was not accepted", words)
	}
	return nil
}

// mixedCall is a success, an error, a crash, a time-out, or a caller who does not wait, by kind of 0 to 199.
func mixedCall(c *client.Client, s *stories, kind int) error {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	payload, failure := `"fine"`, ""
	switch {
	case kind == 0:
		payload, failure = `"hang"`, "Sandbox.Timedout"
	case kind < 3:
		payload, failure = `"exit 1"`, "Runtime.ExitError"
	case kind < 20:
		payload, failure = `"error"`, "Fn.Asked"
	case kind < 30:
		gone, leave := context.WithTimeout(ctx, time.Millisecond)
		defer leave()
		_, _ = c.Invoke(gone, client.Call{Function: "fn", Payload: []byte(payload)})
		return nil
	}
	ends := told{schema.StoryOK, 1}
	switch failure {
	case "":
	case string(schema.CodeTimedOut):
		ends.status = schema.StoryTimeout
	default:
		ends.status = schema.StoryError
	}
	a, err := c.Invoke(ctx, client.Call{Function: "fn", Payload: []byte(payload), RequestID: s.draw(ends)})
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", payload, err)
	case failure == "" && string(a.Payload) != payload:
		return fmt.Errorf("%s: answered %s", payload, a.Payload)
	case failure != "" && (a.FunctionError == nil || a.FunctionError.Type != failure):
		return fmt.Errorf("%s: answered %s, want %s", payload, a.Payload, failure)
	}
	return nil
}

// nobodyCalls waits until every frontend tells that no call is in flight: C = 0.
func nobodyCalls(t testing.TB, f *fabric.Spread) {
	t.Helper()
	nc := f.Server.Connect()
	heard := make(chan *nats.Msg, 64)
	if _, err := nc.ChanSubscribe("hearth.status.frontend.>", heard); err != nil {
		t.Fatal(err)
	}
	ctx := withDeadline(t)
	idle := map[string]bool{}
	for len(idle) < len(f.Frontends) {
		select {
		case m := <-heard:
			var status schema.FrontendStatus
			if err := schema.Unmarshal(m.Data, &status); err != nil {
				t.Fatal(err)
			}
			if len(status.InFlight) == 0 {
				idle[status.ID] = true
			} else {
				delete(idle, status.ID)
			}
		case <-ctx.Done():
			t.Errorf("frontends without calls in flight: %v", idle)
			return
		}
	}
}
