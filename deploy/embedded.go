package deploy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

const (
	maxPayload = 8 << 20 // a call of 6 MiB with its envelope
	// maxPending is what may wait for one connection before the server cuts it off: a frontend's connection carries the
	// answers of many callers (measured: with the server's 64 MB, 24 answers of 6 MB at once ended it).
	maxPending = 256 << 20
	// maxMemory bounds what streams in memory promise to hold, not what they hold: calls leave at their claim. It lets
	// CALLS_U and every shard of CALLS_R be made.
	maxMemory = (1 + subjects.MaxShards) * topology.CallsMaxBytes
)

// embedded is the NATS server of this process.
type embedded struct {
	server  *server.Server
	url     string
	options func(*users) (*server.Options, error)
}

// reload has the server know these users from now on. Connections of those that it knew already stay.
func (e *embedded) reload(u *users) error {
	opts, err := e.options(u)
	if err == nil {
		err = e.server.ReloadOptions(opts)
	}
	if err != nil {
		return fmt.Errorf("tell the NATS server of its users: %w", err)
	}
	return nil
}

// startServer starts a server and waits until it takes connections.
func startServer(ctx context.Context, address, store string, u *users, log *slog.Logger) (*embedded, error) {
	host, port, err := splitAddress(address)
	if err != nil {
		return nil, err
	}
	// The server would only log that the port is taken, and go on.
	probe, err := listen(ctx, address, "NATS", "--nats")
	if err != nil {
		return nil, err
	}
	if err := probe.Close(); err != nil {
		return nil, fmt.Errorf("try NATS address %s: %w", address, err)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	e := &embedded{options: func(u *users) (*server.Options, error) {
		opts := &server.Options{
			ServerName:         "hearth",
			Host:               host,
			Port:               port,
			JetStream:          true,
			StoreDir:           store,
			JetStreamMaxMemory: maxMemory,
			MaxPayload:         maxPayload,
			MaxPending:         maxPending,
			NoSigs:             true,
		}
		return opts, u.enter(opts)
	}}
	opts, err := e.options(u)
	if err != nil {
		return nil, fmt.Errorf("make the NATS server: %w", err)
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("make the NATS server: %w", err)
	}
	logger := newServerLog(log)
	srv.SetLogger(logger, log.Enabled(ctx, slog.LevelDebug), false)
	srv.Start()
	e.server = srv
	if err := e.await(ctx, logger); err != nil {
		e.stop()
		return nil, fmt.Errorf("start the NATS server on %s: %w", address, err)
	}
	e.url = urlOf("nats", srv.Addr())
	return e, nil
}

// urlOf is where programs of this host reach a listener: one on all addresses also on loopback.
func urlOf(scheme string, listener net.Addr) string {
	if addr, ok := listener.(*net.TCPAddr); ok && addr.IP.IsUnspecified() {
		return scheme + "://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(addr.Port))
	}
	return scheme + "://" + listener.String()
}

// await returns when the server takes connections, or why it never will.
func (e *embedded) await(ctx context.Context, log *serverLog) error {
	for !e.server.ReadyForConnections(10 * time.Millisecond) {
		select {
		case <-log.fatal:
			return log.cause
		case <-ctx.Done():
			return context.Cause(ctx)
		default:
		}
	}
	return nil
}

// stop ends the server and waits; streams are on disk then.
func (e *embedded) stop() {
	e.server.Shutdown()
	e.server.WaitForShutdown()
}

func splitAddress(address string) (host string, port int, err error) {
	host, p, err := net.SplitHostPort(address)
	if err == nil {
		port, err = strconv.Atoi(p)
	}
	if err != nil {
		return "", 0, fmt.Errorf("address %q: %w", address, err)
	}
	return host, port, nil
}

// listen opens a TCP address; what names it and flag changes it, for the error.
func listen(ctx context.Context, address, what, flag string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, &schema.Error{Code: schema.CodeConflict, Cause: err, Message: fmt.Sprintf(
			"%s address %s is taken by another program: stop that one, or choose another address with %s (port 0 picks a free one)",
			what, address, flag)}
	case errors.Is(err, syscall.EACCES):
		return nil, &schema.Error{Code: schema.CodeConflict, Cause: err, Message: fmt.Sprintf(
			"%s address %s may not be used by this user: choose a port above 1023 with %s", what, address, flag)}
	case err != nil:
		return nil, schema.Errorf(schema.CodeInvalidParameter, "%s address %s cannot be used: %w; choose another with %s", what,
			address, err, flag)
	}
	return l, nil
}
