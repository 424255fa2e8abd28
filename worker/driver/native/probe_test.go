//go:build linux && (amd64 || arm64)

package native_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

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
