package runtimeapi_test

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/hearth-run/hearth/worker/runtimeapi"
)

func TestCallAfterCall(t *testing.T) {
	t.Parallel()
	e := setup(t)
	r := e.parked()
	for range 3 {
		e.start(`{"n":1}`)
		r.expect(invocation(`{"n":1}`))
		r.send(response(`{"n":2}`, "Content-Type: application/json\r\n"))
		a := e.answered()
		if string(a.Payload) != `{"n":2}` || a.ContentType != "application/json" || a.Error != nil || a.Parked || a.Broken {
			t.Fatalf("answer %+v", a)
		}
		r.expect(accepted)
		r.send(next)
		e.event("parked")
	}
}

// TestLean sends answer and next in one write: the environment is parked when the answer is told, and the 202 goes out
// although no call waits.
func TestLean(t *testing.T) {
	t.Parallel()
	e := setup(t)
	r := e.running()
	r.send(response(`1`) + next)
	if a := e.answered(); !a.Parked || string(a.Payload) != `1` {
		t.Fatalf("answer %+v, want it parked", a)
	}
	r.expect(accepted)
	if !e.server.Idle() {
		t.Fatal("not idle")
	}
	e.start(`2`)
	r.expect(invocation(`2`))
	r.send(post("/invocation/"+id+"/error", `{"errorType":"E"}`) + next)
	if a := e.answered(); !a.Parked || a.Error == nil {
		t.Fatalf("answer %+v, want a parked error", a)
	}
	r.expect(accepted)
	select {
	case ev := <-e.told:
		t.Fatalf("event %q: Parked was told already with the answer", ev)
	default:
	}
}

// TestLeanNextCallWaits starts the next call from inside Answered: 202 and call come in one piece, in this order.
func TestLeanNextCallWaits(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.onAnswered = func(a *runtimeapi.Answer) {
		before := string(a.Payload)
		e.start(`"second"`)
		if string(a.Payload) != before {
			t.Errorf("the answer changed from %q to %q", before, a.Payload)
		}
	}
	r := e.running()
	r.send(response(`"first"`) + next)
	e.answered()
	r.expect(accepted + invocation(`"second"`))
}

// TestLeanTogether keeps the 202 for a runtime that wants it with its next call, and for that one alone.
func TestLeanTogether(t *testing.T) {
	t.Parallel()
	e := setup(t)
	r := e.running()
	together := strings.Replace(next, "Host", "hearth-runtime-answers: Together\r\nHost", 1)
	for range 3 {
		r.send(response(`1`) + together)
		if a := e.answered(); !a.Parked {
			t.Fatal("not parked")
		}
		e.expectNothing(r)
		e.start(`2`)
		r.expect(accepted + invocation(`2`))
	}
	r.send(response(`1`) + next)
	e.answered()
	r.expect(accepted)
}

// TestLeanLargeAnswer is an answer beyond the connection's buffer: the next behind it is still seen with it.
func TestLeanLargeAnswer(t *testing.T) {
	t.Parallel()
	for _, n := range []int{4 << 10, 64 << 10, 1 << 20} {
		e := setup(t)
		r := e.running()
		body := strings.Repeat("x", n)
		r.send(response(body) + next)
		if a := e.answered(); string(a.Payload) != body {
			t.Fatalf("%d bytes: got %d", n, len(a.Payload))
		} else if !a.Parked {
			e.event("parked") // the read ended with the body
		}
		r.expect(accepted)
		e.start(`2`)
		r.expect(invocation(`2`))
	}
}

// TestRequestInPieces sends a call's answer and next byte by byte.
func TestRequestInPieces(t *testing.T) {
	t.Parallel()
	e := setup(t)
	r := e.running()
	for _, b := range []byte(response(`{"a":1}`) + next) {
		r.send(string(b))
	}
	a := e.answered()
	if string(a.Payload) != `{"a":1}` {
		t.Fatalf("answer %q", a.Payload)
	}
	r.expect(accepted)
	if !a.Parked { // unless the pieces came together after all
		e.event("parked")
	}
}

