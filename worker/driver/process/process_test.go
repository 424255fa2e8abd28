package process_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/hearth-run/hearth/worker/driver"
	"github.com/hearth-run/hearth/worker/driver/drivertest"
	"github.com/hearth-run/hearth/worker/driver/process"
)

func TestMain(m *testing.M) {
	process.Main()
	drivertest.Guest()
	goleak.VerifyTestMain(m)
}

func open(t testing.TB) driver.Driver {
	d, err := process.New(process.Config{Dir: drivertest.Folder(t)})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestExercise(t *testing.T) {
	drivertest.Exercise(t, open)
}
