package natstest

import (
	"testing"

	"go.uber.org/goleak"
)

// Main is the TestMain of packages whose tests use a server: it runs the tests and fails if a goroutine is left.
//
//	func TestMain(m *testing.M) { natstest.Main(m) }
func Main(m *testing.M) { goleak.VerifyTestMain(m, Clients()) }

// Clients is an option of goleak for tests that cut connections: nats.go's first asynchronous publish (the object store's puts) on one that
// has been closed meanwhile waits for its status for good, on a channel that it did not get (1.55.0).
func Clients() goleak.Option {
	return goleak.IgnoreTopFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect")
}