// TestPipelined sends many requests in one write; the answers come in their order.
func TestPipelined(t *testing.T) {
	t.Parallel()
	e := setup(t)
	r := e.running()
	ping := "GET /ping HTTP/1.1\r\n\r\n"
	pong := "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\npong"
	r.send(ping + response(`1`) + ping + next + ping)
	r.expect(pong + accepted + pong)
	if a := e.answered(); a.Parked {
		t.Fatalf("parked behind a ping")
	}
	e.event("parked")
	e.expectNothing(r) // the last ping waits for its turn, which is behind the call
	e.start(`2`)
	r.expect(invocation(`2`) + pong)
}

func TestLargePayloads(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 2 << 10, 2<<10 + 1, 64 << 10, 64<<10 + 1, 6 << 20} {
		e := setup(t)
		r := e.parked()
		payload := strings.Repeat("p", n)
		e.start(payload)
		r.expect(invocation(payload))
		r.send(response(`1`) + next)
		e.answered()
		r.expect(accepted)
	}
}

// TestStartDoesNotWait starts calls with a runtime that reads nothing: Start returns, and the runtime's connection alone
// is held up.
func TestStartDoesNotWait(t *testing.T) {
	t.Parallel()
	e := setup(t)
	r := e.parked()
	payload := strings.Repeat("p", 6<<20)
	e.start(payload) // more than the sockets hold
	other := e.dial()
	other.send("GET /ping HTTP/1.1\r\n\r\n")
	other.expect("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\npong")
	r.expect(invocation(payload))
}

// TestUnreadAnswers fills a connection with answers that nobody reads and then parks it: the call must not wait for it.
func TestUnreadAnswers(t *testing.T) {
	t.Parallel()
	e := setup(t)
	r := e.dial()
	_ = r.conn.SetReadBuffer(4 << 10)
	ping := strings.Repeat("GET /ping HTTP/1.1\r\n\r\n", 1000)
	// Until the server does not read either, because its own writes are stuck.
	for _ = r.conn.SetWriteDeadline(time.Now().Add(500 * time.Millisecond)); ; {
		if _, err := r.conn.Write([]byte(ping)); err != nil {
			break
		}
	}
	p := e.parked()
	e.start(`1`)
	p.expect(invocation(`1`))
}

// TestSeveralParkedConnections is a runtime that polls on four connections and posts on a fifth, as Lambda's Node client.
func TestSeveralParkedConnections(t *testing.T) {
	t.Parallel()
	e := setup(t)
	want := []byte(invocation(`1`))
	got := make(chan *runtime)
	done := make(chan struct{})
	defer close(done)
	pollers := []*runtime{e.parked(), e.dial(), e.dial(), e.dial()}
	for i, r := range pollers {
		if i > 0 {
			r.send(next)
		}
		go func() {
			buf := make([]byte, len(want))
			for {
				if _, err := io.ReadFull(r.conn, buf); err != nil || !bytes.Equal(buf, want) {
					return
				}
				select {
				case got <- r:
				case <-done:
					return
				}
			}
		}()
	}
	eventually(t, "four parked connections", func() bool { return e.server.Parked() == 4 })
	poster := e.dial()
	for range 6 {
		e.start(`1`)
		var r *runtime
		select {
		case r = <-got:
		case <-time.After(patience):
			t.Fatal("the call came nowhere")
		}
		if n := e.server.Parked(); n != 3 {
			t.Fatalf("%d connections are left, want 3: a call goes to one", n)
		}
		poster.send(response(`2`))
		if a := e.answered(); !a.Parked {
			t.Fatal("not parked, and three connections ask for a call")
		}
		poster.expect(accepted)
		r.send(next)
		eventually(t, "it to park again", func() bool { return e.server.Parked() == 4 })
	}
}

func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited %s for %s", patience, what)
		}
	}
}

// TestParkedConnectionDrops forgets it; the call goes to the next one that asks.
func TestParkedConnectionDrops(t *testing.T) {
	t.Parallel()
	e := setup(t)
	r := e.parked()
	_ = r.conn.Close()
	eventually(t, "the dropped connection to be forgotten", func() bool { return e.server.Parked() == 0 })
	if !e.server.Idle() {
		t.Fatal("not idle: the manager offered it, and it will ask again")
	}
	again := e.dial()
	again.send(next)
	eventually(t, "the new one to park", func() bool { return e.server.Parked() == 1 })
	e.start(`1`)
	again.expect(invocation(`1`))
	select {
	case ev := <-e.told:
		t.Fatalf("event %q", ev)
	default:
	}
}

