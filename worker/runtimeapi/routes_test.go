package runtimeapi_test

import (
	"strings"
	"testing"
	"time"

	"github.com/hearth-run/hearth/worker/runtimeapi"
)

const notAllowed = "Error: State transition is not allowed"

// TestRoutes sends raw bytes and compares the raw bytes that come back, for every route of the Runtime API.
func TestRoutes(t *testing.T) {
	t.Parallel()
	fresh := func(e *environment) *runtime { return e.dial() }
	parked := func(e *environment) *runtime { e.parked(); return e.dial() }
	running := func(e *environment) *runtime { return e.running() }
	answered := func(e *environment) *runtime {
		r := e.running()
		r.send(response(`1`))
		r.expect(accepted)
		return r
	}
	for name, test := range map[string]struct {
		from func(*environment) *runtime
		send string
		want string
	}{
		"ping":               {fresh, "GET /2018-06-01/ping HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\npong"},
		"response":           {running, response(`{"a":1}`), accepted},
		"response, empty":    {running, response(``), accepted},
		"error":              {running, post("/invocation/"+id+"/error", `{"errorType":"E"}`), accepted},
		"init error":         {fresh, post("/init/error", `{"errorType":"E"}`), accepted},
		"restore next":       {fresh, "GET /2018-06-01/runtime/restore/next HTTP/1.1\r\n\r\n", refusal("404 Not Found", "NotFound", "the Runtime API has no such path")},
		"restore error":      {fresh, post("/restore/error", `{}`), refusal("404 Not Found", "NotFound", "the Runtime API has no such path")},
		"unknown path":       {fresh, "GET / HTTP/1.1\r\n\r\n", refusal("404 Not Found", "NotFound", "the Runtime API has no such path")},
		"wrong method":       {fresh, "DELETE /2018-06-01/runtime/invocation/next HTTP/1.1\r\n\r\n", refusal("405 Method Not Allowed", "MethodNotAllowed", "the method is not allowed here")},
		"wrong method, post": {fresh, post("/invocation/next", `{}`), refusal("405 Method Not Allowed", "MethodNotAllowed", "the method is not allowed here")},
		"next while it runs": {running, next, refusal("403 Forbidden", "InvalidStateTransition",
			"State transition from Running to Ready failed for runtime. "+notAllowed)},
		"another id": {running, post("/invocation/00000000-0000-4000-8000-000000000000/response", `1`),
			refusal("400 Bad Request", "InvalidRequestID", "Invalid request ID")},
		"no id": {running, post("/invocation//response", `1`), refusal("400 Bad Request", "InvalidRequestID", "Invalid request ID")},
		"endless id": {running, post("/invocation/"+strings.Repeat("a", 1000)+"/response", `1`),
			refusal("400 Bad Request", "InvalidRequestID", "Invalid request ID")},
		"id before any call": {parked, response(`1`), refusal("400 Bad Request", "InvalidRequestID", "Invalid request ID")},
		"answered twice": {answered, response(`2`), refusal("403 Forbidden", "InvalidStateTransition",
			"State transition from RuntimeResponseSentState to InvocationResponse failed for runtime. "+notAllowed)},
		"error after the answer": {answered, post("/invocation/"+id+"/error", `{}`), refusal("403 Forbidden", "InvalidStateTransition",
			"State transition from RuntimeResponseSentState to InvocationErrorResponse failed for runtime. "+notAllowed)},
		"init error after the init": {parked, post("/init/error", `{}`), refusal("403 Forbidden", "InvalidStateTransition",
			"State transition from Ready to InitError failed for runtime. "+notAllowed)},
		"response mode": {running, response(`1`, "Lambda-Runtime-Function-Response-Mode: buffered\r\n"),
			refusal("400 Bad Request", "InvalidFunctionResponseMode", "Invalid function response mode")},
		"streaming": {running, response(`1`, "lambda-runtime-function-response-mode: streaming\r\n"), accepted},
		"close": {running, response(`1`, "Connection: keep-alive, Close\r\n"), strings.Replace(accepted, "Content-Length",
			closing+"Content-Length", 1)},
		"absolute target": {fresh, "GET http://127.0.0.1:9001/ping?x=1 HTTP/1.1\r\n\r\n",
			"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\npong"},
		"blank lines first, bare line feeds": {fresh, "\r\n\nGET /ping HTTP/1.1\nHost: a\n\n",
			"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\npong"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := setup(t)
			r := test.from(e)
			r.send(test.send)
			r.expect(test.want)
		})
	}
}

