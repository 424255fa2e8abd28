package runtimeapi_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker/runtimeapi"
)

// TestTooLarge answers more than the limit: the caller is told how much, the runtime 413, and the call is over (A1).
func TestTooLarge(t *testing.T) {
	t.Parallel()
	over := schema.MaxAnswer + 1
	limit := "(" + strconv.Itoa(schema.MaxAnswer) + " bytes)."
	tooLarge := refusal("413 Request Entity Too Large", "RequestEntityTooLarge", "Exceeded maximum allowed payload size "+limit)
	for name, test := range map[string]struct {
		send string
		size int
	}{
		"length":           {response(strings.Repeat("x", over)), over},
		"chunks":           {chunked("", strings.Repeat("x", over-1), "xx", "more"), over + 1},
		"chunks announced": {chunked("Lambda-Runtime-Function-Error-Type: E\r\n", strings.Repeat("x", over+5)), over + 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := setup(t)
			r := e.running()
			r.send(test.send)
			a := e.answered()
			want := "Response payload size (" + strconv.Itoa(test.size) + " bytes) exceeded maximum allowed payload size " + limit
			if a.Error == nil || a.Error.Type != "Function.ResponseSizeTooLarge" || a.Error.Message != want || a.Error.Body != nil {
				t.Fatalf("error %+v, want %q", a.Error, want)
			}
			r.expect(tooLarge)
			r.send(post("/invocation/"+id+"/error", `{}`))
			r.expect(refusal("403 Forbidden", "InvalidStateTransition",
				"State transition from RuntimeResponseSentState to InvocationErrorResponse failed for runtime. "+notAllowed))
			r.send(next)
			e.event("parked")
		})
	}
}

func TestLargestAnswer(t *testing.T) {
	t.Parallel()
	for _, send := range []func(string) string{func(s string) string { return response(s) }, func(s string) string { return chunked("", s) }} {
		e := setup(t)
		r := e.running()
		body := strings.Repeat("x", schema.MaxAnswer)
		r.send(send(body))
		if a := e.answered(); a.Error != nil || string(a.Payload) != body {
			t.Fatalf("answer of %d bytes, %+v", len(a.Payload), a.Error)
		}
		r.expect(accepted)
	}
}

// TestHugeAnnounced announces a gigabyte: it is refused without waiting for it, and without room for it.
func TestHugeAnnounced(t *testing.T) {
	t.Parallel()
	e := setup(t)
	r := e.running()
	r.send("POST /2018-06-01/runtime/invocation/" + id + "/response HTTP/1.1\r\nContent-Length: 1073741824\r\n\r\nxxxx")
	if a := e.answered(); a.Error == nil || a.Error.Type != "Function.ResponseSizeTooLarge" {
		t.Fatalf("error %+v", a.Error)
	}
	if n := e.budget.Used(); n != 0 {
		t.Fatalf("%d bytes are taken of the budget", n)
	}
	r.expect(refusal("413 Request Entity Too Large", "RequestEntityTooLarge",
		"Exceeded maximum allowed payload size ("+strconv.Itoa(schema.MaxAnswer)+" bytes).", closing))
	r.expectEnd()
	again := e.dial()
	again.send(next)
	e.event("parked")
}

// TestCutOff ends an answer before its end.
func TestCutOff(t *testing.T) {
	t.Parallel()
	whole := response(strings.Repeat("x", 10_000))
	chunks := chunked("", "aaaa", "bbbb")
	for name, send := range map[string]string{
		"length":          whole[:len(whole)-1],
		"length, at once": strings.Replace(response("x"), "Content-Length: 1", "Content-Length: 5", 1),
		"in a chunk":      chunks[:len(chunks)-14],
		"between chunks":  chunks[:len(chunks)-6],
		"in the trailers": chunks[:len(chunks)-2],
		"bad chunk size":  strings.Replace(chunks, "4;ext", "4g;ext", 1),
		"bad chunk end":   strings.Replace(chunks, "aaaa\r\n", "aaaa,,", 1),
		"chunk too large": strings.Replace(chunks, "4;ext", "fffffffffffff;ext", 1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := setup(t)
			r := e.running()
			r.send(send)
			if err := r.conn.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			a := e.answered()
			if !a.Broken || a.Error == nil || a.Error.Type != "Runtime.TruncatedResponse" {
				t.Fatalf("answer %+v, want it broken", a)
			}
			r.expect(refusal("400 Bad Request", "TruncatedHTTPRequest", "HTTP request detected as truncated", closing))
		})
	}
}

