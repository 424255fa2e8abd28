package e2e_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/sourcegraph/conc/pool"

	"github.com/hearth-run/hearth/schema"
)

// of gives one of these.
func of[T any](random *rand.Rand, all ...T) T { return all[random.IntN(len(all))] }

// bytes are random, or such as have ended decoders: deep, long, cut off.
func (h *hostile) bytes() []byte {
	switch h.random.IntN(6) {
	case 0:
		return []byte{0xdd, 0xff, 0xff, 0xff, 0xff}
	case 1:
		return []byte(strings.Repeat("\x91", 1+h.random.IntN(100_000)))
	case 2:
		return []byte(strings.Repeat("\x81\xa1a", 1+h.random.IntN(10_000)))
	case 3:
		return []byte(strings.Repeat("[", 1+h.random.IntN(100_000)))
	default:
		b := make([]byte, h.random.IntN(300))
		for i := range b {
			b[i] = byte(h.random.Uint32())
		}
		return b
	}
}

// mangled is something that a node says, with some of its bytes changed, or cut off.
func (h *hostile) mangled() []byte {
	tokens := []uint64{h.random.Uint64(), 1}
	now := time.Now()
	b, err := schema.Marshal(of[any](h.random,
		schema.Ends{Manager: "m1", Incarnation: "x", Tokens: tokens}, schema.Beat{Manager: "m9", Incarnation: "x", Number: 1, Tokens: tokens},
		schema.Ask{V: 1, Event: "default/x/1/0", Frontend: h.frontend, Token: 1, Reply: "hearth.m.m1.victim"},
		schema.ManagerStatus{V: 1, ID: "m9", Incarnation: "x", Capacity: 1 << 30, Arcs: []schema.ArcStatus{{Arc: "u.1", Account: "default", Function: "fn", Idle: -5}}},
		schema.FrontendStatus{V: 1, ID: h.frontend, Incarnation: "x", InFlight: map[string]int{"a.b": -1}},
		schema.Control{V: 1, Op: "?"}, schema.Event{V: 1, ID: "x", Account: "default", Function: "fn", Accepted: now},
		schema.DeadLetter{V: 1, Reason: "x", Died: now}, schema.LogLines{V: 1, Manager: "m1", Lines: []schema.LogLine{{Time: now, Kind: 99}}},
	))
	if err != nil {
		h.t.Fatal(err)
	}
	for range h.random.IntN(4) {
		b[h.random.IntN(len(b))] = byte(h.random.Uint32())
	}
	if h.random.IntN(4) == 0 {
		b = b[:h.random.IntN(len(b))]
	}
	return b
}

// events hands in what is no event, or none that can run, as the anonymous client. Each is refused by the server, or accepted,
// and then ends as a run or as a dead letter with a reason.
func (h *hostile) events(n int) {
	nc, refused := h.as("_INBOX.events")
	inbox := nats.NewInbox() + "."
	var mu sync.Mutex
	answers := map[string]string{}
	_, err := nc.Subscribe(inbox+"*", func(m *nats.Msg) {
		mu.Lock()
		defer mu.Unlock()
		answers[m.Subject] = m.Header.Get("Status") + string(m.Data)
	})
	if err != nil {
		h.t.Fatal(err)
	}
	sent := map[string]string{} // subject by reply
	large := make([]byte, schema.MaxEventPayload+1)
	for i := range n {
		m := nats.NewMsg("hearth.event.default." + of(h.random, "fn", "fn", "nobody", "*", ">", "fn.*", "=ZZ", "=", "_", "=5F", "a.b.c.d", "fn.tenant",
			".", "fn.", ".fn", strings.Repeat("x", 300), strings.Repeat("x.", 200)+"x", "é", "\x01", "$JS.API.INFO", "fn=00", "n"+itoa(h.random.IntN(20))))
		m.Reply, m.Data = inbox+itoa(i), h.bytes()
		for range h.random.IntN(3) {
			m.Header[of(h.random, "Nats-Rollup", "Nats-TTL", "Nats-Schedule", "Nats-Schedule-Target", "Nats-Expected-Stream", "Nats-Expected-Last-Sequence",
				"Nats-Expected-Last-Subject-Sequence", "Nats-Expected-Last-Msg-Id", "Nats-Batch-Id", "Nats-Incr", "Nats-Marker-Reason", "Nats-Required-Api-Level",
				"Nats-Msg-Id", "Nats-Subject", "Nats-Stream", "Status", "Description", "Hearth-Qualifier", "hearth-qualifier", "Hearth-Tenant", "Hearth-Timeout",
				"Hearth-Log", "Hearth-Client-Context", "Hearth-Request-Id", "Hearth-Function-Error", "traceparent", "tracestate")] = of(h.random,
				[]string{"all"}, []string{"sub"}, []string{"1s"}, []string{"@at 2000-01-01T00:00:00Z"}, []string{"hearth.dead.default.victim"}, []string{""},
				[]string{"408"}, []string{"a", "b"}, []string{"-1"}, []string{"99999999999999999999"}, []string{strings.Repeat("x", 5000)}, []string{"$LATEST"},
				[]string{"{"}, []string{"\x00\xff"}, []string{"00000000-0000-4000-8000-000000000000"}, []string{"HEARTH_DEADLETTERS"})
		}
		if i%200 == 0 {
			m.Subject, m.Data = "hearth.event.default.fn", large
		}
		sent[m.Reply] = m.Subject
		if err := nc.PublishMsg(m); err != nil {
			h.t.Errorf("%s: %v", m.Subject, err)
		}
	}
	if err := nc.FlushWithContext(withDeadline(h.t)); err != nil {
		h.t.Fatal(err)
	}
	accepted := 0
	for reply, subject := range sent {
		answer := ""
		eventually(h.t, fmt.Sprintf("an answer to the event on %q", subject), func() bool {
			mu.Lock()
			defer mu.Unlock()
			answer = answers[reply]
			return answer != "" || refused.of("publish", subject)
		})
		if strings.Contains(answer, `"stream"`) && !strings.Contains(answer, `"error"`) {
			accepted++
		}
	}
	// What belongs to no function is buried one after the other, four subjects at once.
	eventuallyWithin(h.t, 5*time.Minute, "no event waits", func() bool {
		s, err := h.js.Stream(withDeadline(h.t), "HEARTH_EVENTS_default")
		return err == nil && s.CachedInfo().State.Msgs == 0
	})
	drained(h.t, &ledger{nc: h.watcher})
	dead := 0
	for d, err := range h.f.Admin().DeadLetters(withDeadline(h.t), "") {
		if err != nil {
			h.t.Fatal(err)
		}
		dead++
		if d.Error == nil || d.Error.Code == "" || d.Error.Status >= 500 || d.Reason != schema.DeadInvalid && d.Reason != schema.DeadRetriesExhausted {
			h.t.Errorf("event for %q is dead without a name for it: %s, %+v", d.Function, d.Reason, d.Error)
		}
	}
	if accepted == 0 || dead == 0 || dead > accepted {
		h.t.Errorf("%d events were accepted, %d died", accepted, dead)
	}
	h.t.Logf("%d events: %d accepted, %d of them dead", n, accepted, dead)
}

