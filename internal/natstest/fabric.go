package natstest

import (
	"cmp"
	"context"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/inprocess"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// patience bounds every wait of the package. It is no promise about speed: reached, the test has failed.
const patience = time.Minute

// Option changes how [Start] starts a fabric.
type Option func(*settings)

type settings struct {
	prefix  string
	bare    bool
	fabric  schema.Fabric
	options func(*server.Options)
}

// Prefix starts the fabric under another prefix than the default.
func Prefix(prefix string) Option { return func(s *settings) { s.prefix = prefix } }

// Bare leaves the topology out.
func Bare() Option { return func(s *settings) { s.bare = true } }

// Arcs is how many unreserved arcs a fabric of tests has where a test does not ask for others: enough for functions to have arcs of
// their own. Every arc is a consumer at the server and a few pulls every second at each manager, which at the default of 1,024 is most of
// what a test of one call would compute.
const Arcs = 64

// AllArcs sets up as many arcs as a fabric has by default.
func AllArcs() Option { return func(s *settings) { s.fabric = schema.DefaultFabric() } }

// Numbers sets up the topology for these numbers instead of those of [Small].
func Numbers(f schema.Fabric) Option { return func(s *settings) { s.fabric = f } }

// ServerOptions are those of the embedded server.
type ServerOptions = server.Options

// Server changes the server's options before it starts: users, limits. The store and the port are set already.
func Server(change func(*ServerOptions)) Option { return func(s *settings) { s.options = change } }

// Small is the numbers of a fabric by default, but for its number of arcs.
func Small() schema.Fabric {
	numbers := schema.DefaultFabric()
	numbers.Arcs = Arcs
	return numbers
}

// Fabric is a NATS server with the topology of a fabric.
type Fabric struct {
	Server *server.Server
	Names  subjects.Names
	URL    string // for clients over TCP; the same after a restart
	Arcs   int    // for which the topology was set up; components are to be told by the test

	opts    server.Options
	current atomic.Pointer[server.Server] // Server, for connections that reconnect while a test restarts it
}

// Start starts a server on a free port of 127.0.0.1 with JetStream in t.TempDir, and ensures the topology. The test's
// cleanup shuts it down and waits.
func Start(t testing.TB, opts ...Option) *Fabric {
	t.Helper()
	s := settings{fabric: Small()}
	for _, o := range opts {
		o(&s)
	}
	names, err := subjects.NewNames(s.prefix)
	if err != nil {
		t.Fatal(err)
	}
	f := &Fabric{Names: names, Arcs: cmp.Or(s.fabric.Arcs, subjects.DefaultArcs), opts: server.Options{
		ServerName: "natstest",
		Host:       "127.0.0.1",
		Port:       server.RANDOM_PORT,
		JetStream:  true,
		StoreDir:   t.TempDir(),
		MaxPayload: 8 << 20,
		NoLog:      true,
		NoSigs:     true,
		// Bounds are promised by every stream at its creation; the machine's own free memory and disk must not decide a test.
		JetStreamMaxMemory: 64 << 30,
		JetStreamMaxStore:  64 << 30,
		// Nor must the time in which a busy machine comes to read what it was sent: by default a connection is cut after ten seconds.
		WriteDeadline: patience,
	}}
	if s.options != nil {
		s.options(&f.opts)
	}
	f.run(t)
	t.Cleanup(func() { f.Stop() })
	if !s.bare {
		f.Ensure(t, s.fabric)
	}
	return f
}

func (f *Fabric) run(t testing.TB) {
	t.Helper()
	opts := f.opts // the server keeps and changes what it is given
	srv, err := server.NewServer(&opts)
	if err != nil {
		t.Fatalf("start nats-server: %v", err)
	}
	srv.Start()
	if !srv.ReadyForConnections(patience) {
		srv.Shutdown()
		srv.WaitForShutdown()
		t.Fatalf("nats-server is not ready after %v", patience)
	}
	f.Server = srv
	f.current.Store(srv)
	addr := srv.Addr().(*net.TCPAddr)
	f.opts.Port = addr.Port
	f.URL = "nats://" + net.JoinHostPort(addr.IP.String(), strconv.Itoa(addr.Port))
}

// Ensure sets the topology up, as a manager does at its start and on reconnect.
func (f *Fabric) Ensure(t testing.TB, fabric schema.Fabric) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	nc, err := nats.Connect("", nats.InProcessServer(f), nats.Timeout(patience/4))
	if err != nil {
		t.Fatalf("connect in-process: %v", err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if err := topology.Ensure(ctx, js, f.Names, fabric); err != nil {
		t.Fatal(err)
	}
}

// Stop shuts the server down and waits: connections lose it, what lay in memory is gone, files stay. Safe twice.
func (f *Fabric) Stop() {
	f.Server.Shutdown()
	f.Server.WaitForShutdown()
}

// Restart stops the server and starts one again on the same port and folder, without the topology: what a manager finds
// when it reconnects. Connections reconnect by themselves.
func (f *Fabric) Restart(t testing.TB) {
	t.Helper()
	f.Stop()
	f.run(t)
}

// RestartEmpty is [Fabric.Restart] on an empty folder: what a lost disk leaves.
func (f *Fabric) RestartEmpty(t testing.TB) {
	t.Helper()
	f.Stop()
	f.opts.StoreDir = t.TempDir()
	f.run(t)
}

// InProcessConn connects to the server that runs now: a Fabric is what nats.InProcessServer takes.
func (f *Fabric) InProcessConn() (net.Conn, error) { return inprocess.Connect(f.current.Load(), nil) }

// Connect gives an in-process connection that reconnects for ever, quickly, closed by the test's cleanup.
func (f *Fabric) Connect(t testing.TB, opts ...nats.Option) *nats.Conn {
	t.Helper()
	return connect(t, "", append([]nats.Option{nats.InProcessServer(f)}, opts...))
}

// ConnectTCP is [Fabric.Connect] over TCP.
func (f *Fabric) ConnectTCP(t testing.TB, opts ...nats.Option) *nats.Conn {
	t.Helper()
	return connect(t, f.URL, opts)
}

func connect(t testing.TB, url string, opts []nats.Option) *nats.Conn {
	t.Helper()
	closed := make(chan struct{})
	opts = append([]nats.Option{
		nats.MaxReconnects(-1), nats.ReconnectWait(10 * time.Millisecond), nats.ReconnectJitter(0, 0),
		nats.Timeout(patience / 4), // to connect; two seconds by default, and less than a wait: a server that ends may say nothing
	}, append(opts, nats.ClosedHandler(func(*nats.Conn) { close(closed) }))...)
	nc, err := nats.Connect(url, opts...)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { // waits, so that a look for leaked goroutines meets none of a connection that is closing
		nc.Close()
		<-closed
	})
	return nc
}

// JetStream gives the JetStream context of a new in-process connection.
func (f *Fabric) JetStream(t testing.TB) jetstream.JetStream {
	t.Helper()
	return JetStream(t, f.Connect(t))
}

// JetStream gives the JetStream context of a connection, in which a request without a deadline of its own has more than the five seconds
// of nats.go, and less than a wait, for what was sent to a server that a test has ended is sent once more only then.
func JetStream(t testing.TB, nc *nats.Conn) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(patience/4))
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// Routes are the servers of a cluster, for [ServerOptions].
func Routes(urls ...string) []*url.URL {
	return server.RoutesFromStr(strings.Join(urls, ","))
}
