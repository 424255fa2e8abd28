package events_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// waiting waits for the one event that waits on RETRIES, and gives it with the moment at which it is due.
func (b *bundle) waiting(t testing.TB, function string) (e schema.Event, sequence uint64, due time.Time) {
	t.Helper()
	s, err := b.js.Stream(t.Context(), b.retries())
	if err != nil {
		t.Fatal(err)
	}
	var m *jetstream.RawStreamMsg
	natstest.Eventually(t, patience, func() bool {
		m, err = s.GetLastMsgForSubject(t.Context(), b.Names.RetryHeldOf(subjects.DefaultAccount, function))
		return err == nil
	}, "an event waits for its retry")
	if err := schema.Unmarshal(m.Data, &e); err != nil {
		t.Fatal(err)
	}
	at, ok := strings.CutPrefix(m.Header.Get("Nats-Schedule"), "@at ")
	if due, err = time.Parse(time.RFC3339, at); !ok || err != nil {
		t.Fatalf("schedule %q: %v", m.Header.Get("Nats-Schedule"), err)
	}
	if target := m.Header.Get("Nats-Schedule-Target"); target != b.Names.RetryDue(subjects.DefaultAccount, function) {
		t.Errorf("the schedule leads to %s", target)
	}
	return e, m.Sequence, due
}

// moveOn does what the server does when the event is due: the test moves its clock.
func (b *bundle) moveOn(t testing.TB, function string) (due time.Time) {
	t.Helper()
	e, sequence, due := b.waiting(t, function)
	data, err := schema.Marshal(&e)
	if err != nil {
		t.Fatal(err)
	}
	s, err := b.js.Stream(t.Context(), b.retries())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteMsg(t.Context(), sequence); err != nil {
		t.Fatal(err)
	}
	if _, err := b.publish(t, b.Names.RetryDue(subjects.DefaultAccount, function), string(data)); err != nil {
		t.Fatal(err)
	}
	return due
}

func failing(*schema.Call) *schema.FunctionError {
	return &schema.FunctionError{Type: "Oops", Message: "it never works"}
}

// S55: a function's error gets exactly two more tries, one minute and then two after the one before, each with the same request
// id; then the event lies among the dead letters with its payload and the reason.
func TestTriesOnTheStreams(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.worker.on("f", failing)
	began := time.Now()
	b.event(t, "f", `{"n":1}`, schema.HeaderClientContext, `{"a":"b"}`)
	for i, wait := range []time.Duration{time.Minute, 2 * time.Minute} {
		due := b.moveOn(t, "f")
		if early, late := began.Add(wait), time.Now().Add(wait+time.Second); due.Before(early.Truncate(time.Second)) || due.After(late) {
			t.Errorf("try %d is due at %v, want %v to %v", i+2, due, early, late)
		}
		began = time.Now()
		natstest.Eventually(t, patience, func() bool { return len(b.worker.started("f")) == i+2 }, "the next try runs")
	}
	d := b.dead(t, 1)[0]
	if d.Reason != schema.DeadRetriesExhausted || string(d.Event.Payload) != `{"n":1}` || d.Event.Attempts != 3 ||
		d.Error == nil || d.Error.Code != "Oops" || d.Error.Message != "it never works" || string(d.Event.ClientContext) != `{"a":"b"}` {
		t.Errorf("dead letter %+v, error %+v", d, d.Error)
	}
	calls := b.worker.started("f")
	tries := map[string]bool{}
	for _, c := range calls {
		tries[c.Event] = true
		if c.RequestID != d.Event.RequestID || string(c.ClientContext) != `{"a":"b"}` {
			t.Errorf("try %s has request id %s and context %s", c.Event, c.RequestID, c.ClientContext)
		}
	}
	if len(calls) != 3 || len(tries) != 3 {
		t.Errorf("%d calls of %d tries", len(calls), len(tries))
	}
	b.drained(t)
	natstest.Eventually(t, patience, func() bool { return b.held(t, b.retries()) == 0 }, "no event waits for a retry")
}