// value is a value that a member may or may not have.
func (h *hostile) value() any {
	return of[any](h.random, nil, true, -1, 0, 1, 1e300, json.Number("99999999999999999999999"), 21, "", "fn", "nobody", "$LATEST", "é\x00", "../..", strings.Repeat("x", 5000),
		[]any{}, []string{"1", "x", "-1", "18446744073709551616"}, map[string]any{}, map[string]any{"x": map[string]any{"y": 1}},
		map[string]any{"OnFailure": map[string]any{"Destination": of(h.random, "arn:aws:sqs:us-east-1:1:q", "$JS.API.STREAM.DELETE.X", "HEARTH_LOGS", "nobody", "")}},
		map[string]any{"RetryDelaySeconds": of[any](h.random, -1, "1", 1e9, 2.5)}, "2000-01-01T00:00:00Z", "eyJ4IjoxfQ", "AAAA", "!!")
}

// request is a request of an operation: some of its members with any values, or what is no JSON at all.
func (h *hostile) request() []byte {
	in := map[string]any{}
	if h.random.IntN(3) > 0 {
		in["FunctionName"] = "fn"
	}
	for range h.random.IntN(4) {
		in[of(h.random, "FunctionName", "Qualifier", "Marker", "MaxItems", "Ids", "MaximumRetryAttempts", "MaximumEventAgeInSeconds", "DestinationConfig",
			"Hearth", "Cursor", "MaxLines", "WaitSeconds", "Since", "TenantId", "RequestId", "Manager", "Cancel", "Look", "functionname", "x")] = h.value()
	}
	if in["WaitSeconds"] == 1 {
		delete(in, "WaitSeconds") // it may wait
	}
	b, err := json.Marshal(in)
	if err != nil {
		h.t.Fatal(err)
	}
	switch h.random.IntN(8) {
	case 0:
		return h.bytes()
	case 1:
		return b[:h.random.IntN(len(b))]
	case 2:
		return []byte(`{"FunctionName":` + strings.Repeat(`[`, 10_000) + strings.Repeat(`]`, 10_000) + `}`)
	case 3:
		return []byte(`{"FunctionName":"fn","FunctionName":"nobody"}` + of(h.random, "", "{}", "x"))
	}
	return b
}

