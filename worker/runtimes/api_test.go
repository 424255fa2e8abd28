package runtimes_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker/runtimes"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait.
const patience = 60 * time.Second

// call is one call of a script.
type call struct {
	id      string
	event   string
	headers map[string]string // over the usual ones
	refuse  int               // status for the answer instead of 202; of a scripted API
}

// answer is what a runtime posted for a call, or instead of its first next (init).
type answer struct {
	where   string // response, error, init/error
	id      string
	body    string
	headers http.Header
	trailer http.Header
	large   bool // too large: body is what the caller is told
}

// door is a Runtime API that a test has the other side of.
type door interface {
	give(call) error
	posts() <-chan answer
	connections() int
	close()
}

var (
	_ door = (*realAPI)(nil)
	_ door = (*scriptedAPI)(nil)
)

// scriptedAPI hands out calls that Hearth's own would not, and refuses answers that it would take.
type scriptedAPI struct {
	calls  chan call
	posted chan answer
	server *http.Server
	served chan struct{}

	mu     sync.Mutex
	conns  int            // connections that were opened
	refuse map[string]int // by request id
}

func newScriptedAPI(l net.Listener) *scriptedAPI {
	a := &scriptedAPI{calls: make(chan call, 1), posted: make(chan answer), served: make(chan struct{}), refuse: map[string]int{}}
	a.server = &http.Server{Handler: a, ConnState: func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			a.mu.Lock()
			a.conns++
			a.mu.Unlock()
		}
	}}
	go func() { // ends with close
		defer close(a.served)
		_ = a.server.Serve(l)
	}()
	return a
}

func (a *scriptedAPI) give(c call) error {
	a.calls <- c
	return nil
}

func (a *scriptedAPI) posts() <-chan answer { return a.posted }

func (a *scriptedAPI) connections() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.conns
}

func (a *scriptedAPI) close() {
	_ = a.server.Close()
	<-a.served
}

