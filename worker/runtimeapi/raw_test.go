package runtimeapi_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker/runtimeapi"
)

// child is a function's process on the server.
type child struct {
	*environment
	cmd    *exec.Cmd
	output *bytes.Buffer // read after ended
	ended  chan error
}

// run starts a command as a function's process and waits for its first next.
func (e *environment) run(cmd *exec.Cmd) *child {
	e.t.Helper()
	c := &child{environment: e, cmd: cmd, output: &bytes.Buffer{}, ended: make(chan error, 1)}
	dir := e.t.TempDir()
	cmd.Env = []string{"AWS_LAMBDA_RUNTIME_API=" + e.addr, "TMPDIR=" + dir, "PATH=" + os.Getenv("PATH")}
	cmd.Stdout, cmd.Stderr = c.output, c.output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that what it started ends with it
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		e.t.Fatal(err)
	}
	over := make(chan struct{})
	go func() { // ends with the process, which the clean-up kills
		defer close(over)
		c.ended <- cmd.Wait()
	}()
	e.t.Cleanup(func() {
		c.kill()
		<-over
		if e.t.Failed() {
			e.t.Logf("output:\n%.2000s", c.output)
		}
	})
	e.event("parked first")
	return c
}

// kill ends it and what it started.
func (c *child) kill() { _ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL) }

// call makes one call and waits for its answer.
func (c *child) call(payload string) runtimeapi.Answer {
	c.t.Helper()
	if err := c.server.Start(&runtimeapi.Invocation{RequestID: id, Deadline: time.UnixMilli(4102444800000), Qualifier: "live",
		Traceparent: "00-5bef4de7ad49b0e87f6ef6c87fc2e700-9a9197af755a6419-01",
		Tenant:      "acme / 1", ClientContext: []byte(`{"custom":{"k":"grüß"}}`), Payload: []byte(payload)}); err != nil {
		c.t.Fatal(err)
	}
	return c.answered()
}

// returns waits until it asks for the next call.
func (c *child) returns(a runtimeapi.Answer) runtimeapi.Answer {
	c.t.Helper()
	if a.Parked {
		c.t.Fatal("it does not pipeline")
	}
	c.event("parked")
	return a
}

// exit waits for its end.
func (c *child) exit() (status int) {
	c.t.Helper()
	select {
	case <-c.ended:
	case <-time.After(patience):
		c.t.Fatal("the function did not exit")
	}
	c.server.Drain(patience)
	if n := c.server.Connections(); n != 0 {
		c.t.Errorf("%d connections are left", n)
	}
	return c.cmd.ProcessState.ExitCode()
}

// tool finds a program of the host; without it the test is skipped, or fails where CI is true.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
	case os.Getenv("CI") == "true":
		t.Fatalf("CI=true, and this host lacks %s", name)
	default:
		t.Skipf("needs %s", name)
	}
	return path
}

// TestCClient: a function in C on blocking sockets, with no library, holds the server to each status of the protocol.
func TestCClient(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "bootstrap")
	if text, err := exec.Command(tool(t, "gcc"), "-O1", "-Wall", "-Werror", "-o", out, "testdata/bootstrap.c").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	c := setup(t).run(exec.Command(out))
	echo := func(event string) {
		t.Helper()
		if a := c.returns(c.call(event)); a.Error != nil || string(a.Payload) != event || a.ContentType != "application/json" {
			t.Fatalf("answer of %d bytes %+v (%s)", len(a.Payload), a.Error, a.ContentType)
		}
	}
	echo(`{}`)
	echo(`"` + strings.Repeat("ü", 3_000_000) + `"`)
	if a := c.returns(c.call(`"fail"`)); a.Error == nil || a.Error.Type != "C.Asked" || string(a.Error.Body) != `{"errorType":"C.Asked","errorMessage":"as asked"}` {
		t.Fatalf("%+v", a.Error)
	}
	if a := c.returns(c.call(`"grow ` + strconv.Itoa(schema.MaxAnswer) + `"`)); a.Error != nil || len(a.Payload) != schema.MaxAnswer {
		t.Fatalf("%d bytes, %+v", len(a.Payload), a.Error)
	}
	if a := c.returns(c.call(`"grow ` + strconv.Itoa(schema.MaxAnswer+1) + `"`)); a.Error == nil || a.Error.Type != "Function.ResponseSizeTooLarge" ||
		a.Error.Message != "Response payload size (6291557 bytes) exceeded maximum allowed payload size (6291556 bytes)." {
		t.Fatalf("%d bytes, %+v", len(a.Payload), a.Error)
	}
	if a := c.returns(c.call(`"twice"`)); a.Error != nil || string(a.Payload) != "1" {
		t.Fatalf("%q, %+v", a.Payload, a.Error)
	}
	if a := c.returns(c.call(`"stray"`)); a.Error != nil || string(a.Payload) != `"own"` {
		t.Fatalf("%q, %+v", a.Payload, a.Error)
	}
	echo(`"last"`)
	if err := c.server.Start(&runtimeapi.Invocation{RequestID: id, Deadline: time.Now().Add(time.Minute), Payload: []byte(`"exit 5"`)}); err != nil {
		t.Fatal(err)
	}
	if status := c.exit(); status != 5 {
		t.Errorf("exit %d", status)
	}
}

// TestShellClient: the bootstrap of AWS's tutorial, on curl: a connection a request, forms, Expect: 100-continue.
func TestShellClient(t *testing.T) {
	t.Parallel()
	tool(t, "curl")
	c := setup(t).run(exec.Command(tool(t, "sh"), "testdata/bootstrap.sh"))
	for _, event := range []string{`{"a":"b"}`, `"` + strings.Repeat("x", 2<<20) + `"`, `"fifo` + strings.Repeat("y", 100_000) + `"`} {
		if a := c.returns(c.call(event)); a.Error != nil || string(a.Payload) != event {
			t.Fatalf("answer of %d bytes %+v, want %d", len(a.Payload), a.Error, len(event))
		}
	}
	if a := c.returns(c.call(`"form"`)); a.Error != nil || string(a.Payload) != "SUCCESS" || a.ContentType != "application/x-www-form-urlencoded" {
		t.Fatalf("%q (%s) %+v", a.Payload, a.ContentType, a.Error)
	}
	if a := c.returns(c.call(`"fail"`)); a.Error == nil || a.Error.Type != "Sh.Asked" {
		t.Fatalf("%+v", a.Error)
	}
	c.kill()
	c.exit()
}
