package deploy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/inprocess"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

const (
	maxPayload = 8 << 20 // a call of 6 MiB with its envelope
	// maxPending is what may wait for one connection before the server cuts it off: a frontend's connection carries the
	// answers of many callers (measured: with the server's 64 MB, 24 answers of 6 MB at once ended it).
	maxPending = 256 << 20
	// maxMemory bounds what streams in memory promise to hold, not what they hold: calls leave at their claim. It lets
	// every stream of CALLS_U and every shard of CALLS_R be made.
	maxMemory = (subjects.UnreservedStreams + subjects.MaxShards) * topology.CallsMaxBytes
)

// leastStore is what streams on disk may always promise to hold together, and more than what those of a fabric do. The server's
// own bound is three quarters of what is free at its start: where the disk has filled up since its streams were made it refuses
// to have them, and their events would wait until there is room for all that they may hold one day. So it is three quarters of
// the whole disk here, and whether there is room is watched (disk.go).
const leastStore = 8 << 30

func maxStore(folder string) int64 { return max(leastStore, int64(diskSize(folder)/4*3)) }

// embedded is the NATS server of this process. It may be started again on its port and its streams; connections find the
// server that there is. Safe for concurrent use.
type embedded struct {
	url     string
	store   string // folder of the streams
	options func(*users) (*server.Options, error)
	log     *slog.Logger

	changing sync.Mutex // held by who starts, stops or reloads the server
	known    *users     // guarded by changing

	mu     sync.Mutex // guards what follows
	server *server.Server
	said   *serverLog // of this server
}

// inProcess connects one client with the server that there is, again after each restart.
type inProcess struct {
	*embedded
	writes inprocess.Writes
}

var _ nats.InProcessConnProvider = (*inProcess)(nil)

// InProcessConn makes the connection.
func (p *inProcess) InProcessConn() (net.Conn, error) {
	s, _ := p.now()
	return inprocess.Connect(s, &p.writes)
}

func (e *embedded) now() (*server.Server, *serverLog) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.server, e.said
}

// reload has the server know these users from now on. Connections of those that it knew already stay.
func (e *embedded) reload(u *users) error {
	e.changing.Lock()
	defer e.changing.Unlock()
	opts, err := e.options(u)
	if err == nil {
		s, _ := e.now()
		err = s.ReloadOptions(opts)
	}
	if err != nil {
		return fmt.Errorf("tell the NATS server of its users: %w", err)
	}
	e.known = u
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
	e := &embedded{store: store, known: u, log: log, options: func(u *users) (*server.Options, error) {
		opts := &server.Options{
			ServerName:         "hearth",
			Host:               host,
			Port:               port,
			JetStream:          true,
			StoreDir:           store,
			JetStreamMaxMemory: maxMemory,
			JetStreamMaxStore:  maxStore(filepath.Dir(store)),
			MaxPayload:         maxPayload,
			MaxPending:         maxPending,
			NoSigs:             true,
		}
		return opts, u.enter(opts)
	}}
	if err := e.begin(ctx); err != nil {
		return nil, fmt.Errorf("start the NATS server on %s: %w", address, err)
	}
	addr := e.server.Addr()
	if tcp, ok := addr.(*net.TCPAddr); ok {
		port = tcp.Port // the same when it starts again
	}
	e.url = urlOf("nats", addr)
	return e, nil
}

// begin starts a server and waits until it takes connections, or ends it. e.changing is held, or nobody else knows e.
func (e *embedded) begin(ctx context.Context) error {
	opts, err := e.options(e.known)
	if err != nil {
		return err
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return err
	}
	said := newServerLog(e.log)
	srv.SetLogger(said, e.log.Enabled(ctx, slog.LevelDebug), false)
	srv.Start()
	if err := await(ctx, srv, said); err != nil {
		end(srv)
		return err
	}
	e.mu.Lock()
	e.server, e.said = srv, said
	e.mu.Unlock()
	return nil
}

// restart ends the server and starts another on the same port and streams. Memory streams begin empty, as after a crash
// (DESIGN 6, S58).
func (e *embedded) restart(ctx context.Context) error {
	e.changing.Lock()
	defer e.changing.Unlock()
	s, _ := e.now()
	end(s)
	if err := e.begin(ctx); err != nil {
		return fmt.Errorf("start the NATS server again: %w", err)
	}
	return nil
}

// urlOf is where programs of this host reach a listener: one on all addresses also on loopback.
func urlOf(scheme string, listener net.Addr) string {
	if addr, ok := listener.(*net.TCPAddr); ok && addr.IP.IsUnspecified() {
		return scheme + "://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(addr.Port))
	}
	return scheme + "://" + listener.String()
}

// await returns when a server takes connections, or why it never will.
func await(ctx context.Context, s *server.Server, said *serverLog) error {
	for !s.ReadyForConnections(10 * time.Millisecond) {
		select {
		case <-said.fatal:
			return said.cause
		case <-ctx.Done():
			return context.Cause(ctx)
		default:
		}
	}
	return nil
}

// stop ends the server and waits; streams are on disk then.
func (e *embedded) stop() {
	e.changing.Lock()
	defer e.changing.Unlock()
	s, _ := e.now()
	end(s)
}

func end(s *server.Server) {
	s.Shutdown()
	s.WaitForShutdown()
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