func (a *scriptedAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, ok := strings.CutPrefix(r.URL.Path, "/2018-06-01/runtime/")
	if !ok {
		http.NotFound(w, r)
		return
	}
	if path == "invocation/next" {
		a.next(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	got := answer{where: path, body: string(body), headers: r.Header, trailer: r.Trailer}
	if parts := strings.Split(path, "/"); parts[0] == "invocation" && len(parts) == 3 {
		got.id, got.where = parts[1], parts[2]
	}
	a.mu.Lock()
	status := a.refuse[got.id]
	a.mu.Unlock()
	if status == 0 {
		status = http.StatusAccepted
	}
	if status == http.StatusRequestEntityTooLarge {
		w.Header().Set("Connection", "close") // as a server that did not read the body does
	}
	a.posted <- got
	w.WriteHeader(status)
	_, _ = io.WriteString(w, `{"status":"OK"}`+"\n")
}

func (a *scriptedAPI) next(w http.ResponseWriter, r *http.Request) {
	select {
	case c := <-a.calls:
		a.mu.Lock()
		a.refuse[c.id] = c.refuse
		a.mu.Unlock()
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("Lambda-Runtime-Aws-Request-Id", c.id)
		h.Set("Lambda-Runtime-Deadline-Ms", fmt.Sprint(time.Now().Add(time.Hour).UnixMilli()))
		h.Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:000000000000:function:f")
		for name, value := range c.headers {
			h.Set(name, value)
		}
		_, _ = io.WriteString(w, c.event)
	case <-r.Context().Done():
	}
}

// program is a function's process at a Runtime API.
type program struct {
	t      *testing.T
	api    door
	output *bytes.Buffer // read after ended
	ended  chan struct{}
	err    error
	calls  int
	kill   context.CancelFunc
}

// need gives the interpreters that this host has, or skips; with CI=true it fails.
func need(t *testing.T, r *runtimes.Runtimes, runtime string) {
	t.Helper()
	_, err := r.Interpreter(runtime)
	switch {
	case err == nil:
	case os.Getenv("CI") == "true":
		t.Fatalf("CI=true, and this host lacks an interpreter: %v", err)
	default:
		t.Skipf("needs an interpreter: %v", err)
	}
}

// newRuntimes finds interpreters where this test was started.
func newRuntimes(t *testing.T) *runtimes.Runtimes {
	t.Helper()
	r, err := runtimes.New(runtimes.Config{Dir: t.TempDir(), Path: os.Getenv("PATH")})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// writePackage unpacks files into a folder.
func writePackage(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// start runs a package's handler at Hearth's Runtime API.
func start(t *testing.T, runtime, handler string, files map[string]string, change ...func(*schema.Binding)) *program {
	t.Helper()
	return startAt(t, func(l net.Listener) door { return newRealAPI(t, l) }, runtime, handler, files, change...)
}

// startScripted runs it at one that does what the test says.
func startScripted(t *testing.T, runtime, handler string, files map[string]string) *program {
	t.Helper()
	return startAt(t, func(l net.Listener) door { return newScriptedAPI(l) }, runtime, handler, files)
}

func startAt(t *testing.T, open func(net.Listener) door, runtime, handler string, files map[string]string, change ...func(*schema.Binding)) *program {
	t.Helper()
	r := newRuntimes(t)
	need(t, r, runtime)
	p := &program{t: t, output: &bytes.Buffer{}, ended: make(chan struct{})}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.api = open(listener)
	t.Cleanup(p.api.close)
	binding := &schema.Binding{
		Key:     schema.Key{FunctionID: "id", Version: "7"},
		Account: "default", Function: "f", Runtime: runtime, Handler: handler, MemoryMB: 256,
		Variables: schema.Variables{"GREETING": "hello"},
	}
	for _, f := range change {
		f(binding)
	}
	place := runtimes.Place{Code: writePackage(t, files), API: listener.Addr().String()}
	if binding.PerTenant {
		place.TokenAuth = tokenAuth
	}
	command, err := r.Command(binding, place)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.kill = cancel
	cmd := exec.CommandContext(ctx, command.Path, command.Args...)
	cmd.Dir, cmd.Env = command.Dir, command.Env
	cmd.Stdout, cmd.Stderr = p.output, p.output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the process, which cancel ends
		defer close(p.ended)
		p.err = cmd.Wait()
	}()
	t.Cleanup(func() {
		cancel()
		<-p.ended
		if t.Failed() {
			t.Logf("output:\n%s", p.output)
		}
	})
	return p
}

// call makes one call and returns its answer.
func (p *program) call(event string) answer {
	p.t.Helper()
	return p.make(call{event: event})
}

func (p *program) make(c call) answer {
	p.t.Helper()
	p.calls++
	if c.id == "" {
		c.id = fmt.Sprintf("00000000-0000-4000-8000-%012d", p.calls)
	}
	if err := p.api.give(c); err != nil {
		p.t.Fatalf("give call %s: %v", c.id, err)
	}
	got := p.posted()
	if got.id != c.id && !got.large {
		p.t.Fatalf("answered %q instead of %q", got.id, c.id)
	}
	return got
}

// posted waits for what the runtime posts next.
func (p *program) posted() answer {
	p.t.Helper()
	select {
	case got := <-p.api.posts():
		return got
	case <-p.ended:
		p.t.Fatalf("ended without an answer: %v\n%s", p.err, p.output)
	case <-time.After(patience):
		p.t.Fatal("no answer")
	}
	return answer{}
}

// exit waits for the end of the process and returns its status.
func (p *program) exit() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case got := <-p.api.posts():
		p.t.Fatalf("posted %+v instead of ending", got)
	case <-time.After(patience):
		p.t.Fatal("does not end")
	}
	var failed *exec.ExitError
	if errors.As(p.err, &failed) {
		return failed.Sys().(syscall.WaitStatus).ExitStatus()
	}
	if p.err != nil {
		p.t.Fatal(p.err)
	}
	return 0
}

// stop kills the process and waits, so that its output can be read.
func (p *program) stop() {
	p.kill()
	<-p.ended
}

// wantConnections compares how many connections the runtime has opened.
func (p *program) wantConnections(want int) {
	p.t.Helper()
	if got := p.api.connections(); got != want {
		p.t.Errorf("opened %d connections, want %d", got, want)
	}
}

// failure is an error object, of either language.
type failure struct {
	ErrorType    string    `json:"errorType"`
	ErrorMessage string    `json:"errorMessage"`
	RequestID    *string   `json:"requestId"`
	Trace        *[]string `json:"trace"`
	StackTrace   *[]string `json:"stackTrace"`
}

func (a answer) failure(t *testing.T) failure {
	t.Helper()
	var f failure
	if err := json.Unmarshal([]byte(a.body), &f); err != nil {
		t.Fatalf("%s %q: %v", a.where, a.body, err)
	}
	return f
}

// want compares an answer to a call.
func (a answer) want(t *testing.T, where, body string) {
	t.Helper()
	if a.where != where || a.body != body {
		t.Errorf("posted %s %s; want %s %s", a.where, a.body, where, body)
	}
}

// wantError compares type and message of an error.
func (a answer) wantError(t *testing.T, where, kind, message string) failure {
	t.Helper()
	f := a.failure(t)
	if a.where != where || f.ErrorType != kind || f.ErrorMessage != message {
		t.Errorf("posted %s %s: %q; want %s %s: %q", a.where, f.ErrorType, f.ErrorMessage, where, kind, message)
	}
	return f
}

func decode64(t testing.TB, s string) string {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
