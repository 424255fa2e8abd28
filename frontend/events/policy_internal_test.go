package events

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/hearth-run/hearth/schema"
)

// history plays an event's life: a clock that the test moves to each due time, and results for its tries.
type history struct {
	t      *testing.T
	now    time.Time
	limits limits
	event  schema.Event
	last   verdict
}

func newHistory(t *testing.T, c *schema.EventInvokeConfigRecord) *history {
	at := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	return &history{
		t: t, now: at, limits: limitsOf(&schema.FunctionRecord{Event: c}),
		event: schema.Event{ID: "default/x/1", Accepted: at, Payload: []byte(`{}`)},
	}
}

// try ends a try like that, moves the clock to when the next is due, and gives how long that is.
func (h *history) try(r Result) time.Duration {
	h.t.Helper()
	if v, old := hopeless(h.event, h.limits, h.now); old {
		h.t.Fatalf("too old for a try: %+v", v)
	}
	h.last = decide(h.event, r, h.limits, h.now)
	h.event = h.last.event
	if h.last.next != retry {
		return 0
	}
	wait := h.last.due.Sub(h.now)
	h.now = h.last.due
	return wait
}

func answer(header ...string) Result {
	a := &schema.Answer{Header: map[string][]string{schema.HeaderExecutedVersion: {"7"}}, Payload: []byte(`{"errorType":"Oops","errorMessage":"no"}`)}
	for i := 0; i < len(header); i += 2 {
		a.Header[header[i]] = []string{header[i+1]}
	}
	return Result{Answer: a}
}

var (
	good      = answer()
	bad       = answer(schema.HeaderFunctionError, schema.FunctionErrorUnhandled)
	throttled = Result{Err: &schema.Error{Code: schema.CodeThrottled, Message: "busy"}}
	gone      = Result{Lost: true}
)

func number(n int) *int { return &n }

// S55: function errors get exactly two more tries, after one minute and then two.
func TestTwoMoreTries(t *testing.T) {
	t.Parallel()
	h := newHistory(t, nil)
	if first, second := h.try(bad), h.try(bad); first != time.Minute || second != 2*time.Minute {
		t.Errorf("tried again after %v and %v", first, second)
	}
	h.try(bad)
	if h.last.next != failed || h.last.reason != schema.DeadRetriesExhausted || h.event.Attempts != 3 {
		t.Errorf("after three tries: %+v", h.last)
	}
	if e := h.event.LastError; e == nil || e.Code != "Oops" || e.Message != "no" || e.Status != 200 || e.Version != "7" || !json.Valid(e.Body) {
		t.Errorf("the last error is %+v", e)
	}
}

// A function that says of itself that its try was lost has had that try: else its event would never end.
func TestAFunctionDoesNotSayThatItIsLost(t *testing.T) {
	t.Parallel()
	h := newHistory(t, nil)
	r := answer(schema.HeaderFunctionError, schema.FunctionErrorUnhandled)
	r.Answer.Payload = []byte(`{"errorType":"Hearth.ExecutionLost","errorMessage":"so it says"}`)
	if first, second := h.try(r), h.try(r); first != time.Minute || second != 2*time.Minute {
		t.Errorf("tried again after %v and %v", first, second)
	}
	if h.try(r); h.last.next != failed || h.last.reason != schema.DeadRetriesExhausted || h.event.LastError.Message != "so it says" {
		t.Errorf("after three tries: %+v", h.last)
	}
}

// Throttles and what was lost back off from 1 s to 5 min, doubled each time, and use up no try; a try begins anew.
func TestBackOff(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]Result{
		"throttled": throttled, "lost": gone,
		"no capacity":    {Err: &schema.Error{Code: schema.CodeCapacityExceeded}},
		"unavailable":    {Err: &schema.Error{Code: schema.CodeUnavailable}},
		"internal error": {Err: &schema.Error{Code: schema.CodeInternal}},
		"lost, as its worker says": {Answer: &schema.Answer{
			Header: map[string][]string{
				schema.HeaderFunctionError: {schema.FunctionErrorUnhandled}, schema.HeaderPlatformError: {string(schema.CodeExecutionLost)},
			},
			Payload: []byte(`{"errorType":"Hearth.ExecutionLost"}`),
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHistory(t, nil)
			for i, want := range []int{1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300} {
				if got := h.try(r); got != time.Duration(want)*time.Second {
					t.Fatalf("back-off %d is %v, want %d s", i, got, want)
				}
			}
			if h.event.Attempts != 0 {
				t.Errorf("%d tries used up", h.event.Attempts)
			}
			if h.try(bad) != time.Minute || h.try(r) != time.Second || h.try(bad) != 2*time.Minute {
				t.Error("after a try the back-off does not begin anew, or the try was not counted right")
			}
			if h.try(good); h.last.next != done || h.last.event.LastError != nil {
				t.Errorf("after a good end: %+v", h.last)
			}
		})
	}
}

