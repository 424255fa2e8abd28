package inprocess_test

import (
	"bytes"
	"context"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/inprocess"
	"github.com/hearth-run/hearth/internal/natstest"
)

// The linker finds the server's method by its name and compares nothing else: a version that takes other parameters, or gives
// other results, is found here.
func TestServersDeclaration(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	folder, err := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", "github.com/nats-io/nats-server/v2/server").Output()
	if err != nil {
		t.Fatal(err)
	}
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, filepath.Join(strings.TrimSpace(string(folder)), "server.go"), nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	found := ""
	for _, d := range parsed.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Name.Name == "createClientInProcess" {
			f.Body, f.Doc = nil, nil
			var text bytes.Buffer
			if err := format.Node(&text, files, f); err != nil {
				t.Fatal(err)
			}
			found = text.String()
		}
	}
	if want := "func (s *Server) createClientInProcess(conn net.Conn) *client"; found != want {
		t.Fatalf("the server has %q, and %q is linked", found, want)
	}
}

// A client is served through it as through any connection, large messages and both sides' ends included.
func TestServed(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	nc := f.Connect(t, nats.ReconnectWait(10*time.Millisecond))
	if _, err := nc.Subscribe("echo", func(m *nats.Msg) { _ = m.Respond(m.Data) }); err != nil {
		t.Fatal(err)
	}
	echo := func(size int) {
		t.Helper()
		sent := bytes.Repeat([]byte("x"), size)
		got, err := nc.Request("echo", sent, 30*time.Second)
		if err != nil || !bytes.Equal(got.Data, sent) {
			t.Fatalf("an echo of %d bytes: %v", size, err)
		}
	}
	for _, size := range []int{0, 1, 1 << 10, 100 << 10, 900 << 10} {
		echo(size)
	}
	f.Restart(t)
	natstest.Eventually(t, 30*time.Second, nc.IsConnected, "the client is back")
	echo(1)

	last := f.Connect(t)
	if err := last.Flush(); err != nil {
		t.Fatal(err)
	}
	clients := f.Server.NumClients()
	last.Close()
	natstest.Eventually(t, 30*time.Second, func() bool { return f.Server.NumClients() == clients-1 }, "the server sees a client's end")
	f.Stop()
	if c, err := inprocess.Connect(f.Server, nil); err == nil {
		_ = c.Close()
		t.Fatal("connected with a server that has ended")
	}
}
