//go:build linux && (amd64 || arm64)

package native_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hearth-run/hearth/worker/driver"
	"github.com/hearth-run/hearth/worker/driver/drivertest"
	"github.com/hearth-run/hearth/worker/driver/native"
)

// workerArgument is the first argument of a worker of TestKilledWorker; the folder of its guest follows.
const workerArgument = "native-test-worker"

// work is a worker with one environment, for ever.
func work(folder string) error {
	d, err := native.New(native.Config{Dir: filepath.Join(folder, "tree")})
	if err != nil {
		return err
	}
	ctx := context.Background()
	e, err := d.New(ctx, driver.Spec{ID: "doomed"})
	if err != nil {
		return err
	}
	in, out := io.Pipe()
	cmd := driver.Command{Path: "/bin/sh", Dir: folder, Args: []string{"-c", "setsid sleep 12345 & echo started; sleep 12345"}}
	if err := e.Start(ctx, cmd, out); err != nil {
		return err
	}
	if _, err := bufio.NewReader(in).ReadString('\n'); err != nil {
		return err
	}
	if err := e.(driver.Freezer).Freeze(true); err != nil {
		return err
	}
	helper, err := needNetwork(d, folder)
	if err != nil {
		return err
	}
	fmt.Println(helper, strings.Join(native.Own(d), " "))
	select {}
}

// needNetwork has a function need a network, and gives the helper that it gets. Nobody outside hears of it: the port is closed.
func needNetwork(d *native.Driver, folder string) (helper int, err error) {
	e, err := d.New(context.Background(), driver.Spec{ID: "talking"})
	if err != nil {
		return 0, err
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	err = e.Start(context.Background(), driver.Command{Path: filepath.Join("/var/task", filepath.Base(self)), Dir: folder,
		Args: []string{talkArgument, "tcp/198.51.100.7:25"}, Network: &driver.Network{}}, io.Discard)
	if err != nil {
		return 0, err
	}
	<-e.Done()
	helper, _ = native.Helper(d)
	return helper, nil
}

// TestKilledWorker: what a worker leaves that is killed, frozen processes too, is gone after the start of the next. Not
// parallel, as TestRefusedWithoutRoot.
func TestKilledWorker(t *testing.T) {
	needsRoot(t)
	folder := drivertest.Folder(t)
	worker := exec.Command(drivertest.GuestCommand(t, folder).Path, workerArgument, folder)
	worker.Stderr = os.Stderr
	out, err := worker.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := worker.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	groups := strings.Fields(line)
	if len(groups) < 2 || groups[0] == "0" {
		t.Fatalf("the worker has no helper or no cgroups: %q", line)
	}
	helper := groups[0]
	groups = groups[1:]
	d := open(t)
	if _, err := d.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, path := range groups {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("a living worker has lost something: %v", err)
		}
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if err := worker.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = worker.Wait()
	drivertest.Eventually(t, "the helper of its networks has ended", func() bool {
		status, err := os.ReadFile("/proc/" + helper + "/status")
		return err != nil || strings.Contains(string(status), "State:\tZ") // ended, and not yet waited for
	})
	drivertest.Eventually(t, "nothing is left", func() bool {
		next := open(t)
		defer next.Close()
		if _, err := next.Probe(t.Context()); err != nil {
			t.Fatal(err)
		}
		return !slices.ContainsFunc(groups, func(path string) bool {
			_, err := os.Stat(path)
			return err == nil
		})
	})
}

// TestLeavesNothing: made and killed, at every moment of their lives and many at once, environments leave no process, cgroup,
// descriptor or mount.
func TestLeavesNothing(t *testing.T) {
	needsRoot(t)
	folder := drivertest.Folder(t)
	d, err := native.New(native.Config{Dir: filepath.Join(folder, "tree"), Stock: -1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := look(t, d)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 25 {
				e, err := d.New(context.Background(), driver.Spec{ID: "short"})
				if err != nil {
					t.Error(err)
					return
				}
				cmd := driver.Command{Path: "/bin/sh", Args: []string{"-c", "sleep 1000 & sleep 1000"}, Dir: folder}
				switch i % 4 {
				case 0:
				case 1:
					go e.Kill() // which is over with the environment
					_ = e.Start(context.Background(), cmd, io.Discard)
				default:
					if err := e.Start(context.Background(), cmd, io.Discard); err != nil {
						t.Error(err)
					}
				}
				e.Kill()
				<-e.Done()
			}
		})
	}
	wg.Wait()
	// The kernel takes a while to close a tap.
	drivertest.Eventually(t, "nothing is left", func() bool { return maps.Equal(before, look(t, d)) })
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if own := native.Own(d); len(own) != 0 {
		t.Errorf("cgroups after the end: %v", own)
	}
}

// look counts what environments could leave behind.
func look(t *testing.T, d *native.Driver) map[string]int {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{"mounts": strings.Count(string(mounts), "\n")}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	seen["descriptors"] = len(fds)
	if err := native.Trim(d); err != nil {
		t.Error(err)
	}
	for _, path := range native.Own(d) {
		below, err := os.ReadDir(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range below {
			if entry.IsDir() { // a cgroup that is gone had no process
				seen["cgroups"]++
			}
		}
	}
	return seen
}
