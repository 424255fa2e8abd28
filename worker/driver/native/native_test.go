//go:build linux && (amd64 || arm64)

package native_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/hearth-run/hearth/worker/driver"
	"github.com/hearth-run/hearth/worker/driver/drivertest"
	"github.com/hearth-run/hearth/worker/driver/native"
	"github.com/hearth-run/hearth/worker/driver/native/hostile"
	"github.com/hearth-run/hearth/worker/egress"
)

func TestMain(m *testing.M) {
	egress.Main()
	hostile.Main()
	talk()
	drivertest.Guest()
	if len(os.Args) == 3 && os.Args[1] == workerArgument {
		fmt.Fprintln(os.Stderr, "worker:", work(os.Args[2]))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

func open(t testing.TB) driver.Driver {
	t.Helper()
	d, err := native.New(native.Config{Dir: filepath.Join(drivertest.Folder(t), "tree")})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// needsRoot skips a test that takes a root of Linux, or fails where one is promised.
func needsRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("CI=true, and these tests do not run as root")
	}
	t.Skip("needs root")
}

// TestExercise: the suite of all drivers. Not parallel to other tests: it counts goroutines.
func TestExercise(t *testing.T) {
	needsRoot(t)
	drivertest.Exercise(t, open)
}
