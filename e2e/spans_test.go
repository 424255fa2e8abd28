package e2e_test

import (
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/e2e/fabric"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

var update = flag.Bool("update", false, "rewrite the golden files under testdata")

// callersSpan is the span under which every scenario calls; its trace is the scenario's own.
const callersSpan = "00000000000000a1"

// traced is a fabric whose roles send their spans to a collector.
type traced struct {
	t         *testing.T
	f         *fabric.Spread
	collector *fabric.Collector
	admin     *client.Client
	scenarios []scenario
	begun     int
}

type scenario struct{ name, trace string }

// scenario begins one and gives the traceparent of its caller.
func (x *traced) scenario(name string) string {
	x.begun++
	s := scenario{name, fmt.Sprintf("%032x", 0xabc000+x.begun)}
	x.scenarios = append(x.scenarios, s)
	return "00-" + s.trace + "-" + callersSpan + "-01"
}

// TestTraces compares the whole trees of spans, as a collector receives them over gRPC, with the golden ones: every way that a call or an event goes is one
// trace. It is broken by any parent that is not passed on: then a span hangs under one that is not there, or begins a trace of its own.
func TestTraces(t *testing.T) {
	t.Parallel()
	c := fabric.StartCollector(t)
	f := fabric.StartSpread(t, fabric.SpreadOptions{Managers: 2, Frontends: 2, Proxied: []string{"f1"}, Env: c.Env()})
	x := &traced{t: t, f: f, collector: c, admin: f.Admin()}
	f.DeployFn("echo", "--timeout", "60s")
	x.sync()
	x.failures()
	x.chain()
	x.events()
	x.overflow()
	x.lost()
	for _, r := range append(f.Frontends, f.Managers...) {
		r.Stop() // sends the last spans
	}
	x.compare()
}

// nats calls over NATS.
func (x *traced) nats(function, payload, traceparent string) *client.Answer {
	x.t.Helper()
	a, err := x.admin.Invoke(withDeadline(x.t), client.Call{Function: function, Payload: []byte(payload), Traceparent: traceparent})
	if err != nil {
		x.t.Fatalf("invoke %s: %v", function, err)
	}
	return a
}

// http calls through a frontend's listener.
func (x *traced) http(f *fabric.Role, function, payload string, header http.Header) (http.Header, string) {
	x.t.Helper()
	h, body, err := x.post(f, function, payload, header)
	if err != nil {
		x.t.Fatal(err)
	}
	return h, body
}

// post is http for goroutines that must not end the test.
func (x *traced) post(f *fabric.Role, function, payload string, header http.Header) (http.Header, string, error) {
	req, err := http.NewRequestWithContext(withDeadline(x.t), http.MethodPost, f.HTTP+"/2015-03-31/functions/"+function+"/invocations",
		strings.NewReader(payload))
	if err != nil {
		return nil, "", err
	}
	req.Header = header
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.Header, string(body), err
}

// calls is how many spans of this name a trace has by now.
func (x *traced) calls(name, traceparent string) (n int) {
	for _, s := range x.collector.Spans() {
		if s.Name == name && hex.EncodeToString(s.TraceId) == traceparent[3:35] {
			n++
		}
	}
	return n
}

func (x *traced) await(n int, name, traceparent string) {
	x.t.Helper()
	defer func() {
		if x.t.Failed() {
			x.t.Logf("the trace so far:\n%s", newSpanTree(x.collector.Spans(), traceparent[3:35], callersSpan))
		}
	}()
	eventuallyWithin(x.t, deadline/2, fmt.Sprintf("%d spans %s", n, name), func() bool { return x.calls(name, traceparent) >= n })
}

func (x *traced) sync() {
	x.nats("echo", `1`, x.scenario("cold, over NATS"))
	x.http(x.f.Frontends[0], "echo", `1`, http.Header{"Traceparent": {x.scenario("warm, over HTTP")}})
}

func (x *traced) failures() {
	f := x.f.Frontends[0]
	x.nats("echo", `"error"`, x.scenario("function error, over NATS: the answer does not pass through the frontend"))
	x.http(f, "echo", `"error"`, http.Header{"Traceparent": {x.scenario("function error, over HTTP")}})
	x.f.DeployFn("slow", "--timeout", "1s")
	x.http(f, "slow", `"hang"`, http.Header{"Traceparent": {x.scenario("time-out")}})
	x.http(f, "echo", `"exit 3"`, http.Header{"Traceparent": {x.scenario("the process ends")}})
	x.http(f, "nobody", `1`, http.Header{"Traceparent": {x.scenario("refused at the door")}})
	x.f.MustCLI("limit", "slow", "0")
	x.http(f, "slow", `1`, http.Header{"Traceparent": {x.scenario("refused after admission: the function is stopped")}})
	x.f.DeployFn("broken", "--env", "FN_INIT=error")
	x.http(f, "broken", `1`, http.Header{"Traceparent": {x.scenario("init fails")}})
}

// chain: what a function sees goes on, whichever of the two forms it passes on, and over NATS.
func (x *traced) chain() {
	trace := x.scenario("a function calls others")
	var saw struct{ Traceparent, Tracestate, Xray string }
	a, err := x.admin.Invoke(withDeadline(x.t), client.Call{Function: "echo", Payload: []byte(`"trace"`), Traceparent: trace, Tracestate: "vendor=1"})
	if err != nil {
		x.t.Fatal(err)
	}
	if err := json.Unmarshal(a.Payload, &saw); err != nil {
		x.t.Fatal(err)
	}
	if want := "Root=1-" + trace[3:11] + "-" + trace[11:35] + ";Parent=" + saw.Traceparent[36:52] + ";Sampled=1"; saw.Xray != want ||
		saw.Traceparent[:36] != trace[:36] || saw.Tracestate != "vendor=1" {
		x.t.Errorf("the function sees %+v, want X-Ray's %s", saw, want)
	}
	x.http(x.f.Frontends[1], "echo", `1`, http.Header{"X-Amzn-Trace-Id": {saw.Xray}})
	m := nats.NewMsg("hearth.invoke.default.echo")
	m.Data = []byte(`1`)
	m.Header.Set("traceparent", saw.Traceparent)
	if _, err := x.admin.Conn().RequestMsgWithContext(withDeadline(x.t), m); err != nil {
		x.t.Fatal(err)
	}
}

func (x *traced) events() {
	send := func(function, payload, trace string) {
		if _, err := x.admin.Send(withDeadline(x.t), client.Event{Function: function, Payload: []byte(payload), Traceparent: trace}); err != nil {
			x.t.Fatal(err)
		}
	}
	once := func() string { return fmt.Sprintf("%q", "once "+newRecord(x.t).path) }
	x.f.DeployFn("sink")
	x.f.DeployFn("retried", "--retries", "1", "--retry-delay", "1s", "--on-success", "sink")
	x.f.DeployFn("dies", "--retries", "0")
	buried := x.scenario("an event that becomes a dead letter, which is redriven")
	send("dies", once(), buried)
	retried := x.scenario("an event by HTTP, whose second try is good, and its destination")
	x.http(x.f.Frontends[0], "retried", once(), http.Header{"Traceparent": {retried}, "X-Amz-Invocation-Type": {"Event"}})
	var letters []schema.DeadLetterItem
	eventually(x.t, "the dead letter", func() bool {
		letters = letters[:0]
		for l, err := range x.admin.DeadLetters(withDeadline(x.t), "dies") {
			if err != nil {
				x.t.Fatal(err)
			}
			letters = append(letters, l)
		}
		return len(letters) == 1
	})
	if _, err := x.admin.RedriveDeadLetters(withDeadline(x.t), schema.DeadLettersInput{Ids: []string{letters[0].ID}}); err != nil {
		x.t.Fatal(err)
	}
	x.await(2, "hearth.invoke", buried)
	x.await(3, "hearth.invoke", retried)
	send("echo", `1`, x.scenario("an event over NATS"))
}

// overflow: the first frontend does not hear that the one member is busy, sends a call there, and a catcher moves it.
func (x *traced) overflow() {
	busy, moved := x.f.Frontends[1], x.f.Frontends[0]
	r := reserve(x.t, x.f, "kept", 1)
	x.http(busy, "kept:1", `1`, http.Header{"Traceparent": {x.scenario("reserved")}})
	for try := 1; ; try++ {
		g := newGate(x.t)
		eventually(x.t, "the first frontend knows of the member", func() bool { return reasonAt(x.t, moved, r.name) == schema.ReasonReserved })
		moved.Proxy.HoldSubjects(func(subject string) bool { return strings.HasPrefix(subject, "hearth.status.manager.") })
		held := make(chan struct{})
		go func() { // ends with the gate
			defer close(held)
			if _, _, err := x.post(busy, "kept:1", g.payload(), nil); err != nil {
				x.t.Error(err)
			}
		}()
		g.wait(x.t, 1)
		header, _ := x.http(moved, "kept:1", `1`, http.Header{"Traceparent": {x.scenario(overflowed)}})
		moved.Proxy.Release()
		g.open()
		<-held
		if header.Get(schema.HeaderReason) == string(schema.ReasonOverflow) {
			return
		}
		x.scenarios = x.scenarios[:len(x.scenarios)-1] // the view was taken for none in time: once more
		if try == 5 {
			x.t.Fatalf("try %d: reason %s", try, header.Get(schema.HeaderReason))
		}
	}
}

// lost: a manager is killed while it runs two calls, of which one may be run again.
func (x *traced) lost() {
	first := func(function string) int {
		n := subjects.UnreservedArc(subjects.DefaultAccount, function, "", subjects.DefaultArcs)
		return subjects.NewRing(0, []string{"m1", "m2"}).Unreserved(nil, n, 0)[0]
	}
	repeats := "again" // at the same manager
	for first(repeats) != first("once") {
		repeats += "n"
	}
	x.f.DeployFn("once", "--timeout", "60s")
	x.f.DeployFn(repeats, "--timeout", "60s", "--idempotent")
	g := newGate(x.t)
	at := x.nats("once", `1`, "").Manager
	if other := x.nats(repeats, `1`, "").Manager; other != at {
		x.t.Fatalf("one function runs at %s, the other at %s", at, other)
	}
	ends := make(chan string, 2)
	call := func(function, trace string) {
		go func() { // ends with the call
			header, _, err := x.post(x.f.Frontends[1], function, g.payload(), http.Header{"Traceparent": {trace}})
			if err != nil {
				x.t.Error(err)
			}
			ends <- function + " " + header.Get("X-Amz-Function-Error")
		}()
	}
	once, again := x.scenario("lost"), x.scenario("lost, of an idempotent function")
	call("once", once)
	call(repeats, again)
	g.wait(x.t, 2)
	x.await(1, "hearth.claim", once)
	x.await(1, "hearth.claim", again)
	x.f.Manager(at).Kill()
	if end := <-ends; end != "once Unhandled" {
		x.t.Errorf("%q, want the loss of once", end)
	}
	g.wait(x.t, 1)
	g.open()
	if end := <-ends; end != repeats+" " {
		x.t.Errorf("%q, want the second attempt of the other", end)
	}
}

const overflowed = "overflow"

// heardInTime levels out whether the first frontend had heard of the second one's call when it decided: it sends its own to the member in
// either case.
var heardInTime = strings.NewReplacer("reason=reserved", "reason=spillover", "C=1", "C=2")

// compare holds every scenario's tree against the golden file.
func (x *traced) compare() {
	x.t.Helper()
	var b strings.Builder
	var trees []*spanTree
	spans := x.collector.Spans()
	for _, s := range x.scenarios {
		tree := newSpanTree(spans, s.trace, callersSpan)
		trees = append(trees, tree)
		text := tree.String()
		if s.name == overflowed {
			text = heardInTime.Replace(text)
		}
		fmt.Fprintf(&b, "%s\n%s\n", s.name, text)
	}
	got := b.String() + attributeNames(trees)
	file := filepath.Join("testdata", "spans.golden")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			x.t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		x.t.Fatal(err)
	}
	if got != string(want) {
		x.t.Errorf("the trees are not those of %s:\n%s", file, got)
	}
}
