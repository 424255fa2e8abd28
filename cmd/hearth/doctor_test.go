package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/hearth-run/hearth/deploy/doctor"
	"github.com/hearth-run/hearth/internal/natstest"
)

// TestDoctor looks at the host on which it runs, with the command as people run it.
func TestDoctor(t *testing.T) {
	t.Parallel()
	r := surroundings{env: map[string]string{"PATH": os.Getenv("PATH")}}.run(t, "doctor", "--only", "host", "--driver", "native", "--data", t.TempDir(), "--json")
	lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
	var all []doctor.Finding
	for _, line := range lines[:len(lines)-1] {
		var f doctor.Finding
		if err := json.Unmarshal([]byte(line), &f); err != nil || f.Area == "" || f.Check == "" || f.State == "" || f.Found == "" {
			t.Fatalf("%s: %v", line, err)
		}
		all = append(all, f)
	}
	var sum doctorSummary
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &sum); err != nil {
		t.Fatal(err)
	}
	want := exitOK
	if doctor.Worst(all) == doctor.Missing {
		want = exitMissing
	}
	if r.code != want || sum.Summary.OK != (want == exitOK) || sum.Summary.Native && runtime.GOOS != "linux" {
		t.Errorf("code %d, want %d; %+v\n%s", r.code, want, sum, r.stdout)
	}
	if os.Getenv("CI") == "true" && os.Geteuid() == 0 && !sum.Summary.Native {
		t.Errorf("CI=true, and no sandbox: %s", r.stdout)
	}
}

// TestDoctorTells: what it found, for people, and its exit code.
func TestDoctorTells(t *testing.T) {
	t.Parallel()
	var out buffer
	a := surroundings{}.app(t)
	a.stdout = &out
	cmd := a.doctor()
	ok := doctor.Finding{Area: doctor.AreaHost, Check: "cores", State: doctor.OK, Found: "2"}
	warned := doctor.Finding{Area: doctor.AreaRuntimes, Check: "python", State: doctor.Warning, Found: "there is\nnone", Fix: "get one"}
	lacking := doctor.Finding{Area: doctor.AreaSandbox, Check: "landlock", State: doctor.Missing, Found: "none", Fix: "boot with it"}
	for _, tt := range []struct {
		all  []doctor.Finding
		says string
		code int
	}{
		{[]doctor.Finding{ok}, "This host\n  ok       cores  2\n\nNothing is missing.\n", exitOK},
		{[]doctor.Finding{ok, warned}, "This host\n  ok       cores   2\n\nRuntimes\n  warning  python  there is none\n                   -> get one\n\nNothing is missing; 1 thing is worth a look.\n", exitOK},
		{[]doctor.Finding{ok, lacking}, "This host\n  ok       cores     2\n\nDriver native (the sandbox)\n  missing  landlock  none\n                     -> boot with it\n\n1 thing is missing; what to do stands below each.\n", exitMissing},
	} {
		out.b.Reset()
		if code := a.exit(t.Context(), a.printFindings(cmd, tt.all, false)); code != tt.code || out.String() != tt.says {
			t.Errorf("code %d, want %d\n%q\n%q", code, tt.code, out.String(), tt.says)
		}
	}
}

// doctorOf runs the command and gives what it found of the fabric, by check.
func doctorOf(t *testing.T, s surroundings, args ...string) (map[string]doctor.Finding, result) {
	t.Helper()
	r := s.run(t, append([]string{"doctor", "--only", "fabric", "--json"}, args...)...)
	found := map[string]doctor.Finding{}
	for line := range strings.Lines(r.stdout) {
		if f := decode[doctor.Finding](t, line); f.Area == doctor.AreaFabric {
			found[f.Check+map[bool]string{true: " (wider)"}[strings.HasPrefix(f.Found, "wider")]] = f
		}
	}
	return found, r
}

