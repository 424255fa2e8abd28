package watch_test

import (
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/internal/watch"
)

// toldToStop is a watch that notes whether the server is asked to remove its consumer.
type toldToStop struct {
	jetstream.KeyWatcher
	updates chan jetstream.KeyValueEntry
	told    bool
}

func (w *toldToStop) Updates() <-chan jetstream.KeyValueEntry { return w.updates }

func (w *toldToStop) Stop() error {
	w.told = true
	return nil
}

// A watch ends without the server that is away, whose answer it would wait for for seconds; one that is there is told.
func TestEnd(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	nc := f.ConnectTCP(t, nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	end := func() (told bool) {
		w := &toldToStop{updates: make(chan jetstream.KeyValueEntry, 1)}
		w.updates <- nil // somebody waits until what was on its way is read
		watch.End(nc, w, func() { close(w.updates) })
		return w.told
	}
	if !end() {
		t.Error("the server is there and is not asked to remove the consumer")
	}
	f.Stop()
	natstest.Eventually(t, patience, func() bool { return !nc.IsConnected() }, "the server is away")
	if end() {
		t.Error("a server that is away is asked to remove the consumer")
	}
	left := &toldToStop{updates: make(chan jetstream.KeyValueEntry, 1)}
	left.updates <- nil
	watch.Leave(left, func() { close(left.updates) })
	if left.told || len(left.updates) != 0 {
		t.Errorf("who leaves asks the server (%v), or leaves %d behind", left.told, len(left.updates))
	}
}
