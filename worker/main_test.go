package worker_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/hearth-run/hearth/worker/driver/process"
)

func TestMain(m *testing.M) {
	process.Main()
	if len(os.Args) == 2 && os.Args[1] == functionArgument {
		function()
		return
	}
	goleak.VerifyTestMain(m)
}