// The server's own schedule brings a retry back, not before it is due.
func TestRetryComesBackByItself(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.configure(t, "f", schema.EventInvokeConfigRecord{RetryDelay: time.Second})
	var failed time.Time
	b.worker.on("f", func(c *schema.Call) *schema.FunctionError {
		if failed.IsZero() {
			failed = time.Now()
			return failing(c)
		}
		if since := time.Since(failed); since < time.Second {
			t.Errorf("tried again after %v", since)
		}
		return nil
	})
	b.event(t, "f", `{}`)
	natstest.Eventually(t, patience, func() bool { return b.f.Events().Done == 1 }, "the retry runs")
	natstest.Eventually(t, patience, func() bool { return b.held(t, b.retries()) == 0 }, "nothing is left on RETRIES")
	if n := len(b.worker.started("f")); n != 2 {
		t.Errorf("%d tries", n)
	}
}

// What nobody can take is throttled and backs off, without using up a try: first for a second, then for two.
func TestThrottledEventsBackOff(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.deploy(t, "huge", func(r *schema.FunctionRecord) { r.Latest.MemoryMB = 10_000 }) // larger than the manager
	b.event(t, "huge", `{}`)
	for i, want := range []time.Duration{time.Second, 2 * time.Second} {
		e, sequence, due := b.waiting(t, "huge")
		stored := b.storedAt(t, b.retries(), sequence)
		if wait := due.Sub(stored); e.Throttles != i+1 || e.Attempts != 0 || wait < want-100*time.Millisecond || wait > want+time.Second {
			t.Errorf("back-off %d: %v, event %+v", i+1, wait, e)
		}
		natstest.Eventually(t, patience, func() bool {
			s, err := b.js.Stream(t.Context(), b.retries())
			return err == nil && s.CachedInfo().State.FirstSeq > sequence
		}, "it comes back")
	}
}

func (b *bundle) storedAt(t testing.TB, stream string, sequence uint64) time.Time {
	t.Helper()
	s, err := b.js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.GetMsg(t.Context(), sequence)
	if err != nil {
		t.Fatal(err)
	}
	return m.Time
}

// An event that is too old for its function when its turn comes is not tried.
func TestTooOld(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.configure(t, "f", schema.EventInvokeConfigRecord{MaxAge: time.Minute})
	e := schema.Event{
		V: schema.Version, ID: "default/x/1", RequestID: "r", Account: subjects.DefaultAccount, Function: "f", Payload: []byte("old"),
		Accepted: time.Now().Add(-61 * time.Second), Throttles: 4, LastError: &schema.EventError{Code: "TooManyRequestsException", Status: 429},
	}
	data, err := schema.Marshal(&e)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.publish(t, b.Names.RetryDue(subjects.DefaultAccount, "f"), string(data)); err != nil {
		t.Fatal(err)
	}
	d := b.dead(t, 1)[0]
	if d.Reason != schema.DeadEventAge || string(d.Event.Payload) != "old" || d.Error.Status != 429 || len(b.worker.started("f")) != 0 {
		t.Errorf("dead letter %+v after %d tries", d, len(b.worker.started("f")))
	}
}

