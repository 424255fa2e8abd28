package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/internal/natstest"
)

// role is a `hearth manager` or `hearth frontend` inside this test.
type role struct {
	nodeReady
	stop func() result
}

// startRole starts one with these arguments; the test's cleanup stops it.
func startRole(t *testing.T, args ...string) *role {
	t.Helper()
	r := &role{}
	ready := lastReadyFile(args)
	if ready == "" {
		ready = filepath.Join(t.TempDir(), "ready.json")
		args = append(args, "--ready-file", ready)
	}
	args = append(args, "--log-level", "warn")
	ctx, interrupt := context.WithCancelCause(context.Background())
	ended := make(chan struct{})
	var got result
	var loop conc.WaitGroup
	home := surroundings{config: t.TempDir()}
	loop.Go(func() {
		defer close(ended)
		got = home.runContext(ctx, t, args...)
	})
	r.stop = func() result {
		interrupt(errInterrupted)
		loop.Wait()
		return got
	}
	t.Cleanup(func() { r.stop() })
	eventually(t, args[0]+" is ready", func() bool {
		select {
		case <-ended:
			t.Fatalf("exit %d: %s", got.code, got.stderr)
		default:
		}
		b, err := os.ReadFile(ready)
		return err == nil && json.Unmarshal(b, &r.nodeReady) == nil
	})
	return r
}

