//go:build linux && (amd64 || arm64)

package worker_test

import (
	"archive/zip"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hearth-run/hearth/worker"
	"github.com/hearth-run/hearth/worker/driver/drivertest"
	"github.com/hearth-run/hearth/worker/driver/native"
)

// sandboxed is a bench whose environments are sandboxes; their function is the test binary, which lies in its package.
func sandboxed(t testing.TB, change ...func(*worker.Config)) *bench {
	t.Helper()
	needsSandbox(t)
	d, err := native.New(native.Config{Dir: filepath.Join(drivertest.Folder(t), "tree")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	b := setup(t, append([]func(*worker.Config){func(c *worker.Config) { c.Driver = d }}, change...)...)
	code, err := carried()
	if err != nil {
		t.Fatal(err)
	}
	b.code = b.store.add(code)
	return b
}

// needsSandbox skips a test that takes a root of Linux, or fails where one is promised.
func needsSandbox(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("CI=true, and these tests do not run as root")
	}
	t.Skip("needs root")
}

// carried is a package with the test binary in it, stored as it is: packing it takes longer than the tests.
var carried = sync.OnceValues(func() ([]byte, error) {
	binary, err := os.ReadFile(functionPath)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for name, content := range map[string][]byte{"function": binary, "bootstrap": []byte("#!/bin/sh\nexec /var/task/function " + functionArgument + "\n")} {
		h := &zip.FileHeader{Name: name}
		h.SetMode(0o755)
		f, err := w.CreateHeader(h)
		if err != nil {
			return nil, err
		}
		if _, err := f.Write(content); err != nil {
			return nil, err
		}
	}
	err = w.Close()
	return b.Bytes(), err
})

// processes are the numbers of the processes of this host that have a word among their arguments.
func processes(t testing.TB, word string) (pids []string) {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range lines {
		if b, err := os.ReadFile(path); err == nil && bytes.Contains(append([]byte{0}, b...), []byte("\x00"+word+"\x00")) {
			pids = append(pids, filepath.Base(filepath.Dir(path)))
		}
	}
	return pids
}

// frozen tells whether the kernel has stopped all that is in a process's cgroup.
func frozen(t testing.TB, pid string) bool {
	t.Helper()
	b, err := os.ReadFile("/proc/" + pid + "/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		switch parts := strings.SplitN(strings.TrimSpace(line), ":", 3); {
		case parts[1] == "freezer":
			state, err := os.ReadFile(filepath.Join("/sys/fs/cgroup/freezer", parts[2], "freezer.state"))
			return err == nil && string(state) == "FROZEN\n"
		case parts[0] == "0":
			if events, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", parts[2], "cgroup.events")); err == nil && strings.Contains(string(events), "frozen 1") {
				return true
			}
		}
	}
	return false
}
