package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/e2e/fabric"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
)

func TestMain(m *testing.M) {
	natstest.Parallel(6)
	code := m.Run()
	fabric.Cleanup()
	os.Exit(code)
}

// deadline bounds one wait of a scenario; it is no assertion about speed.
const deadline = 60 * time.Second

func withDeadline(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	t.Cleanup(cancel)
	return ctx
}

// invoke calls through the Go client and fails the test on a refusal.
func invoke(t testing.TB, c *client.Client, function, payload string) *client.Answer {
	t.Helper()
	a, err := c.Invoke(withDeadline(t), client.Call{Function: function, Payload: []byte(payload)})
	if err != nil {
		t.Fatalf("invoke %s with %.60s: %v", function, payload, err)
	}
	return a
}

// post is Lambda's Invoke by plain HTTP.
func post(t testing.TB, f *fabric.Fabric, function string, body io.Reader, header http.Header) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(withDeadline(t), http.MethodPost,
		f.HTTP+"/2015-03-31/functions/"+function+"/invocations", body)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	if host := header.Get("Host"); host != "" {
		req.Host = host
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, b
}

// anonymous is a plain NATS connection without any credential, as the nats CLI makes one.
func anonymous(t testing.TB, f *fabric.Fabric, opts ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(f.NATS, append([]nats.Option{nats.Timeout(deadline)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// needsSandbox skips a test whose functions run in the sandbox where that cannot be; where CI promises root it fails.
func needsSandbox(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("CI=true, and the sandbox needs root")
	}
	t.Skip("the sandbox needs root")
}

// eventually waits for a condition under the deadline.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	eventuallyWithin(t, deadline, what, cond)
}

func eventuallyWithin(t testing.TB, within time.Duration, what string, cond func() bool) {
	t.Helper()
	late := time.NewTimer(within)
	defer late.Stop()
	for {
		began := time.Now()
		if cond() {
			return
		}
		select {
		case <-late.C:
			t.Fatalf("%s: not within %v", what, within)
		case <-time.After(max(10*time.Millisecond, min(4*time.Since(began), 250*time.Millisecond))): // so that looks are a fifth of the time at most
		}
	}
}

// gate is where held calls wait: each connects, says its request id, and goes on when the gate opens.
type gate struct {
	l     net.Listener
	held  chan net.Conn
	taken []net.Conn // kept: a connection that nobody refers to is closed by the collector, and its call goes on
}

func newGate(t testing.TB) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{l: l, held: make(chan net.Conn, 1024)}
	go func() { // ends when the listener closes
		defer close(g.held)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			g.held <- c
		}
	}()
	t.Cleanup(g.open)
	return g
}

func (g *gate) payload() string { return fmt.Sprintf(`"hold %s"`, g.l.Addr()) }

// words are those that hold a call at the gate.
func (g *gate) words() string { return "hold " + g.l.Addr().String() }

// wait takes n held calls and gives their connections; closing one lets that call go on.
func (g *gate) wait(t testing.TB, n int) []net.Conn {
	t.Helper()
	conns := make([]net.Conn, 0, n)
	ctx := withDeadline(t)
	for len(conns) < n {
		select {
		case c := <-g.held:
			if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			conns = append(conns, c)
			g.taken = append(g.taken, c)
		case <-ctx.Done():
			t.Fatalf("%d of %d calls are held", len(conns), n)
		}
	}
	return conns
}

func (g *gate) open() {
	_ = g.l.Close()
	for c := range g.held {
		_ = c.Close()
	}
	for _, c := range g.taken {
		_ = c.Close()
	}
}

// looks is a fabric in one process, or one that is spread over several, as it is looked at.
type looks interface {
	Ring(function string) *schema.RingOutput
}

// quiet waits until no environment is busy or starting and no message is left on any arc.
func quiet(t testing.TB, f looks) {
	t.Helper()
	eventually(t, "no environment busy, no message on an arc", func() bool {
		r := f.Ring("")
		for _, m := range r.Managers {
			if m.Environments.Busy+m.Environments.Starting > 0 {
				return false
			}
		}
		for _, a := range r.Arcs {
			if a.Pending+a.Claimed > 0 {
				return false
			}
		}
		return true
	})
}

func sameJSON(t testing.TB, where string, got, want []byte) {
	t.Helper()
	var a, b bytes.Buffer
	if json.Compact(&a, got) != nil || json.Compact(&b, want) != nil || a.String() != b.String() {
		t.Errorf("%s: %s\nwant %s", where, got, want)
	}
}
