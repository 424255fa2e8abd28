package deploy

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/hearth-run/hearth/internal/natstest"
)

// refusals counts what is logged of refused credentials.
type refusals struct {
	slog.Handler
	n *atomic.Int32
}

func (r refusals) WithAttrs([]slog.Attr) slog.Handler { return r }

func (r refusals) Enabled(context.Context, slog.Level) bool { return true }

func (r refusals) Handle(_ context.Context, record slog.Record) error {
	record.Attrs(func(a slog.Attr) bool {
		if strings.Contains(strings.ToLower(a.Value.String()), "authorization violation") {
			r.n.Add(1)
		}
		return true
	})
	return nil
}

// A server that comes back and does not know its users yet is tried again. (nats.go takes the second refusal for the last word.)
func TestConnectionOutlivesRefusals(t *testing.T) {
	t.Parallel()
	const patience = 30 * time.Second
	port := server.RANDOM_PORT
	run := func(password string) *server.Server {
		s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, Username: "u", Password: password, NoSigs: true, NoLog: true})
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		if !s.ReadyForConnections(patience) {
			t.Fatal("the server is not ready")
		}
		port = s.Addr().(*net.TCPAddr).Port
		return s
	}
	s := run("right")
	refused := refusals{slog.DiscardHandler, new(atomic.Int32)}
	n := natsServer{url: strings.Replace(s.ClientURL(), "nats://", "nats://u:right@", 1), log: slog.New(refused)}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	nc, err := n.connect(ctx, login{name: "frontend f1"}, "_HF.f1.n")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	s.Shutdown()
	s.WaitForShutdown()
	s = run("wrong")
	natstest.Eventually(t, patience, func() bool { return refused.n.Load() >= 3 || nc.IsClosed() }, "it is refused")
	s.Shutdown()
	s.WaitForShutdown()
	run("right")
	natstest.Eventually(t, patience, func() bool { return nc.IsConnected() || nc.IsClosed() }, "it is back")
	if nc.IsClosed() {
		t.Error("it has given up")
	}
	disconnect(context.Background(), nc)
	disconnect(context.Background(), nc) // of one that is closed nobody is told any more
}