// TestDoctorOnAFabric: of a running fabric it says what the credential that it has may ask for, and whether that is what it should be.
func TestDoctorOnAFabric(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	f := up(t, "--data", data, "--driver", "null", "--capacity", "2", "--allow-local", "127.0.0.1:5432")
	found, r := doctorOf(t, f.surroundings)
	for _, check := range []string{"server", "jetstream", "max_payload", "clock", "memory of streams", "store of streams", "streams", "consumers", "permissions", "nodes", "disk"} {
		if found[check].State != doctor.OK {
			t.Errorf("%s: %+v", check, found[check])
		}
	}
	if got := found["allow-local"]; got.State != doctor.Warning || !strings.Contains(got.Found, "127.0.0.1:5432") {
		t.Errorf("an opening: %+v", got)
	}
	if r.code != exitOK || !strings.Contains(found["nodes"].Found, "1 of 1 managers are active, with 2 places") || !strings.Contains(found["disk"].Found, data) {
		t.Errorf("code %d: %s%s", r.code, r.stdout, r.stderr)
	}

	// Anybody of this host, who may call and nothing else: not an admin.
	stranger := surroundings{config: t.TempDir()}
	found, r = doctorOf(t, stranger, "--server", f.NATS)
	if r.code != exitMissing || found["permissions"].State != doctor.Missing || found["nodes"].State != doctor.Unknown || found["clock"].State != doctor.Unknown {
		t.Errorf("code %d: %s%s", r.code, r.stdout, r.stderr)
	}
	// Nodes of their own, each with the rights of its role; a worker's and a client's may not ask for them.
	roles := []string{"manager", "frontend", "worker", "client"}
	files := map[string]string{}
	for _, role := range roles {
		files[role] = strings.TrimSpace(f.must(t, "credential", role, "x7", "--data", data))
	}
	for _, role := range roles {
		as := []string{"--server", f.NATS, "--creds", files[role], "--role", role, "--id", "x7"}
		eventually(t, "the credential is taken in", func() bool {
			found, r = doctorOf(t, stranger, as...)
			return !strings.Contains(r.stdout, "does not take these credentials")
		})
		want := doctor.OK
		if role == "worker" || role == "client" {
			want = doctor.Unknown
		}
		if r.code != exitOK || found["permissions"].State != want {
			t.Errorf("%s: code %d, %+v", role, r.code, found["permissions"])
		}
	}
}

// TestDoctorOfTwoFabrics: which one is meant is not known, and the host is looked at all the same.
func TestDoctorOfTwoFabrics(t *testing.T) {
	t.Parallel()
	s := surroundings{config: t.TempDir()}
	for _, pid := range []int{os.Getpid(), os.Getppid()} {
		if _, err := s.app(t).leaveNote(note{NATS: fmt.Sprintf("nats://127.0.0.1:%d", pid), PID: pid}); err != nil {
			t.Fatal(err)
		}
	}
	found, r := doctorOf(t, s)
	if got := found["server"]; r.code != exitOK || got.State != doctor.Unknown || !strings.Contains(got.Found, "2 fabrics of yours run") {
		t.Errorf("code %d, %+v, %s", r.code, got, r.stderr)
	}
	if _, r := doctorOf(t, s, "--prefix", "X"); r.code != exitUsage {
		t.Errorf("a prefix that is none: code %d", r.code)
	}
}

// TestDoctorOnAnotherServer: a server that others run, with users whose rights are not those of SECURITY 6.
func TestDoctorOnAnotherServer(t *testing.T) {
	t.Parallel()
	open := natstest.Start(t, natstest.Bare())
	found, r := doctorOf(t, surroundings{}, "--server", open.URL)
	if got := found["permissions (wider)"]; r.code != exitOK || got.State != doctor.Warning || !strings.Contains(got.Found, "subscribe to >") {
		t.Errorf("a server without users: code %d, %+v", r.code, got)
	}
	if got := found["max_payload"]; got.State == doctor.Missing {
		t.Errorf("%+v", got)
	}
	found, r = doctorOf(t, surroundings{}, "--server", "nats://127.0.0.1:1")
	if got := found["server"]; r.code != exitUnreachable || got.State != doctor.Missing {
		t.Errorf("nobody there: code %d, %+v", r.code, got)
	}
	if r := (surroundings{}).run(t, "doctor", "--role", "manager"); r.code != exitUsage || !strings.Contains(r.stderr, "--id") {
		t.Errorf("a manager without a name: %d %s", r.code, r.stderr)
	}
}