// TestStartBeforeNext holds the call until the runtime asks.
func TestStartBeforeNext(t *testing.T) {
	t.Parallel()
	e := setup(t)
	r := e.running()
	r.send(response(`1`))
	e.answered()
	r.expect(accepted)
	e.start(`2`)
	if err := e.server.Start(&runtimeapi.Invocation{RequestID: "other"}); err != runtimeapi.ErrBusy {
		t.Fatalf("second call: %v, want ErrBusy", err)
	}
	r.send(response(`3`)) // an answer before the call was seen
	r.expect(refusal("403 Forbidden", "InvalidStateTransition",
		"State transition from Running to InvocationResponse failed for runtime. "+notAllowed))
	r.send(next)
	r.expect(invocation(`2`))
	r.send(response(`4`))
	if a := e.answered(); string(a.Payload) != `4` {
		t.Fatalf("answer %q", a.Payload)
	}
}

func TestInitError(t *testing.T) {
	t.Parallel()
	e := setup(t)
	r := e.dial()
	body := `{"errorType":"Runtime.ImportModuleError","errorMessage":"no such module","stackTrace":[]}`
	r.send(post("/init/error", body, "Lambda-Runtime-Function-Error-Type: Runtime.ImportModuleError\r\n"))
	e.event("init failed")
	f := <-e.failed
	if f.Type != "Runtime.ImportModuleError" || f.Message != "no such module" || string(f.Body) != body || !f.Posted {
		t.Fatalf("failure %+v", f)
	}
	r.expect(accepted)
	r.send(next)
	r.expect(refusal("403 Forbidden", "InvalidStateTransition",
		"State transition from InitError to Ready failed for runtime. "+notAllowed))
	if err := e.server.Start(&runtimeapi.Invocation{RequestID: id}); err != runtimeapi.ErrClosed {
		t.Fatalf("start: %v, want ErrClosed", err)
	}
}

func TestPostedErrors(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ headers, body, kind, want string }{
		"type of the body": {"", `{"errorType":"MyError","errorMessage":"m"}`, "MyError", `{"errorType":"MyError","errorMessage":"m"}`},
		"type of the header": {"Lambda-Runtime-Function-Error-Type: Function.Bad\r\n", `{"errorType":"MyError"}`, "Function.Bad",
			`{"errorType":"MyError"}`},
		"bad type":               {"Lambda-Runtime-Function-Error-Type: Whatever\r\n", `x`, "Runtime.Unknown", `x`},
		"bad type of a function": {"Lambda-Runtime-Function-Error-Type: Function.x1\r\n", `x`, "Function.Unknown", `x`},
		"no JSON":                {"", `it broke`, "Runtime.Unknown", `it broke`},
		"nothing":                {"", ``, "Runtime.Unknown", ""},
		"with its cause": {"Content-Type: application/vnd.aws.lambda.error.cause+json\r\n",
			`{"errorType":"E","errorMessage":"m","stackTrace":["a"],"errorCause":{"x":1}}`, "E",
			`{"errorMessage":"m","errorType":"E","stackTrace":["a"]}`},
		"a code and no body": {"Lambda-Runtime-Function-Error-Type: Runtime.OutOfMemory\r\n", ``, "Runtime.OutOfMemory", ""},
		"half an object":     {"", `{"errorType":"Sandbox.Timedout","errorMessage":7}`, "Runtime.Unknown", `{"errorType":"Sandbox.Timedout","errorMessage":7}`},
		"half an object with its cause": {"Content-Type: application/vnd.aws.lambda.error.cause+json\r\n",
			`{"errorType":"Sandbox.Timedout","errorMessage":7}`, "Runtime.Unknown", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := setup(t)
			r := e.running()
			r.send(post("/invocation/"+id+"/error", test.body, test.headers))
			a := e.answered()
			if a.Error == nil || a.Error.Type != test.kind || string(a.Error.Body) != test.want || !a.Error.Posted {
				t.Fatalf("error %+v, want %s %s", a.Error, test.kind, test.want)
			}
			r.expect(accepted)
		})
	}
}
