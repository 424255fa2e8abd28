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
	ready := filepath.Join(t.TempDir(), "ready.json")
	args = append(args, "--ready-file", ready, "--log-level", "warn")
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
	if r := home.run(t, append(at, "frontend", "--http", "none", "--id", "f1")...); r.code != exitUsage || !strings.Contains(r.stderr, "--id") {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
	if got := f.stop(); got.code != exitOK || got.stdout != "ready f1 "+f.HTTP+" "+f.NATS+"\n" || got.stderr != "" {
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
