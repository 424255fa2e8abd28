package watch

import (
	"context"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// End ends a watch of a bucket on a connection, and waits until nothing comes of it any more; end ends the context that it was begun
// with. Where the server is there its consumer is removed; one that is away removes it by itself, and is not waited for.
func End(nc *nats.Conn, w jetstream.KeyWatcher, end context.CancelFunc) {
	end() // has nats.go unsubscribe
	if nc.IsConnected() {
		_ = w.Stop() // the connection may be gone by now, and the subscription with it
	}
	drain(w)
}

// Leave is [End] for those that must not wait for the server: nats.go has the consumer removed, or the server does when nobody hears it
// any more.
func Leave(w jetstream.KeyWatcher, end context.CancelFunc) {
	end()
	drain(w)
}

func drain(w jetstream.KeyWatcher) {
	for range w.Updates() {
		// The callback of nats.go sends under its lock: without a reader it, and whoever closes the channel, would hang.
	}
}
