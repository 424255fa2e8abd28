package client_test

import (
	"testing"

	"go.uber.org/goleak"
)

// nats.go 1.55 leaves a goroutine behind now and then when an object is put: it starts resetPendingAcksOnReconnect, and
// when cleanupReplySub is faster, that one finds its channel nil and waits on it for ever (jetstream/publish.go).
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreTopFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect"))
}