// operations sends them what they cannot do. Each is refused with a code below 500, or does what it was asked for.
func (h *hostile) operations(n int) {
	admin, _ := h.as("_INBOX.operations", "admin")
	crew := pool.New().WithMaxGoroutines(8).WithErrors()
	tally := struct {
		sync.Mutex
		of map[string]int
	}{of: map[string]int{}}
	for i := range n {
		subject := "hearth.api." + of(h.random, "default.PutFunctionEventInvokeConfig", "default.UpdateFunctionEventInvokeConfig",
			"default.GetFunctionEventInvokeConfig", "default.DeleteFunctionEventInvokeConfig", "default.ListFunctionEventInvokeConfigs", "default.ListEvents",
			"default.ListDeadLetters", "default.RedriveDeadLetters", "default.DeleteDeadLetters", "default.GetLogs", "_.DrainManager", "_.GetRing",
			"other.ListEvents", "_.ListEvents", "default.DrainManager", "=ZZ.ListEvents", "default.NoSuchThing", "*.GetLogs")
		body := h.request()
		if i%200 == 0 {
			body = []byte(`{"FunctionName":"` + strings.Repeat("x", 1<<20) + `"}`)
		}
		crew.Go(func() error {
			a, err := admin.RequestWithContext(withDeadline(h.t), subject, body)
			if err != nil {
				return fmt.Errorf("%s with %.200q: %w", subject, body, err)
			}
			code, text := a.Header.Get("Nats-Service-Error-Code"), a.Header.Get("Nats-Service-Error")
			tally.Lock()
			tally.of[code]++
			tally.Unlock()
			if code == "" && (len(a.Data) == 0 || json.Valid(a.Data)) {
				return nil
			}
			var refusal struct{ Message string }
			if !strings.HasPrefix(code, "4") || text == "" || json.Unmarshal(a.Data, &refusal) != nil || refusal.Message == "" {
				return fmt.Errorf("%s with %.200q: %s %s, %.200q", subject, body, code, text, a.Data)
			}
			return nil
		})
	}
	if err := crew.Wait(); err != nil {
		h.t.Error(err)
	}
	h.t.Logf("%d operations ended: %v", n, tally.of)
	if tally.of[""] == 0 || tally.of["400"] == 0 {
		h.t.Error("they were not all of one kind")
	}
}

// nodes says nonsense to nodes, with the rights of a node.
func (h *hostile) nodes(n int) {
	manager, not := h.as("_HM.m1.nodes", "manager", "m1")
	front, norNot := h.as("_HF."+h.frontend+".nodes", "frontend", h.frontend)
	inbox := "_HF." + h.frontend + "."
	for range n {
		token := fmt.Sprintf("%016x", h.random.Uint64())
		nc, subject := manager, of(h.random, inbox+"e", inbox+"b", inbox+"i", inbox+"x", inbox+of(h.random, "p", "a", "d", "g", "f")+"."+token,
			"hearth.m.m2.claim", "hearth.m.m1.claim", "hearth.m.m2.ctl", "hearth.m.m2.key", "hearth.status.manager.m1", "_HM.m2."+token, "_HM.m2.n."+token, "_HW.m2.x",
			"hearth.trace.x", "hearth.log.default.fn.1._", "hearth.log.default.fn.=24LATEST._", "hearth.arc.u."+itoa(h.random.IntN(64))+".default.fn.=24LATEST._",
			"hearth.arc.u.0.x")
		if h.random.IntN(2) == 0 {
			nc, subject = front, of(h.random, "hearth.m.m1.ctl", "hearth.m.m2.ctl", "hearth.status.frontend."+h.frontend, "hearth.status.ask", "_HM.m1."+token,
				inbox+"e", inbox+"b", "hearth.retry.due.default.fn", "hearth.retry.due.default.nobody", "hearth.dead.default.fn", "hearth.dead.default.nobody",
				"hearth.event.default.fn", "hearth.trace.x", "hearth.arc.u.1.default.fn.1._", "$KV.HEARTH_functions.other.nonsense", "$KV.HEARTH_secrets.x.1")
		}
		m := &nats.Msg{Subject: subject, Data: h.bytes(), Header: nats.Header{}}
		if h.random.IntN(2) == 0 {
			m.Data = h.mangled()
		}
		if !strings.HasPrefix(subject, "hearth.arc") && !strings.HasPrefix(subject, "hearth.r") && !strings.HasPrefix(subject, "hearth.d") &&
			!strings.HasPrefix(subject, "hearth.e") && !strings.HasPrefix(subject, "hearth.l") && !strings.HasPrefix(subject, "$KV") {
			m.Reply = of(h.random, "", "hearth.m.m1.victim", "$KV.HEARTH_functions.default.victim", "_HM.m9.x", "_HF.x.y", "_INBOX.>")
		}
		if h.random.IntN(8) == 0 {
			m.Header.Set(of(h.random, "Status", "Nats-Service-Error-Code", "Hearth-Function-Error"), of(h.random, "503", "408", "x"))
		}
		if err := nc.PublishMsg(m); err != nil {
			h.t.Errorf("%s: %v", subject, err)
		}
	}
	for nc, refused := range map[*nats.Conn]*refusals{manager: not, front: norNot} {
		if err := nc.FlushWithContext(withDeadline(h.t)); err != nil {
			h.t.Fatal(err)
		}
		refused.mu.Lock()
		if len(refused.text) > 0 {
			h.t.Errorf("not everything was said: %v", refused.text[0])
		}
		refused.mu.Unlock()
	}
}
