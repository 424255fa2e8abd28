package runtimeapi_test

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hearth-run/hearth/worker/runtimeapi"
)

// roundTrip sends one request and reads the answer with Go's own parser.
func (r *runtime) roundTrip(request string) (*http.Response, string) {
	r.t.Helper()
	r.send(request)
	_ = r.conn.SetReadDeadline(time.Now().Add(patience))
	answer, err := http.ReadResponse(bufio.NewReader(r.conn), nil)
	if err != nil {
		r.t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return answer, string(body)
}

func registration(name, body string, headers ...string) string {
	return strings.Replace(post("/", body, append(headers, "Lambda-Extension-Name: "+name+"\r\n")...), "/2018-06-01/runtime/",
		"/2020-01-01/extension/register", 1)
}

func (e *environment) register(r *runtime) string {
	e.t.Helper()
	answer, _ := r.roundTrip(registration("own", `{"events":null}`))
	return answer.Header.Get("Lambda-Extension-Identifier")
}

func TestExtensionRegisters(t *testing.T) {
	t.Parallel()
	e := setup(t)
	r := e.dial()
	answer, body := r.roundTrip(registration("own", `{"events":null}`, "Lambda-Extension-Accept-Feature: accountId\r\n"))
	if answer.StatusCode != 200 || body != `{"functionName":"echo","functionVersion":"7","handler":"index.handler","accountId":"000000000000"}` {
		t.Fatalf("%d %s", answer.StatusCode, body)
	}
	id := answer.Header.Get("Lambda-Extension-Identifier")
	if len(id) != 36 || e.server.Extensions() != 1 {
		t.Fatalf("identifier %q, %d extensions", id, e.server.Extensions())
	}
	// event/next blocks; everything else goes on.
	r.send("GET /2020-01-01/extension/event/next HTTP/1.1\r\nLambda-Extension-Identifier: " + id + "\r\n\r\n")
	e.expectNothing(r)
	e.running()
	e.expectNothing(r)
}

func TestExtensionRefusals(t *testing.T) {
	t.Parallel()
	e := setup(t)
	event := func(header string) string {
		return "GET /2020-01-01/extension/event/next HTTP/1.1\r\n" + header + "\r\n"
	}
	r := e.dial()
	registered := e.register(r)
	for name, test := range map[string]struct {
		send   string
		status int
		want   string
	}{
		"no name":        {registration("", `{"events":[]}`), 403, "Extension.InvalidExtensionName"},
		"same name":      {registration("own", `{"events":[]}`), 403, "Extension.InvalidExtensionState"},
		"events":         {registration("b", `{"events":["INVOKE"]}`), 403, "Extension.InvalidEventType"},
		"no JSON":        {registration("b", `nope`), 403, "InvalidRequestFormat"},
		"no identifier":  {event(""), 403, "Extension.MissingExtensionIdentifier"},
		"bad identifier": {event("Lambda-Extension-Identifier: x\r\n"), 403, "Extension.InvalidExtensionIdentifier"},
		"unknown identifier": {event("Lambda-Extension-Identifier: 8476a536-e9f4-11e8-9739-2dfe598c3fcd\r\n"), 403,
			"Extension.UnknownExtensionIdentifier"},
		"telemetry": {"PUT /2022-07-01/telemetry HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", 202, "Telemetry.NotSupported"},
		"logs":      {"PUT /2020-08-15/logs HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", 202, "Logs.NotSupported"},
		"init error": {"POST /2020-01-01/extension/init/error HTTP/1.1\r\nLambda-Extension-Identifier: " + registered +
			"\r\nContent-Length: 2\r\n\r\n{}", 202, "OK"},
	} {
		answer, body := r.roundTrip(test.send)
		if answer.StatusCode != test.status || !strings.Contains(body, `"`+test.want+`"`) {
			t.Errorf("%s: %d %s, want %d %s", name, answer.StatusCode, body, test.status, test.want)
		}
	}
	for i := range 9 {
		if answer, body := r.roundTrip(registration("n"+string(rune('0'+i)), `{"events":[]}`)); answer.StatusCode != 200 {
			t.Fatalf("extension %d: %s", i+2, body)
		}
	}
	if answer, body := r.roundTrip(registration("eleventh", `{"events":[]}`)); answer.StatusCode != 403 ||
		!strings.Contains(body, "Extension.TooManyExtensions") {
		t.Fatalf("the eleventh: %d %s", answer.StatusCode, body)
	}
}

func TestBudget(t *testing.T) {
	t.Parallel()
	b := runtimeapi.NewBudget(10)
	if b.Acquire(11, nil) {
		t.Fatal("took more than there is")
	}
	if !b.Acquire(8, nil) || b.Try(3) || !b.Try(2) {
		t.Fatal("8 and 2 of 10 fit, 8 and 3 do not")
	}
	b.Release(2)
	type result struct {
		name string
		ok   bool
	}
	got := make(chan result)
	stop := make(chan struct{})
	go func() { got <- result{"large", b.Acquire(9, stop)} }()
	eventually(t, "the large one to wait", func() bool { return b.Waiting() == 1 })
	go func() { got <- result{"small", b.Acquire(1, nil)} }()
	eventually(t, "both to wait", func() bool { return b.Waiting() == 2 })
	close(stop) // the large one gives up, and the small one behind it has its turn
	for range 2 {
		if r := <-got; r.ok != (r.name == "small") {
			t.Fatalf("%s: %v", r.name, r.ok)
		}
	}
	b.Release(9)
	if b.Used() != 0 {
		t.Fatalf("%d bytes are taken", b.Used())
	}
	var none *runtimeapi.Budget
	if !none.Acquire(1<<40, nil) || !none.Try(1<<40) {
		t.Fatal("no budget is without bound")
	}
	none.Release(1)
}
