package process_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/hearth-run/hearth/worker/driver"
	"github.com/hearth-run/hearth/worker/driver/drivertest"
	"github.com/hearth-run/hearth/worker/driver/process"
)

func TestMain(m *testing.M) {
	process.Main()
	drivertest.Guest()
	if len(os.Args) == 4 && os.Args[1] == workerArgument {
		if err := work(os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, "worker:", err)
			os.Exit(1)
		}
	}
	goleak.VerifyTestMain(m)
}

func open(t testing.TB) driver.Driver { return openIn(t, drivertest.Folder(t)) }

func openIn(t testing.TB, dir string) driver.Driver {
	t.Helper()
	d, err := process.New(process.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestExercise: the suite of all drivers. Not parallel to other tests: it counts goroutines.
func TestExercise(t *testing.T) {
	drivertest.Exercise(t, open)
}

// TestAsOrdinaryUser: a worker that is root runs these tests again as one that is not.
func TestAsOrdinaryUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("this is one already")
	}
	folder := drivertest.Folder(t)
	guest := drivertest.GuestCommand(t, folder)
	own := filepath.Join(folder, "tmp")
	if err := os.Mkdir(own, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(own, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(guest.Path, "-test.run", "^(TestExercise|TestKilledWorker|TestKilledKeeper|TestProbe)$", "-test.v")
	cmd.Dir = folder
	cmd.Env = []string{"TMPDIR=" + own}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestExercise/Strays/Killed")) || !bytes.Contains(out, []byte("--- PASS: TestKilledWorker")) {
		t.Errorf("%v\n%s", err, out)
	}
}

// workerArgument is the first argument of a worker of TestKilledWorker; its scratch folder and the host of its guests
// follow.
const workerArgument = "process-test-worker"

// work is a worker: one environment with all that can hide in it, for ever.
func work(dir, host string) error {
	d, err := process.New(process.Config{Dir: dir})
	if err != nil {
		return err
	}
	ctx := context.Background()
	e, err := d.New(ctx, driver.Spec{ID: "doomed"})
	if err != nil {
		return err
	}
	cmd := driver.Command{Path: filepath.Join(filepath.Dir(dir), "guest"), Args: drivertest.GuestArguments(), Dir: filepath.Dir(dir),
		Env: []string{drivertest.LeashVariable + "=" + host}}
	if err := e.Start(ctx, cmd, io.Discard); err != nil {
		return err
	}
	fmt.Println("ready")
	select {}
}

// TestKilledWorker: a worker that is killed, alone or with its whole process group, leaves no process and no folder.
func TestKilledWorker(t *testing.T) {
	t.Parallel()
	for name, kill := range map[string]func(pid int) error{
		"Alone": func(pid int) error { return syscall.Kill(pid, syscall.SIGKILL) },
		"Group": func(pid int) error { return syscall.Kill(-pid, syscall.SIGKILL) },
		"Interrupted": func(pid int) error { // as by a terminal: the keeper must not go first
			return errors.Join(syscall.Kill(-pid, syscall.SIGINT), syscall.Kill(-pid, syscall.SIGTERM))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := drivertest.Folder(t)
			guest := drivertest.GuestCommand(t, folder)
			listener, err := net.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			host := drivertest.NewHost(t, listener)
			scratch := filepath.Join(folder, "scratch")
			worker := exec.Command(guest.Path, workerArgument, scratch, listener.Addr().String())
			worker.Stderr = os.Stderr
			worker.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			out, err := worker.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := worker.Start(); err != nil {
				t.Fatal(err)
			}
			if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
				t.Fatalf("the worker said %q, %v", line, err)
			}
			main := host.Await()
			main.Tell(drivertest.RoleChild)
			child := host.Await()
			main.Tell(drivertest.RoleDaemon)
			daemon := host.Await()
			if err := kill(worker.Process.Pid); err != nil {
				t.Fatal(err)
			}
			_ = worker.Wait()
			main.AwaitGone()
			child.AwaitGone()
			if runtime.GOOS == "linux" || os.Geteuid() == 0 {
				daemon.AwaitGone()
			}
			drivertest.Eventually(t, "the scratch folder is empty", func() bool {
				left, err := os.ReadDir(scratch)
				return err == nil && len(left) == 0
			})
		})
	}
}

// TestKilledKeeper: a keeper that dies is replaced, and the new one knows what the old one knew.
func TestKilledKeeper(t *testing.T) {
	t.Parallel()
	d := open(t)
	t.Cleanup(func() { _ = d.Close() })
	e, err := d.New(t.Context(), driver.Spec{ID: "kept"})
	if err != nil {
		t.Fatal(err)
	}
	old := process.Keeper(d)
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	drivertest.Eventually(t, "another keeper is there", func() bool { now := process.Keeper(d); return now != 0 && now != old })
	e.Kill()
	<-e.Done()
	if _, err := d.New(t.Context(), driver.Spec{ID: "next"}); err != nil {
		t.Error(err)
	}
}