// TestMalformed sends what is no request of HTTP/1.1: it is refused, the connection ends, the environment lives on.
func TestMalformed(t *testing.T) {
	t.Parallel()
	bad := func(status, text string) string { return refusal(status, "InvalidRequest", text, closing) }
	for name, test := range map[string]struct{ send, want string }{
		"garbage":           {"\x16\x03\x01\x02\x00\x01\n\n", bad("400 Bad Request", "this is no HTTP request")},
		"HTTP/1.0":          {"GET /ping HTTP/1.0\r\n\r\n", bad("400 Bad Request", "the Runtime API speaks HTTP/1.1")},
		"HTTP/2":            {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", bad("400 Bad Request", "the Runtime API speaks HTTP/1.1")},
		"no target":         {"GET  HTTP/1.1\r\n\r\n", bad("400 Bad Request", "the request target is malformed")},
		"target with space": {"GET /a b HTTP/1.1\r\n\r\n", bad("400 Bad Request", "the Runtime API speaks HTTP/1.1")},
		"control byte":      {"GET /a\x00 HTTP/1.1\r\n\r\n", bad("400 Bad Request", "the request target is malformed")},
		"no colon":          {"GET /ping HTTP/1.1\r\nHost\r\n\r\n", bad("400 Bad Request", "a header is malformed")},
		"blank before colon": {"GET /ping HTTP/1.1\r\nContent-Length : 1\r\n\r\n",
			bad("400 Bad Request", "a header is malformed")},
		"folded": {"GET /ping HTTP/1.1\r\nA: b\r\n c\r\n\r\n", bad("400 Bad Request", "a header is malformed")},
		"length": {"POST /ping HTTP/1.1\r\nContent-Length: -1\r\n\r\n", bad("400 Bad Request", "Content-Length is malformed")},
		"two lengths": {"POST /ping HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
			bad("400 Bad Request", "Content-Length is malformed")},
		"length and chunks": {"POST /ping HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
			bad("400 Bad Request", "a request has Content-Length or Transfer-Encoding, not both")},
		"unknown encoding": {"POST /ping HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
			bad("501 Not Implemented", "the transfer encoding is not supported")},
		"expectation": {"POST /ping HTTP/1.1\r\nExpect: tea\r\n\r\n",
			bad("417 Expectation Failed", "the expectation is not supported")},
		"endless line": {"GET /" + strings.Repeat("a", 8<<10), bad("414 Request URI Too Long", "the request line is too long")},
		"endless header that counts": {"GET /ping HTTP/1.1\r\nContent-Type: " + strings.Repeat("a", 8<<10),
			bad("431 Request Header Fields Too Large", "the headers are too long")},
		"endless headers": {"GET /ping HTTP/1.1\r\n" + strings.Repeat("A: "+strings.Repeat("b", 1000)+"\r\n", 1200),
			bad("431 Request Header Fields Too Large", "the headers are too long")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := setup(t)
			r := e.dial()
			r.send(test.send)
			r.expect(test.want)
			r.expectEnd()
			e.parked()
		})
	}
}

