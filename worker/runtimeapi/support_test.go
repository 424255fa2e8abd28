package runtimeapi_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker/runtimeapi"
)

// patience is how long a test waits for what has to come.
const patience = 20 * time.Second

// environment is a server with its listener, and the test on both sides of it: as worker and as runtime.
type environment struct {
	t      testing.TB
	server *runtimeapi.Server
	addr   string
	budget *runtimeapi.Budget
	told   chan string            // events in order: "parked first", "parked", "answered", "init failed"
	answer chan runtimeapi.Answer // copies
	failed chan *schema.FunctionError

	mu         sync.Mutex
	onAnswered func(*runtimeapi.Answer)
	onParked   func()
}

func setup(t testing.TB, change ...func(*runtimeapi.Config)) *environment {
	t.Helper()
	e := &environment{t: t, budget: runtimeapi.NewBudget(64 << 20), told: make(chan string, 1024),
		answer: make(chan runtimeapi.Answer, 1024), failed: make(chan *schema.FunctionError, 1)}
	cfg := runtimeapi.Config{ARN: "arn:aws:lambda:us-east-1:000000000000:function:echo", Function: "echo", Version: "7",
		Handler: "index.handler", Account: "000000000000", Budget: e.budget, Events: e}
	for _, f := range change {
		f(&cfg)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e.addr = listener.Addr().String()
	e.server = runtimeapi.New(cfg)
	e.server.Serve(listener)
	t.Cleanup(func() {
		e.server.Close()
		if n := e.budget.Used(); n != 0 {
			t.Errorf("%d bytes of the budget were not given back", n)
		}
	})
	return e
}

func (e *environment) Parked(first bool) {
	if first {
		e.told <- "parked first"
	} else {
		e.told <- "parked"
	}
	e.mu.Lock()
	f := e.onParked
	e.mu.Unlock()
	if f != nil {
		f()
	}
}

func (e *environment) Answered(a *runtimeapi.Answer) {
	c := *a
	c.Payload = bytes.Clone(a.Payload)
	if a.Error != nil {
		f := *a.Error
		f.Body = bytes.Clone(f.Body)
		c.Error = &f
	}
	e.told <- "answered"
	e.answer <- c
	e.mu.Lock()
	f := e.onAnswered
	e.mu.Unlock()
	if f != nil {
		f(a)
	}
}

func (e *environment) InitFailed(f *schema.FunctionError) {
	e.told <- "init failed"
	e.failed <- f
}

// event waits for the next event.
func (e *environment) event(want string) {
	e.t.Helper()
	select {
	case got := <-e.told:
		if got != want {
			e.t.Fatalf("event %q, want %q", got, want)
		}
	case <-time.After(patience):
		e.t.Fatalf("no event, want %q", want)
	}
}

func (e *environment) answered() runtimeapi.Answer {
	e.t.Helper()
	e.event("answered")
	return <-e.answer
}

const id = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"

// start starts a call with the test's id.
func (e *environment) start(payload string) {
	e.t.Helper()
	if err := e.server.Start(&runtimeapi.Invocation{RequestID: id, Deadline: time.UnixMilli(1542409706888),
		Payload: []byte(payload)}); err != nil {
		e.t.Fatal(err)
	}
}

// invocation is what start writes.
func invocation(payload string) string {
	return head(len(payload)) + payload
}

func head(n int) string {
	return "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: " + id +
		"\r\nLambda-Runtime-Deadline-Ms: 1542409706888\r\n" +
		"Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:000000000000:function:echo\r\n" +
		"Lambda-Runtime-Trace-Id: Root=1-8476a536-e9f411e897392dfe598c3fcd;Parent=97392dfe598c3fcd;Sampled=0\r\n" +
		"Content-Length: " + strconv.Itoa(n) + "\r\n\r\n"
}

const (
	next     = "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: runtime\r\n\r\n"
	accepted = "HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{\"status\":\"OK\"}\n"
)

// post is a request with a body and Content-Length.
func post(path, body string, headers ...string) string {
	return "POST /2018-06-01/runtime" + path + " HTTP/1.1\r\nHost: runtime\r\n" + strings.Join(headers, "") +
		"Content-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
}

func response(body string, headers ...string) string {
	return post("/invocation/"+id+"/response", body, headers...)
}

// refusal is an error as the server writes it.
func refusal(status, errorType, message string, headers ...string) string {
	body := `{"errorMessage":"` + message + `","errorType":"` + errorType + `"}` + "\n"
	return "HTTP/1.1 " + status + "\r\nContent-Type: application/json\r\n" + strings.Join(headers, "") + "Content-Length: " +
		strconv.Itoa(len(body)) + "\r\n\r\n" + body
}

const closing = "Connection: close\r\n"

// runtime is one connection of the runtime.
type runtime struct {
	t    testing.TB
	conn *net.TCPConn
}

func (e *environment) dial() *runtime {
	e.t.Helper()
	conn, err := net.Dial("tcp", e.addr)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { _ = conn.Close() })
	return &runtime{t: e.t, conn: conn.(*net.TCPConn)}
}

// parked dials and asks for a call.
func (e *environment) parked() *runtime {
	e.t.Helper()
	r := e.dial()
	r.send(next)
	e.event("parked first")
	return r
}

// running dials, asks for a call and is given one.
func (e *environment) running() *runtime {
	e.t.Helper()
	r := e.parked()
	e.start(`{}`)
	r.expect(invocation(`{}`))
	return r
}

func (r *runtime) send(s string) {
	r.t.Helper()
	_ = r.conn.SetWriteDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(r.conn, s); err != nil {
		r.t.Fatal(err)
	}
}

// expect reads exactly these bytes.
func (r *runtime) expect(want string) {
	r.t.Helper()
	_ = r.conn.SetReadDeadline(time.Now().Add(patience))
	got := make([]byte, len(want))
	n, err := io.ReadFull(r.conn, got)
	if string(got[:n]) != want {
		r.t.Fatalf("read\n%q, want\n%q (%v)", clip(got[:n]), clip([]byte(want)), err)
	}
}

func clip(b []byte) []byte {
	if len(b) > 600 {
		return append(append([]byte{}, b[:600]...), "..."...)
	}
	return b
}

// expectEnd reads that the server ended the connection, with nothing more to say.
func (r *runtime) expectEnd() {
	r.t.Helper()
	_ = r.conn.SetReadDeadline(time.Now().Add(patience))
	n, err := io.Copy(io.Discard, r.conn)
	if n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		r.t.Fatalf("read %d bytes and %v, want the end", n, err)
	}
}

// expectNothing looks that nothing has been written so far: a ping on another connection is answered meanwhile.
func (e *environment) expectNothing(r *runtime) {
	e.t.Helper()
	p := e.dial()
	p.send("GET /ping HTTP/1.1\r\n\r\n")
	p.expect("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\npong")
	_ = r.conn.SetReadDeadline(time.Now())
	if n, err := r.conn.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		e.t.Fatalf("read %d bytes and %v, want nothing yet", n, err)
	}
}
