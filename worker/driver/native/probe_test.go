//go:build linux && (amd64 || arm64)

package native_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hearth-run/hearth/worker/driver"
	"github.com/hearth-run/hearth/worker/driver/drivertest"
	"github.com/hearth-run/hearth/worker/driver/native"
)

// TestProbe: on a host where these tests run the sandbox can be built, and it claims what it holds.
func TestProbe(t *testing.T) {
	needsRoot(t)
	d := open(t)
	t.Cleanup(func() { _ = d.Close() })
	for range 2 {
		got, err := d.Probe(t.Context())
		if err != nil || !got.Tenants || !got.Limits || len(got.Notes) != 0 {
			t.Fatalf("%+v, %v", got, err)
		}
	}
}

// TestRefusedWithoutRoot: who is not root is told what is missing and the two ways on. Not parallel: what another test forks
// meanwhile would keep the copied program busy (golang/go#22315).
func TestRefusedWithoutRoot(t *testing.T) {
	if os.Geteuid() == 0 {
		folder := drivertest.Folder(t)
		guest := drivertest.GuestCommand(t, folder)
		cmd := exec.Command(guest.Path, "-test.run", "^TestRefusedWithoutRoot$", "-test.v")
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: TestRefusedWithoutRoot")) {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	d, err := native.New(native.Config{Dir: filepath.Join(t.TempDir(), "tree")})
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.Probe(t.Context())
	for _, want := range []string{"not root", "run Hearth as root", "--driver process"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in: %v", want, err)
		}
	}
	if _, err := d.New(t.Context(), driver.Spec{ID: "refused"}); err == nil {
		t.Error("an environment was made all the same")
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// TestRefusedByHost: where something is missing or full, that is named, and what to do; and nothing stays behind.
func TestRefusedByHost(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	folder := drivertest.Folder(t)
	for _, host := range []struct {
		what  string
		mount func() error
		says  []string
	}{
		{"no cgroups", func() error { return unix.Unmount("/sys/fs/cgroup", unix.MNT_DETACH) },
			[]string{"no cgroup hierarchy is mounted: mount cgroup2 on /sys/fs/cgroup", "--driver process"}},
		{"full disk", func() error { return unix.Mount("tmpfs", folder, "tmpfs", 0, "size=4k,nr_inodes=1") },
			[]string{"no space left on device", "make room on that disk"}},
	} {
		done := make(chan error, 1)
		go func() { // its thread is in other mounts, and is given to nobody
			runtime.LockOSThread()
			done <- func() error {
				if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
					return err
				}
				if err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), host.mount()); err != nil {
					return err
				}
				d, err := native.New(native.Config{Dir: filepath.Join(folder, "tree")})
				if err != nil {
					return err
				}
				_, refused := d.Probe(context.Background())
				for _, want := range host.says {
					if refused == nil || !strings.Contains(refused.Error(), want) {
						err = errors.Join(err, fmt.Errorf("no %q in: %w", want, refused))
					}
				}
				return errors.Join(err, d.Close())
			}()
		}()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", host.what, err)
		}
	}
}
