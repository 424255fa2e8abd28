package runtimes_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker/runtimeapi"
)

// realAPI is Hearth's Runtime API as a worker has it. What the runtime sends is written down on the way, so that a test can
// look at heads and trailers too; what the server made of it is compared with that.
type realAPI struct {
	t      testing.TB
	server *runtimeapi.Server
	posted chan answer

	mu    sync.Mutex
	taken int           // connections
	sent  *bytes.Buffer // by the connection that sent last, requests that are not looked at yet
}

var _ runtimeapi.Events = (*realAPI)(nil)

func newRealAPI(t testing.TB, l net.Listener) *realAPI {
	a := &realAPI{t: t, posted: make(chan answer, 16), sent: &bytes.Buffer{}}
	a.server = runtimeapi.New(runtimeapi.Config{ARN: "arn:aws:lambda:us-east-1:000000000000:function:f", Function: "f", Version: "7", Events: a,
		Host: l.Addr().String(), TokenAuth: tokenAuth, Token: func(context.Context) (schema.Token, error) {
			return schema.Token{Text: pulled, Life: time.Minute}, nil
		}})
	a.server.Serve(&recordingListener{l, a})
	return a
}

func (a *realAPI) give(c call) error {
	return a.server.Start(&runtimeapi.Invocation{RequestID: c.id, Deadline: time.Now().Add(time.Hour),
		Traceparent: telemetry.FromXRay(c.headers["Lambda-Runtime-Trace-Id"]), ClientContext: []byte(c.headers["Lambda-Runtime-Client-Context"]),
		Tenant: c.headers["Lambda-Runtime-Aws-Tenant-Id"], Token: c.headers["Hearth-Tenant-Token"], Payload: []byte(c.event)})
}

func (a *realAPI) posts() <-chan answer { return a.posted }

func (a *realAPI) connections() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.taken
}

func (a *realAPI) close() { a.server.Close() }

func (a *realAPI) Parked(bool) {}

func (a *realAPI) InitFailed(f *schema.FunctionError) {
	got := a.last()
	if got.where != "init/error" || string(f.Body) != got.body {
		a.t.Errorf("the server tells of the init %+v %q, of the request %+v", f, f.Body, got)
	}
	a.posted <- got
}

func (a *realAPI) Answered(told *runtimeapi.Answer) {
	if told.Error != nil && schema.Code(told.Error.Type) == schema.CodeResponseTooLarge {
		a.posted <- answer{where: "response", large: true, body: told.Error.Message} // the request is still under way
		return
	}
	got := a.last()
	failure := told.Error
	payload := string(told.Payload)
	switch {
	case failure == nil && got.where == "response" && got.trailer.Get("Lambda-Runtime-Function-Error-Type") == "" && payload == got.body:
	case failure != nil && got.where == "error" && string(failure.Body) == got.body:
	case failure != nil && got.where == "response" && string(failure.Body) == decode64(a.t, got.trailer.Get("Lambda-Runtime-Function-Error-Body")):
	default:
		a.t.Errorf("the server tells %+v with the error %+v of the request %+v", told, failure, got)
	}
	a.posted <- got
}

// last is what was posted last.
func (a *realAPI) last() (got answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	whole := a.sent.Bytes()
	at := bytes.NewReader(whole)
	for seen := 0; ; {
		in := bufio.NewReader(at)
		r, err := http.ReadRequest(in)
		if err != nil {
			a.sent.Next(seen)
			return got
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			a.sent.Next(seen)
			return got
		}
		seen = len(whole) - at.Len() - in.Buffered()
		at = bytes.NewReader(whole[seen:])
		path := strings.TrimPrefix(r.URL.Path, "/2018-06-01/runtime/")
		if r.Method != http.MethodPost {
			continue
		}
		got = answer{where: path, body: string(body), headers: r.Header, trailer: r.Trailer}
		if parts := strings.Split(path, "/"); parts[0] == "invocation" && len(parts) == 3 {
			got.id, got.where = parts[1], parts[2]
		}
	}
}

// recordingListener writes down what comes in.
type recordingListener struct {
	net.Listener
	api *realAPI
}

func (l *recordingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.api.mu.Lock()
	defer l.api.mu.Unlock()
	l.api.taken++
	return &recordingConn{conn.(*net.TCPConn), l.api, &bytes.Buffer{}}, nil
}

type recordingConn struct {
	*net.TCPConn
	api  *realAPI
	sent *bytes.Buffer
}

func (c *recordingConn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	c.api.mu.Lock()
	defer c.api.mu.Unlock()
	if n > 0 { // its end is not sent, and may be read when another connection has sent more
		c.sent.Write(p[:n])
		c.api.sent = c.sent
	}
	return n, err
}
