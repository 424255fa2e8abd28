package natstest

import (
	"flag"
	"fmt"
	"runtime"
	"testing"

	"go.uber.org/goleak"
)

// Main is the TestMain of packages whose tests use a server: it runs the tests and fails if a goroutine is left. Such tests wait
// more than they compute, so at least three run at a time; -parallel says otherwise.
//
//	func TestMain(m *testing.M) { natstest.Main(m) }
func Main(m *testing.M) {
	if err := flag.Set("test.parallel", fmt.Sprint(max(3, runtime.GOMAXPROCS(0)))); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}