// TestErrorCauseHeader sends the largest header that runtimes send, and one that is larger.
func TestErrorCauseHeader(t *testing.T) {
	t.Parallel()
	e := setup(t)
	r := e.running()
	cause := "LAMBDA-Runtime-Function-XRay-Error-Cause: " + strings.Repeat("c", 1<<20-1) + "\r\n"
	r.send(post("/invocation/"+id+"/error", `{"errorType":"E"}`, cause) + next)
	if a := e.answered(); a.Error == nil || a.Error.Type != "E" {
		t.Fatalf("error %+v", a.Error)
	}
	r.expect(accepted)
}

// TestSlowHeader begins a request and does not end it, on as many connections as there may be but one: others are served,
// more are refused, and the server ends in time.
func TestSlowHeader(t *testing.T) {
	t.Parallel()
	e := setup(t, func(c *runtimeapi.Config) { c.MaxConnections = 4 })
	for range 3 {
		e.dial().send("GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: ")
	}
	eventually(t, "three connections", func() bool { return e.server.Connections() == 3 })
	e.parked()
	e.dial().expectEnd()
}

// TestCloseInEveryPhase closes a server with connections in all kinds of states; goleak watches.
func TestCloseInEveryPhase(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(*environment){
		"new":       func(*environment) {},
		"connected": func(e *environment) { e.dial() },
		"parked":    func(e *environment) { e.parked() },
		"running":   func(e *environment) { e.running() },
		"pending": func(e *environment) {
			r := e.running()
			r.send(response(`1`))
			e.answered()
			e.start(`2`)
		},
		"in a body": func(e *environment) { e.running().send(response(strings.Repeat("x", 1<<20))[:1<<19]) },
		"unread":    func(e *environment) { e.parked(); e.start(strings.Repeat("p", 6<<20)) },
		"behind a parked next": func(e *environment) {
			r := e.dial()
			r.send(next + "GET /ping HTTP/1.1\r\n\r\n")
			e.event("parked first")
		},
		"extension": func(e *environment) {
			r := e.dial()
			r.send("GET /2020-01-01/extension/event/next HTTP/1.1\r\nLambda-Extension-Identifier: " + e.register(r) + "\r\n\r\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := setup(t)
			prepare(e)
			e.server.Close()
			e.server.Close()
			if err := e.server.Start(&runtimeapi.Invocation{RequestID: id}); err != runtimeapi.ErrClosed {
				t.Fatalf("start: %v, want ErrClosed", err)
			}
			if conn, err := net.Dial("tcp", e.addr); err == nil {
				_ = conn.Close()
				t.Fatal("the listener is open")
			}
		})
	}
}

// TestBudgetIsWaitedFor lets a body wait for the budget until it is free.
func TestBudgetIsWaitedFor(t *testing.T) {
	t.Parallel()
	e := setup(t)
	if !e.budget.Acquire(63<<20, nil) {
		t.Fatal("no budget")
	}
	r := e.running()
	go func() {
		_, _ = io.WriteString(r.conn, response(strings.Repeat("x", 2<<20)))
	}()
	e.dialPing()
	select {
	case ev := <-e.told:
		t.Fatalf("event %q: the body did not wait", ev)
	default:
	}
	e.budget.Release(63 << 20)
	if a := e.answered(); len(a.Payload) != 2<<20 {
		t.Fatalf("answer of %d bytes", len(a.Payload))
	}
	r.expect(accepted)
}