// A destination is told of an event's end by an event of its own; one that fails for good does not lie among the dead letters then.
func TestDestinations(t *testing.T) {
	t.Parallel()
	b := setup(t, "next", "sink")
	b.configure(t, "f", schema.EventInvokeConfigRecord{Retries: new(int), OnSuccess: "next", OnFailure: "sink"})
	b.worker.on("f", func(c *schema.Call) *schema.FunctionError {
		if strings.Contains(string(c.Payload), "bad") {
			return failing(c)
		}
		return nil
	})
	b.event(t, "f", `{"is":"good"}`)
	b.event(t, "f", `bad`)
	type told struct {
		Version, Timestamp string
		RequestContext     struct {
			RequestID, FunctionArn, Condition string
			ApproximateInvokeCount            int
		}
		RequestPayload  json.RawMessage
		ResponseContext *struct {
			StatusCode                     int
			ExecutedVersion, FunctionError string
		}
		ResponsePayload json.RawMessage
	}
	for name, want := range map[string]string{
		"next": `1.0 arn:aws:lambda:us-east-1:000000000000:function:f:$LATEST Success 1 {"is":"good"} 200 $LATEST  {"is":"good"}`,
		"sink": `1.0 arn:aws:lambda:us-east-1:000000000000:function:f:$LATEST RetriesExhausted 1 "bad" 200 $LATEST Unhandled {"errorType":"Oops","errorMessage":"it never works"}`,
	} {
		natstest.Eventually(t, patience, func() bool { return len(b.worker.started(name)) == 1 }, name+" is told")
		var r told
		if err := json.Unmarshal(b.worker.started(name)[0].Payload, &r); err != nil {
			t.Fatal(err)
		}
		if r.ResponseContext == nil || r.RequestContext.RequestID == "" {
			t.Fatalf("%s is told %+v", name, r)
		}
		got := fmt.Sprint(r.Version, " ", r.RequestContext.FunctionArn, " ", r.RequestContext.Condition, " ", r.RequestContext.ApproximateInvokeCount,
			" ", string(r.RequestPayload), " ", r.ResponseContext.StatusCode, " ", r.ResponseContext.ExecutedVersion, " ",
			r.ResponseContext.FunctionError, " ", string(r.ResponsePayload))
		if got != want {
			t.Errorf("%s is told\n%s\nwant\n%s", name, got, want)
		}
		if at, err := time.Parse("2006-01-02T15:04:05.000Z", r.Timestamp); err != nil || time.Since(at).Abs() > time.Hour {
			t.Errorf("timestamp %q", r.Timestamp)
		}
	}
	b.drained(t)
	if n := b.f.Events().Dead; n != 0 {
		t.Errorf("%d dead letters beside the destination", n)
	}
}

// Destinations that lead back to where they began end.
func TestDestinationsThatGoRound(t *testing.T) {
	t.Parallel()
	b := setup(t, "g")
	b.configure(t, "g", schema.EventInvokeConfigRecord{OnSuccess: "f"})
	b.configure(t, "f", schema.EventInvokeConfigRecord{OnSuccess: "g"})
	b.event(t, "f", `{}`)
	natstest.Eventually(t, patience, func() bool { return b.f.Events().Done == 17 }, "17 events run")
	b.drained(t)
	if n := len(b.worker.started("f")) + len(b.worker.started("g")); n != 17 {
		t.Errorf("%d events ran", n)
	}
}

// An event that crashes its environment each time has its two retries and is dead; others of the function go on meanwhile.
func TestPoison(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.configure(t, "f", schema.EventInvokeConfigRecord{RetryDelay: time.Second})
	b.worker.on("f", func(c *schema.Call) *schema.FunctionError {
		if string(c.Payload) == "poison" {
			return &schema.FunctionError{Type: string(schema.CodeExitError), Message: "signal: killed"}
		}
		return nil
	})
	b.event(t, "f", "poison")
	for i := range 50 {
		b.event(t, "f", fmt.Sprint(i))
	}
	natstest.Eventually(t, patience, func() bool { return b.f.Events().Done == 50 }, "the others are done")
	d := b.dead(t, 1)
	if len(d) != 1 || d[0].Reason != schema.DeadRetriesExhausted || d[0].Event.Attempts != 3 || string(d[0].Event.Payload) != "poison" {
		t.Errorf("dead letters %+v", d)
	}
	if n := b.f.Events().Done; n != 50 {
		t.Errorf("%d events are done", n)
	}
}