// TestInvocationHead looks at every header of a call (A2), and that no value of a caller's can begin one.
func TestInvocationHead(t *testing.T) {
	t.Parallel()
	e := setup(t)
	r := e.parked()
	err := e.server.Start(&runtimeapi.Invocation{
		RequestID: id, Deadline: time.UnixMilli(1542409706888), Qualifier: "live",
		Traceparent: "00-5bef4de7ad49b0e87f6ef6c87fc2e700-9a9197af755a6419-01", Tracestate: "a=1,b=2",
		ClientContext: []byte("{\"custom\":\r\n\t{\"k\":\"grüß 😀\"}}"), Tenant: "acme / 1", Payload: []byte("x"),
	})
	if err != nil {
		t.Fatal(err)
	}
	r.expect("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: " + id +
		"\r\nLambda-Runtime-Deadline-Ms: 1542409706888\r\n" +
		"Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:000000000000:function:echo:live\r\n" +
		"Lambda-Runtime-Trace-Id: Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1\r\n" +
		"traceparent: 00-5bef4de7ad49b0e87f6ef6c87fc2e700-9a9197af755a6419-01\r\ntracestate: a=1,b=2\r\n" +
		"Lambda-Runtime-Client-Context: {\"custom\":   {\"k\":\"gr\\u00fc\\u00df \\ud83d\\ude00\"}}\r\n" +
		"Lambda-Runtime-Aws-Tenant-Id: acme / 1\r\nContent-Length: 1\r\n\r\nx")
}

func TestStartRefusesWhatCannotStandInAHeader(t *testing.T) {
	t.Parallel()
	e := setup(t)
	r := e.parked()
	for name, call := range map[string]runtimeapi.Invocation{
		"no id":     {},
		"id":        {RequestID: "a\r\nb"},
		"qualifier": {RequestID: id, Qualifier: "live\r\nContent-Length: 0"},
		"tenant":    {RequestID: id, Tenant: "a\nb"},
		"tenant ü":  {RequestID: id, Tenant: "ü"},
	} {
		if err := e.server.Start(&call); err != runtimeapi.ErrHeader {
			t.Errorf("%s: %v, want ErrHeader", name, err)
		}
	}
	e.start(`"still parked"`)
	r.expect(invocation(`"still parked"`))
}

// TestTraceHeaders: a call of no trace has an id of its own in the form that runtimes know, and broken tracing breaks no call.
func TestTraceHeaders(t *testing.T) {
	t.Parallel()
	const (
		trace = "00-5bef4de7ad49b0e87f6ef6c87fc2e700-9a9197af755a6419-00"
		own   = "Lambda-Runtime-Trace-Id: Root=1-8476a536-e9f411e897392dfe598c3fcd;Parent=97392dfe598c3fcd;Sampled=0\r\n"
		given = "Lambda-Runtime-Trace-Id: Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=0\r\ntraceparent: " + trace + "\r\n"
	)
	for name, test := range map[string]struct{ id, traceparent, tracestate, want string }{
		"none":             {id, "", "", own},
		"none, state":      {id, "", "a=1", own},
		"not sampled":      {id, trace, "", given},
		"broken":           {id, trace + "\r\nEvil: 1", "", own},
		"zeros":            {id, "00-00000000000000000000000000000000-9a9197af755a6419-01", "", own},
		"state of a line":  {id, trace, "a=1\r\nEvil: 1", given},
		"state too long":   {id, trace, "a=" + strings.Repeat("x", 511), given},
		"id that is none":  {"no-uuid", "", "", ""},
		"id without parts": {"00000000-0000-0000-0000-000000000000", "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := setup(t)
			r := e.parked()
			if err := e.server.Start(&runtimeapi.Invocation{
				RequestID: test.id, Deadline: time.UnixMilli(1), Traceparent: test.traceparent, Tracestate: test.tracestate,
			}); err != nil {
				t.Fatal(err)
			}
			r.expect("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: " + test.id +
				"\r\nLambda-Runtime-Deadline-Ms: 1\r\nLambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:000000000000:function:echo\r\n" +
				test.want + "Content-Length: 0\r\n\r\n")
		})
	}
}