// Back-off ends at the event's age: six hours unless it is set, and never a try after it.
func TestAge(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		config *schema.EventInvokeConfigRecord
		most   time.Duration
	}{
		"default":  {nil, 6 * time.Hour},
		"a minute": {&schema.EventInvokeConfigRecord{MaxAge: time.Minute}, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHistory(t, tt.config)
			for tries := 0; h.last.next != failed; tries++ {
				if h.now.Sub(h.event.Accepted) > tt.most || tries > 1000 {
					t.Fatalf("a try at the age of %v", h.now.Sub(h.event.Accepted))
				}
				h.try(throttled)
			}
			if h.last.reason != schema.DeadEventAge || h.event.LastError.Code != string(schema.CodeThrottled) {
				t.Errorf("ends with %+v", h.last)
			}
			if left := tt.most - h.now.Sub(h.event.Accepted); left > schema.LastBackOff {
				t.Errorf("given up %v before its age", left)
			}
		})
	}
	h := newHistory(t, nil)
	if _, old := hopeless(h.event, h.limits, h.event.Accepted.Add(6*time.Hour)); old {
		t.Error("too old at its age")
	}
	if v, old := hopeless(h.event, h.limits, h.event.Accepted.Add(6*time.Hour+1)); !old || v.reason != schema.DeadEventAge {
		t.Errorf("past its age: %+v", v)
	}
}

func TestNumbersOfTheFunction(t *testing.T) {
	t.Parallel()
	h := newHistory(t, &schema.EventInvokeConfigRecord{Retries: number(1), RetryDelay: 5 * time.Second, OnFailure: "sink", OnSuccess: "next"})
	if wait := h.try(bad); wait != 5*time.Second {
		t.Errorf("tried again after %v", wait)
	}
	if h.try(bad); h.last.next != failed || h.last.to != "sink" {
		t.Errorf("after its one retry: %+v", h.last)
	}
	h = newHistory(t, &schema.EventInvokeConfigRecord{Retries: number(0)})
	if h.try(bad); h.last.next != failed || h.last.reason != schema.DeadRetriesExhausted {
		t.Errorf("with no retries: %+v", h.last)
	}
	h = newHistory(t, &schema.EventInvokeConfigRecord{OnSuccess: "next", OnFailure: "sink"})
	if h.try(good); h.last.next != done || h.last.to != "next" || h.last.answer == nil {
		t.Errorf("a good end: %+v", h.last)
	}
	// A retry that would come after the age is no retry.
	h = newHistory(t, &schema.EventInvokeConfigRecord{MaxAge: time.Minute})
	h.now = h.now.Add(time.Second)
	if h.try(bad); h.last.reason != schema.DeadEventAge {
		t.Errorf("a retry past the age: %+v", h.last)
	}
}

func TestRefusedForGood(t *testing.T) {
	t.Parallel()
	for _, row := range schema.Table() {
		h := newHistory(t, nil)
		h.try(Result{Err: &schema.Error{Code: row.Code, Message: "why"}})
		back := row.Status == 429 || row.Status >= 500
		if back != (h.last.next == retry) || !back && h.last.reason != schema.DeadInvalid {
			t.Errorf("%s (%d): %+v", row.Code, row.Status, h.last)
		}
		if h.event.LastError.Message != "why" {
			t.Errorf("%s: the reason is %q", row.Code, h.event.LastError.Message)
		}
	}
}

