//go:build linux && (amd64 || arm64)

package native_test

import (
	"context"
	"flag"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hearth-run/hearth/worker/driver"
	"github.com/hearth-run/hearth/worker/driver/drivertest"
	"github.com/hearth-run/hearth/worker/driver/native"
)

// environments is how many TestMany makes: CI takes 2,000, and 20,000 is an hour's proof of the same.
var environments = flag.Int("environments", 200, "how many environments TestMany makes and kills")

// TestMany makes and kills many environments, some in the middle of their start, some that end by themselves and some whose
// processes hide, and looks for what they left: processes, mounts, cgroups, descriptors, uids, files, threads. Not parallel to
// other tests: it counts what the whole process has.
func TestMany(t *testing.T) {
	needsRoot(t)
	folder := drivertest.Folder(t)
	tree := filepath.Join(folder, "tree")
	d, err := native.New(native.Config{Dir: tree, Stock: -1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	scripts := []string{
		"exit 3", "sleep 1000 & sleep 1000", "setsid sh -c 'sleep 1000 & sleep 1000' & exit 0", "echo x >/tmp/x; exec sleep 1000", "kill -9 $$",
	}
	before := have(t, d)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 2 * runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				i := int(next.Add(1))
				if i > *environments || t.Failed() {
					return
				}
				brief(t, d, driver.Command{Path: "/bin/sh", Args: []string{"-c", scripts[i%len(scripts)]}, Dir: folder}, i)
			}
		})
	}
	wg.Wait()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%v before", before)
		}
	})
	// The kernel takes a while to close a tap.
	drivertest.Eventually(t, "nothing is left", func() bool {
		for what, n := range have(t, d) {
			if n > before[what] {
				return false
			}
		}
		return true
	})
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if own := native.Own(d); len(own) != 0 {
		t.Errorf("cgroups after the end: %v", own)
	}
	if entries, err := os.ReadDir(tree); err != nil || len(entries) != 0 {
		t.Errorf("files after the end: %v, %v", entries, err)
	}
}

// brief is one environment from its beginning to its end.
func brief(t *testing.T, d driver.Driver, cmd driver.Command, i int) {
	e, err := d.New(context.Background(), driver.Spec{ID: "brief"})
	if err != nil {
		t.Error(err)
		return
	}
	switch i % 7 {
	case 0: // never started
	case 1, 2: // killed in the middle of its start
		var wg sync.WaitGroup
		wg.Go(e.Kill)
		_ = e.Start(context.Background(), cmd, io.Discard)
		wg.Wait()
	case 3: // the end of the caller's patience, wherever that is
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(cancel)
		_ = e.Start(ctx, cmd, io.Discard)
		wg.Wait()
	default:
		if err := e.Start(context.Background(), cmd, io.Discard); err != nil {
			t.Error(err)
		}
	}
	e.Kill()
	<-e.Done()
}

// have is look, and what the whole host has of environments of this driver.
func have(t *testing.T, d *native.Driver) map[string]int {
	t.Helper()
	seen := look(t, d)
	seen["uids"] = native.UIDs(d)
	first, size := native.Block(d)
	for uid, n := range processesOfEnvironments(t) {
		if uid >= first && uid < first+size {
			seen["processes"] += n
		}
	}
	seen["goroutines"] = runtime.NumGoroutine()
	return seen
}
