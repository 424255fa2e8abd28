//go:build linux && (amd64 || arm64)

package worker_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
	"github.com/hearth-run/hearth/worker"
	"github.com/hearth-run/hearth/worker/driver/drivertest"
	"github.com/hearth-run/hearth/worker/driver/native"
)

// doomedArgument makes the test binary a worker that is killed; what it is to be busy with follows, and its folder.
const doomedArgument = "worker-test-doomed"

// Folders and files of a doomed worker.
const (
	doomedCode  = "code.zip"
	doomedCache = "cache"
	doomedLocks = "locks"
	doomedTree  = "tree"
)

// file is a code store with one package.
type file string

func (f file) Open(context.Context, string) (io.ReadCloser, int64, error) {
	b, err := os.ReadFile(string(f))
	return io.NopCloser(bytes.NewReader(b)), int64(len(b)), err
}

// doomed is the worker that is killed: it says when it is busy, and goes on.
func doomed(busy, folder string) error {
	d, err := native.New(native.Config{Dir: filepath.Join(folder, doomedTree), Locks: filepath.Join(folder, doomedLocks)})
	if err != nil {
		return err
	}
	if _, err := d.Probe(context.Background()); err != nil {
		return err
	}
	names, err := subjects.NewNames("")
	if err != nil {
		return err
	}
	w, err := worker.New(worker.Config{ID: "w1", Publish: func(*nats.Msg) error { return nil }, Driver: d, Tenants: true, Names: names,
		Code: file(filepath.Join(folder, doomedCode)), CacheDir: filepath.Join(folder, doomedCache)})
	if err != nil {
		return err
	}
	code, err := os.ReadFile(filepath.Join(folder, doomedCode))
	if err != nil {
		return err
	}
	b := &schema.Binding{Key: schema.Key{FunctionID: "f-1", Version: "7", CodeSHA256: store{}.add(code)}, Account: "default", Function: "echo",
		Runtime: "provided", MemoryMB: 128, Variables: schema.Variables{"FOLDER": folder}}
	events := make(chan schema.EnvironmentEvent, 1024)
	make := func(id string) { w.Make(id, b, func(ev schema.EnvironmentEvent) { events <- ev }) }
	switch busy {
	case "unpack": // whoever looks sees that it does
		make("e1")
	case "build", "bind":
		// Some are in each of their steps whenever the end comes.
		for i := range 8 {
			make("e" + strconv.Itoa(i))
		}
		for i := 8; ; i++ {
			ev := <-events
			if ev.Error != nil {
				return fmt.Errorf("%+v", ev.Error)
			}
			if ev.Kind == schema.EnvironmentParked {
				w.End(ev.Environment)
				make("e" + strconv.Itoa(i))
			}
			if i == 12 {
				fmt.Println(busy)
			}
		}
	case "init":
		b.Variables["FN_INIT"] = "hang"
		make("e1")
	case "call":
		make("e1")
		if ev := <-events; ev.Error != nil {
			return fmt.Errorf("%+v", ev.Error)
		}
		w.Start(&schema.Run{
			Call:    &schema.Call{Key: b.Key, RequestID: "r", Account: b.Account, Function: b.Function, Reply: "_INBOX.x", Payload: []byte(`"hang"`)},
			Subject: names.UnreservedCall(17, b.Account, b.Function, b.Version, ""), Environment: "e1",
		})
		fmt.Println(busy)
	}
	return errors.New((<-events).Environment + " ended")
}

// otherwise is what else the test binary becomes.
func otherwise() {
	if len(os.Args) == 4 && os.Args[1] == doomedArgument {
		fmt.Fprintln(os.Stderr, "doomed worker:", doomed(os.Args[2], os.Args[3]))
		os.Exit(1)
	}
}

// TestKilled kills workers in the middle of what they do: the start of the next one leaves nothing of them, and it serves calls.
func TestKilled(t *testing.T) {
	needsSandbox(t)
	t.Parallel()
	carriedCode, err := carried()
	if err != nil {
		t.Fatal(err)
	}
	many := map[string]string{}
	for i := range 5000 {
		many["f"+strconv.Itoa(i)] = "x"
	}
	for _, busy := range []string{"unpack", "build", "bind", "init", "call"} {
		t.Run(busy, func(t *testing.T) {
			t.Parallel()
			folder := drivertest.Folder(t)
			code := carriedCode
			if busy == "unpack" {
				s := store{}
				code = s[s.put(t, many)]
			}
			if err := os.WriteFile(filepath.Join(folder, doomedCode), code, 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(functionPath, doomedArgument, busy, folder)
			cmd.Stderr = os.Stderr
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := false
			t.Cleanup(func() {
				if !ended {
					_ = cmd.Process.Kill()
					_ = cmd.Wait()
				}
			})
			switch busy {
			case "unpack":
				natstest.Eventually(t, patience, func() bool { return len(found(t, folder, doomedCache, "code", ".work-*", "tree", "f*")) > 10 }, "it unpacks")
			case "init":
				natstest.Eventually(t, patience, func() bool { return len(variable(t, "FOLDER="+folder)) > 0 }, "the function runs")
			default:
				if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || strings.TrimSpace(line) != busy {
					t.Fatalf("said %q, %v", line, err)
				}
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			ended = true

			d, err := native.New(native.Config{Dir: filepath.Join(folder, doomedTree), Locks: filepath.Join(folder, doomedLocks)})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := d.Close(); err != nil {
					t.Error(err)
				}
			})
			if _, err := d.Probe(t.Context()); err != nil {
				t.Fatal(err)
			}
			next := sandboxed(t, func(c *worker.Config) {
				c.Driver, c.CacheDir = d, filepath.Join(folder, doomedCache)
			})
			if left := found(t, folder, doomedCache, "code", ".work-*"); len(left) > 0 {
				t.Errorf("folders are left: %v", left)
			}
			// The end of a process of a namespace comes a moment after that of its first.
			natstest.Eventually(t, patience, func() bool { return len(variable(t, "FOLDER="+folder)) == 0 }, "its functions are gone")
			natstest.Eventually(t, patience, func() bool { return len(cgroups(t, filepath.Join(folder, doomedLocks))) == 1 }, "its cgroups are gone")
			binding := next.binding()
			next.made("e1", binding)
			if m, _ := next.call("e1", binding, "1"); string(m.Data) != "1" {
				t.Errorf("answer %s", m.Data)
			}
		})
	}
}

// cgroups are the names of the cgroups of drivers that keep their locks in a folder (native.family).
func cgroups(t *testing.T, locks string) map[string]bool {
	t.Helper()
	h := fnv.New32a()
	_, _ = h.Write([]byte(locks))
	names := map[string]bool{}
	for _, base := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/freezer"} {
		err := filepath.WalkDir(base, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() && strings.HasPrefix(entry.Name(), fmt.Sprintf("hearth-%08x-", h.Sum32())) {
				names[entry.Name()] = true
			}
			return nil // what is gone by now is of others
		})
		if err != nil {
			t.Error(err)
		}
	}
	return names
}

// found lists files by the parts of a pattern.
func found(t *testing.T, parts ...string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// variable lists processes that have this among their variables.
func variable(t *testing.T, text string) (pids []string) {
	t.Helper()
	for _, path := range found(t, "/proc/[0-9]*/environ") {
		if b, err := os.ReadFile(path); err == nil && bytes.Contains(append([]byte{0}, b...), []byte("\x00"+text+"\x00")) {
			pids = append(pids, filepath.Base(filepath.Dir(path)))
		}
	}
	return pids
}