func TestRolesAsCommands(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t, natstest.Bare())
	at := []string{"--server", server.URL}
	data := filepath.Join(t.TempDir(), "data")
	m := startRole(t, append(at, "manager", "--data", data, "--driver", "null", "--capacity", "4", "--set", "keep-alive=5m")...)
	f := startRole(t, append(at, "frontend", "--http", "127.0.0.1:0", "--id", "f1")...)
	if m.ID == "" || m.HTTP != "" || m.NATS != server.URL || m.PID != os.Getpid() || f.ID != "f1" || !strings.HasPrefix(f.HTTP, "http://127.0.0.1:") {
		t.Errorf("manager %+v, frontend %+v", m.nodeReady, f.nodeReady)
	}
	home := surroundings{config: t.TempDir()}
	if r := home.run(t, append(at, "fabric", "get", "keep-alive")...); r.stdout != "5m0s\n" {
		t.Errorf("what --set gave is %q: %s", r.stdout, r.stderr)
	}
	if r := home.run(t, append(at, "ring")...); !strings.Contains(r.stdout, m.ID) {
		t.Errorf("the ring: %q: %s", r.stdout, r.stderr)
	}
	// A second holder of a live id is refused.
	other := filepath.Join(t.TempDir(), "other")
	if err := os.Mkdir(other, 0o700); err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(data, "seal.key"))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(other, "seal.key"), string(key)) // else it would ask the very one whose id it claims
	second := append(at, "manager", "--id", m.ID, "--data", other, "--driver", "null")
	if r := home.run(t, second...); r.code != exitUsage || !strings.HasPrefix(r.stderr, "hearth: ResourceConflictException: manager id ") ||
		!strings.HasSuffix(r.stderr, ": choose another with --id\n") {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
	if r := home.run(t, append(at, "frontend", "--http", "none", "--id", "f1")...); r.code != exitUsage || !strings.Contains(r.stderr, "--id") {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
	complains := func(log string) bool { // of more than that a machine with much else to do had the one wait for the other
		for line := range strings.Lines(log) {
			if !strings.Contains(line, "not serving yet") {
				return true
			}
		}
		return false
	}
	if got := f.stop(); got.code != exitOK || got.stdout != "ready f1 "+f.HTTP+" "+f.NATS+"\n" || complains(got.stderr) {
		t.Errorf("the frontend ended with %d: %q\n%s", got.code, got.stdout, got.stderr)
	}
	if got := m.stop(); got.code != exitOK || got.stdout != "ready "+m.ID+" "+m.NATS+"\n" {
		t.Errorf("the manager ended with %d: %q\n%s", got.code, got.stdout, got.stderr)
	}
}

// With the credentials that the command makes, roles come to a `hearth up` while it runs.
func TestCredentialsAsCommands(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	f := up(t, "--data", data, "--driver", "null", "--capacity", "2")
	file := func(args ...string) string {
		return strings.TrimSuffix(f.must(t, append([]string{"credential", "--data", data}, args...)...), "\n")
	}
	out := filepath.Join(t.TempDir(), "m9.nk")
	if block := f.must(t, "credential", "manager", "m9", "--out", out, "--print"); !strings.HasPrefix(block, "# manager m9\n{\n  nkey: U") {
		t.Errorf("%.200s", block)
	}
	made := decode[credentialOut](t, f.must(t, "credential", "client", "shop", "--data", data, "--json"))
	if made.Role != "client" || made.ID != "shop" || made.InboxPrefix != "_HC.shop" || made.Key == "" || filepath.Dir(made.File) != filepath.Join(data, "credentials") {
		t.Errorf("%+v", made)
	}
	// A client's file is all that an invoke with it needs, on a machine that knows nothing else.
	f.must(t, "deploy", "echo", buildFunction(t, "./examples/echo"), "--runtime", "provided")
	stranger := surroundings{config: t.TempDir()}
	eventually(t, "the client is known", func() bool {
		r := stranger.run(t, "invoke", "echo", "--payload", "[1]", "--json", "--server", f.NATS, "--creds", made.File)
		if r.code == exitOK && decode[invocation](t, r.stdout).Status != "ok" {
			t.Errorf("%s", r.stdout)
		}
		return r.code == exitOK
	})
	manager, frontend := file("manager", "m7"), file("frontend", "f7")
	other := surroundings{config: t.TempDir()}
	at := []string{"--server", f.NATS}
	eventually(t, "the credentials are taken in", func() bool {
		return other.run(t, append(at, "ls", "--creds", file("admin"))...).code == exitOK
	})
	startRole(t, append(at, "manager", "--creds", manager, "--id", "m7", "--data", filepath.Join(t.TempDir(), "m7"), "--driver", "null", "--capacity", "2")...)
	startRole(t, append(at, "frontend", "--creds", frontend, "--id", "f7", "--http", "none")...)
	if ring := f.must(t, "ring"); !strings.Contains(ring, "m1") || !strings.Contains(ring, "m7") {
		t.Error(ring)
	}
	if r := other.run(t, append(at, "frontend", "--creds", manager, "--id", "f8", "--http", "none")...); r.code != exitUsage ||
		!strings.Contains(r.stderr, "hearth credential frontend f8") {
		t.Errorf("with a manager's credential: exit %d: %s", r.code, r.stderr)
	}
}

// hearth drain takes a manager off the ring and waits until it is empty; --cancel lets it back.
func TestDrain(t *testing.T) {
	t.Parallel()
	f := up(t, "--managers", "2", "--capacity", "4", "--drain-timeout", "0s")
	hold := buildFunction(t, "./e2e/fn")
	f.must(t, "deploy", "fn", hold, "--runtime", "provided", "--timeout", "60s")
	if got := f.must(t, "drain", "m1"); got != "m1 is drained\n" {
		t.Errorf("%q", got)
	}
	for range 3 {
		if got := decode[invocation](t, f.must(t, "invoke", "fn", "--payload", `"hello"`, "--json")); got.Manager != "m2" {
			t.Errorf("a drained manager was called: %+v", got)
		}
	}
	if got := f.must(t, "drain", "m1", "--cancel"); got != "m1 is back on the ring\n" {
		t.Errorf("%q", got)
	}
	for id, says := range map[string]string{"m3": "did you mean m1? `hearth ring`", "elsewhere": "m1, m2; `hearth ring` lists"} {
		if r := f.run(t, "drain", id); r.code != exitUsage || !strings.Contains(r.stderr, "m1, m2") || !strings.Contains(r.stderr, says) ||
			strings.Contains(r.stderr, "hearth ls") {
			t.Errorf("no such manager: exit %d: %s", r.code, r.stderr)
		}
	}
	// Ctrl-C leaves the drain going.
	ctx, interrupt := context.WithCancelCause(t.Context())
	var call conc.WaitGroup
	call.Go(func() { f.runContext(ctx, t, "invoke", "fn", "--payload", `"hang"`) })
	var busy string
	eventually(t, "the call runs", func() bool {
		for _, m := range decode[struct {
			Managers []struct {
				ID           string
				Environments struct{ Busy int }
			}
		}](t, f.must(t, "ring", "--json")).Managers {
			if m.Environments.Busy == 1 {
				busy = m.ID
			}
		}
		return busy != ""
	})
	impatient, stop := context.WithCancelCause(t.Context())
	var got result
	var drain conc.WaitGroup
	drain.Go(func() { got = f.runContext(impatient, t, "drain", busy) })
	eventually(t, "it drains", func() bool { return strings.Contains(f.must(t, "ring"), "draining") })
	stop(errInterrupted)
	drain.Wait()
	if got.code != exitInterrupted || got.stdout != "" || !strings.Contains(got.stderr, "goes on by itself") {
		t.Errorf("exit %d: %s%s", got.code, got.stdout, got.stderr)
	}
	if out := f.must(t, "ring"); !strings.Contains(out, "draining") {
		t.Errorf("the drain ended with the command: %s", out)
	}
	f.must(t, "drain", busy, "--cancel")
	interrupt(errInterrupted)
	call.Wait()
	f.must(t, "rm", "fn")
}

// A drain ends with its process: whoever starts a manager wants it on the ring. The help says so.
func TestDrainedManagerComesBackActive(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t, natstest.Bare())
	at := []string{"--server", server.URL}
	dir := filepath.Join(t.TempDir(), "data")
	start := func() *role {
		return startRole(t, append(at, "manager", "--id", "m1", "--data", dir, "--driver", "null", "--capacity", "2")...)
	}
	m := start()
	startRole(t, append(at, "frontend", "--http", "none")...)
	home := surroundings{config: t.TempDir()}
	if r := home.run(t, append(at, "drain", "m1")...); r.code != exitOK {
		t.Fatalf("exit %d: %s", r.code, r.stderr)
	}
	state := func() string {
		for _, m := range decode[struct{ Managers []struct{ ID, State string } }](t, home.run(t, append(at, "ring", "--json")...).stdout).Managers {
			return m.State
		}
		return ""
	}
	if got := state(); got != "draining" {
		t.Errorf("drained it is %q", got)
	}
	m.stop()
	start()
	eventually(t, "it is active", func() bool { return state() == "active" })
	if help := home.run(t, "drain", "--help").stdout; !strings.Contains(help, "starts again comes back") {
		t.Errorf("the help does not say it: %s", help)
	}
}
