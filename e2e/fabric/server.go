package fabric

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// Server is a NATS server in a process of its own, with JetStream in a folder of the test. Started again it has the port
// and the folder that it had.
type Server struct {
	*Process
	ID  string // its name
	URL string

	config string
}

// StartServer starts a NATS server with these users, each a block of its configuration. Who comes without a credential is the
// test, and may do everything.
func StartServer(t testing.TB, users ...string) *Server { return startServer(t, nil, users...) }

// startServer is StartServer with the streams on a disk, if it is given one.
func startServer(t testing.TB, disk *Disk, users ...string) *Server {
	t.Helper()
	dir := t.TempDir()
	store := filepath.Join(dir, "store")
	if disk != nil {
		store = filepath.Join(disk.Dir, "store")
	}
	s := newServer(t, disk, serverConfig{name: "e2e", dir: dir, store: store, users: users})
	s.Start()
	return s
}

// serverConfig is what a NATS server is told.
type serverConfig struct {
	name, dir, store string
	users            []string
	cluster          string // block; "" none
}

// newServer makes a server that does not run yet.
func newServer(t testing.TB, disk *Disk, c serverConfig) *Server {
	t.Helper()
	path, err := buildServer()
	if err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	s := &Server{ID: c.name, URL: fmt.Sprintf("nats://127.0.0.1:%d", port), config: filepath.Join(c.dir, "server.conf")}
	// The limits are those of the embedded server (package deploy).
	text := fmt.Sprintf(`server_name: %s
listen: "127.0.0.1:%d"
max_payload: 8MB
max_pending: 256MB
jetstream { store_dir: %q, max_memory_store: 64GB, max_file_store: 64GB }
no_auth_user: test
%sauthorization { users: [
{ user: test, password: test }
%s
] }
`, c.name, port, c.store, c.cluster, strings.Join(c.users, "\n"))
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	path, args := disk.enter(path, "--config", s.config)
	s.Process = newProcess(t, "the NATS server "+c.name, path, args, environ(c.dir))
	return s
}

// Start runs the server, which must not run, and waits until it answers. Its test may start it again after Kill and Stop.
func (s *Server) Start() {
	s.t.Helper()
	if err := s.start(); err != nil {
		s.t.Fatal(err)
	}
	s.await("an answer", readyWithin, func() bool {
		c, err := net.DialTimeout("tcp", strings.TrimPrefix(s.URL, "nats://"), time.Second)
		if err != nil {
			return false
		}
		defer c.Close()
		// The first line is INFO, which the server sends when it serves.
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		b := make([]byte, len("INFO "))
		n, _ := c.Read(b)
		return strings.HasPrefix("INFO ", string(b[:n])) && n > 0
	})
}

// Connect gives a connection to the server that comes back quickly, closed by the test's cleanup.
func (s *Server) Connect(opts ...nats.Option) *nats.Conn {
	s.t.Helper()
	nc, err := nats.Connect(s.URL, append([]nats.Option{
		nats.MaxReconnects(-1), nats.ReconnectWait(10 * time.Millisecond), nats.ReconnectJitter(10*time.Millisecond, 10*time.Millisecond),
		nats.Timeout(readyWithin / 4),
	}, opts...)...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(nc.Close)
	return nc
}

// given are the ports that were given, of which none is given again: nothing listens yet on one whose process is still to start, or is
// down for a while.
var given sync.Map

// freePort is a port on which nothing listens, below those that the system gives to outgoing connections: a client that
// asks again and again for a port of that range, while its server is down, may be given that very port, and meets itself.
func freePort(t testing.TB) int {
	t.Helper()
	for range 1000 {
		port := 10_000 + rand.IntN(20_000)
		if _, was := given.LoadOrStore(port, true); was {
			continue
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatal("no free port between 10000 and 30000")
	return 0
}