// TestProbe: nothing is claimed, and people are told what is missing.
func TestProbe(t *testing.T) {
	t.Parallel()
	d := open(t)
	t.Cleanup(func() { _ = d.Close() })
	for range 2 {
		got, err := d.Probe(t.Context())
		if err != nil || got.Tenants || got.Limits || len(got.Notes) < 2 {
			t.Fatalf("%+v, %v", got, err)
		}
		if told := strings.Contains(strings.Join(got.Notes, "\n"), "not root"); told != (os.Geteuid() != 0) {
			t.Errorf("notes %q as uid %d", got.Notes, os.Geteuid())
		}
	}
	if _, err := process.New(process.Config{}); err == nil {
		t.Error("made without a folder")
	}
}

// TestUnreachable: folders that environments cannot enter are named before anything is started, and by a start that fails.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root: other workers' environments are their own user")
	}
	folder := drivertest.Folder(t)
	closed := filepath.Join(folder, "closed")
	inside := filepath.Join(closed, "inside")
	if err := os.MkdirAll(inside, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	says := "cannot enter " + closed + " (mode 0700)"
	for name, cfg := range map[string]process.Config{
		"Scratch": {Dir: inside},
		"Code":    {Dir: filepath.Join(folder, "scratch"), Reach: []string{folder, inside}},
	} {
		d, err := process.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Probe(t.Context()); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", name, err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	d := open(t)
	t.Cleanup(func() { _ = d.Close() })
	guest := drivertest.GuestCommand(t, folder)
	program := filepath.Join(inside, "program")
	if err := os.Link(guest.Path, program); err != nil {
		t.Fatal(err)
	}
	for name, cmd := range map[string]driver.Command{"Dir": {Path: guest.Path, Dir: inside}, "Path": {Path: program, Dir: folder}} {
		e, err := d.New(t.Context(), driver.Spec{ID: name})
		if err != nil {
			t.Fatal(err)
		}
		err = e.Start(t.Context(), cmd, io.Discard)
		if err == nil || !strings.Contains(err.Error(), says) || !strings.HasPrefix(err.Error(), "fork/exec "+cmd.Path+": permission denied") {
			t.Errorf("%s: %v", name, err)
		}
		<-e.Done()
	}
}

// TestNoPrivileges: as root a process has none and can get none, and, where this worker may set them, Lambda's limits.
func TestNoPrivileges(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 || runtime.GOOS != "linux" {
		t.Skip("needs root on Linux")
	}
	d := open(t)
	t.Cleanup(func() { _ = d.Close() })
	e, err := d.New(t.Context(), driver.Spec{ID: "limited"})
	if err != nil {
		t.Fatal(err)
	}
	// The limits are set from outside, when the process runs already.
	const script = `grep -E '^(NoNewPrivs|CapEff|CapPrm)' /proc/self/status; umask
		i=0; while [ "$(ulimit -n)" != 1024 ] && [ $i -lt 5000 ]; do i=$((i+1)); done; echo limit $(ulimit -n)`
	var out bytes.Buffer
	cmd := driver.Command{Path: "/bin/sh", Args: []string{"-c", script}, Dir: "/", Env: []string{"PATH=/usr/bin:/bin"}}
	if err := e.Start(t.Context(), cmd, &out); err != nil {
		t.Fatal(err)
	}
	<-e.Done()
	got := strings.Join(strings.Fields(out.String()), " ")
	wants := []string{"NoNewPrivs: 1", "CapEff: 0000000000000000", "CapPrm: 0000000000000000", "0022"}
	if has, err := process.MayLimit(); err != nil {
		t.Fatal(err)
	} else if has {
		wants = append(wants, "limit 1024")
	}
	for _, want := range wants {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
}

// TestAbandonedScratch: what a worker and its keeper left when they were ended together is removed by the next one, and
// what a living one has is not.
func TestAbandonedScratch(t *testing.T) {
	t.Parallel()
	dir := drivertest.Folder(t)
	abandoned := filepath.Join(dir, "worker-1", "e-1", "sub")
	foreign := filepath.Join(dir, "mine")
	for _, path := range []string{abandoned, foreign} {
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "worker-1"), 0o711); err != nil {
		t.Fatal(err)
	}
	living := openIn(t, dir)
	t.Cleanup(func() { _ = living.Close() })
	e, err := living.New(t.Context(), driver.Spec{ID: "living"})
	if err != nil {
		t.Fatal(err)
	}
	next := openIn(t, dir)
	t.Cleanup(func() { _ = next.Close() })
	if _, err := next.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "worker-1")); !os.IsNotExist(err) {
		t.Errorf("abandoned: %v", err)
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Errorf("foreign: %v", err)
	}
	if err := e.Start(t.Context(), driver.Command{Path: "/bin/sh", Args: []string{"-c", "cd \"$TMPDIR\""}, Dir: "/"}, io.Discard); err != nil {
		t.Fatal(err)
	}
	<-e.Done()
	if exit := e.Exit(); exit.Code != 0 {
		t.Errorf("the living one's folder is gone: %+v", exit)
	}
}
