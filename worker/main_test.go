package worker_test

import (
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/hearth-run/hearth/worker/driver/process"
	"github.com/hearth-run/hearth/worker/egress"
	"github.com/hearth-run/hearth/worker/unpack"
)

func TestMain(m *testing.M) {
	unpack.Main()
	egress.Main()
	process.Main()
	if len(os.Args) == 2 && os.Args[1] == functionArgument {
		function()
		return
	}
	otherwise()
	folder, err := shareBinary()
	if err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(folder)
		os.Exit(code)
	}))
}

// functionPath is the test binary where environments' users may execute it.
var functionPath string

// shareBinary copies it, once and before anything forks: a child that has been forked and not executed yet holds every
// file that its parent writes at this moment, and what somebody writes cannot be executed (golang/go#22315).
func shareBinary() (folder string, err error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(self)
	if err != nil {
		return "", err
	}
	if folder, err = os.MkdirTemp("", "worker-test-"); err != nil {
		return "", err
	}
	if err := os.Chmod(folder, 0o711); err != nil {
		return "", err
	}
	functionPath = filepath.Join(folder, "function")
	return folder, os.WriteFile(functionPath, b, 0o755)
}