// What a function says of itself is bounded where it is listed, and its whole answer where it is kept.
func TestErrorsAreBounded(t *testing.T) {
	t.Parallel()
	r := answer(schema.HeaderFunctionError, schema.FunctionErrorUnhandled)
	r.Answer.Payload, _ = json.Marshal(map[string]string{"errorType": strings.Repeat("T", 5000), "errorMessage": strings.Repeat("é", maxErrorBody)})
	e := functionError(r.Answer)
	if len(e.Code) > 1100 || len(e.Message) > 1100 || e.Body != nil {
		t.Errorf("code of %d bytes, message of %d, body of %d", len(e.Code), len(e.Message), len(e.Body))
	}
	for _, body := range []string{"", "no JSON", `[1]`, `{"errorType":7}`, "\xff\xfe"} {
		r.Answer.Payload = []byte(body)
		if e := functionError(r.Answer); e.Code != schema.FunctionErrorUnhandled || string(e.Body) != body {
			t.Errorf("%q: %+v", body, e)
		}
	}
}

func TestShare(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ places, memory, backlogged, frontends, want int }{
		{0, 128, 0, 1, 0}, {40, 128, 0, 1, 20}, {40, 128, 1, 1, 20}, {40, 128, 3, 1, 10}, {40, 128, 3, 2, 5}, {80, 1024, 0, 1, 5},
		{4, 128, 100, 3, 1}, {10_000, 128, 0, 1, 256}, {40, 0, 0, 0, 20},
	} {
		if got := share(tt.places, tt.memory, tt.backlogged, tt.frontends); got != tt.want {
			t.Errorf("share%v is %d", tt, got)
		}
	}
}

func TestThrottle(t *testing.T) {
	t.Parallel()
	var th throttle
	now := time.Now()
	if th.window(64, now) != 64 {
		t.Error("held back before anything was refused")
	}
	for i, want := range []int{32, 16, 8, 4, 2, 1, 1} {
		for range 3 {
			th.refused(64, now) // those of one round count once
		}
		if th.window(64, now) != 0 {
			t.Errorf("round %d: goes on at once", i)
		}
		if now = th.until; th.window(64, now) != want {
			t.Errorf("round %d: %d at once, want %d", i, th.window(64, now), want)
		}
	}
	if th.pause != lastPause {
		t.Errorf("paused for %v", th.pause)
	}
	went := 0
	for ; th.window(64, now) < 64; went++ {
		th.went(64)
	}
	if went > 64*64 || th.pause != 0 {
		t.Errorf("the whole share after %d events", went)
	}
}

// A sub-tenant over its limit holds nobody else's events back; a function that is throttled does (S66).
func TestThrottleHearsOfTheFunctionAlone(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for code, want := range map[schema.Code]int{schema.CodeTenantLimit: 64, schema.CodeThrottled: 0} {
		var th throttle
		for range 50 {
			err := schema.Errorf(code, "no")
			th.hear(decide(schema.Event{Accepted: now}, Result{Err: err}, limitsOf(nil), now), err, 64, now)
		}
		if got := th.window(64, now); got != want {
			t.Errorf("%s: %d at once, want %d", code, got, want)
		}
	}
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	made := time.Unix(1, 0)
	a, b := identity("default", made, 1), identity("default", made.Add(1), 1)
	if a == b || requestID(a) == requestID(b) || requestID(a) != requestID(identity("default", made, 1)) {
		t.Errorf("%s and %s", a, b)
	}
	if id := requestID(a); len(id) != 36 || id[14] != '4' || !strings.ContainsRune("89ab", rune(id[19])) {
		t.Errorf("%s is no UUID of version 4", id)
	}
}

// A caller who knows an event and where its end goes cannot use up the id of that record, and two scopes have no id in common.
func TestIDsOfEnds(t *testing.T) {
	t.Parallel()
	has := endID("to", "a", "secret", "default/x/1")
	if again := endID("to", "a", "secret", "default/x/1"); again != has {
		t.Errorf("%s, and then %s", has, again)
	}
	for _, other := range []string{
		endID("to", "a", "another", "default/x/1"), endID("to", "a", "secret", "default/x/2"), endID("to", "b", "secret", "default/x/1"),
		endID("to", "", "secret", "default/x/1"), "to/a/end/default/x/1",
	} {
		if other == has {
			t.Errorf("%s names two", has)
		}
	}
	if id := endID("to", "a/b\r\nc", "secret", "default/x/1"); strings.Count(id, "/") != 3 || strings.ContainsAny(id, "\r\n") {
		t.Errorf("the scope is not one token: %q", id)
	}
}