func (e *environment) dialPing() {
	p := e.dial()
	p.send("GET /ping HTTP/1.1\r\n\r\n")
	p.expect("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\npong")
}

// FuzzConnection feeds a connection anything, in pieces of any size, in the middle of a call. What comes back is HTTP, the
// call is answered at most once, nothing is kept, and nothing panics.
func FuzzConnection(f *testing.F) {
	for _, seed := range []string{
		next, response(`1`) + next, chunked("a: b\r\n", "x", "yy"), post("/init/error", `{}`),
		"GET /ping HTTP/1.1\r\n\r\n" + next + next, "POST / HTTP/1.1\r\nContent-Length: 99\r\n\r\n",
		post("/invocation/"+id+"/error", `{"errorType":1}`, "Expect: 100-continue\r\n"),
		"POST /2020-01-01/extension/register HTTP/1.1\r\nLambda-Extension-Name: a\r\nContent-Length: 15\r\n\r\n{\"events\":null}",
		response(`1`, "Connection: close\r\n"), "PUT /2022-07-01/telemetry HTTP/1.1\r\n\r\n",
		ask(), ask("", "Origin: x"), ask("", "X-Forwarded-For: "+strings.Repeat("a", 99)),
	} {
		f.Add([]byte(next+seed), uint8(7))
	}
	f.Fuzz(func(t *testing.T, input []byte, piece uint8) {
		ev := &counting{}
		cfg := runtimeapi.Config{ARN: "arn", Events: ev, Budget: runtimeapi.NewBudget(16 << 20)}
		withTokens(nil)(&cfg)
		s := runtimeapi.New(cfg)
		ev.server = s
		c := &scripted{input: input, piece: int(piece) + 1, closed: make(chan struct{})}
		s.Serve(&onceListener{conn: c, done: make(chan struct{})})
		<-c.closed
		s.Close()
		if ev.answered > ev.started {
			t.Fatalf("%d answers for %d calls", ev.answered, ev.started)
		}
		if out := c.output.Bytes(); len(out) > 0 && !bytes.HasPrefix(out, []byte("HTTP/1.1 ")) {
			t.Fatalf("wrote %q", clip(out))
		}
	})
}

// counting starts a call whenever one is asked for.
type counting struct {
	server            *runtimeapi.Server
	started, answered int
}

func (c *counting) start() {
	if c.server.Start(&runtimeapi.Invocation{RequestID: id, Deadline: time.UnixMilli(1), Payload: []byte(`1`)}) == nil {
		c.started++
	}
}
func (c *counting) Parked(bool)                      { c.start() }
func (c *counting) InitFailed(*schema.FunctionError) {}
func (c *counting) Answered(a *runtimeapi.Answer) {
	c.answered++
	if a.Parked {
		c.start()
	}
}

// scripted is a connection that says what it was given and keeps what it hears.
type scripted struct {
	net.Conn
	input  []byte
	piece  int
	output bytes.Buffer
	closed chan struct{}
	ended  bool
}

func (c *scripted) Read(p []byte) (int, error) {
	if len(c.input) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.input[:min(c.piece, len(c.input))])
	c.input = c.input[n:]
	return n, nil
}

func (c *scripted) Write(p []byte) (int, error) { return c.output.Write(p) }

func (c *scripted) Close() error {
	if !c.ended {
		c.ended = true
		close(c.closed)
	}
	return nil
}

// onceListener gives one connection.
type onceListener struct {
	conn net.Conn
	done chan struct{}
}

func (l *onceListener) Accept() (net.Conn, error) {
	if c := l.conn; c != nil {
		l.conn = nil
		return c, nil
	}
	<-l.done
	return nil, errors.Join(net.ErrClosed, os.ErrClosed)
}

func (l *onceListener) Close() error {
	select {
	case <-l.done:
	default:
		close(l.done)
	}
	return nil
}

func (l *onceListener) Addr() net.Addr { return &net.TCPAddr{} }
