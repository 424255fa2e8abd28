package natstest

import (
	"flag"
	"strconv"
	"testing"

	"go.uber.org/goleak"
)

// Main is the TestMain of packages whose tests use a server: it runs the tests and fails if a goroutine is left.
//
//	func TestMain(m *testing.M) { natstest.Main(m) }
func Main(m *testing.M) { goleak.VerifyTestMain(m, Clients()) }

// Parallel has so many tests run at once where the command line does not say how many: tests that wait for others far more than they
// compute would take minutes, were there only as many at once as there are processors. Not under the race detector, where they compute
// most of the time, nor for tests in which somebody waits for 20 or 100 ms alone.
func Parallel(n int) {
	flag.Parse()
	if Raced {
		return
	}
	if p := flag.Lookup("test.parallel"); p.Value.String() == p.DefValue {
		_ = p.Value.Set(strconv.Itoa(n))
	}
}

// Clients is an option of goleak for tests that cut connections: nats.go's first asynchronous publish (the object store's puts) on one that
// has been closed meanwhile waits for its status for good, on a channel that it did not get (1.55.0).
func Clients() goleak.Option {
	return goleak.IgnoreTopFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect")
}
