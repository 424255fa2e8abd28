package deploy

import (
	"fmt"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/schema"
)

const bareReady = 10 * time.Second

// Bare is a NATS server with JetStream and the limits of a fabric's own, with nothing of a fabric on it, for measurements to be
// compared with. It knows no users: whoever reaches it on the loopback may do everything. Safe for concurrent use.
type Bare struct {
	URL    string // on 127.0.0.1, for other processes
	server *server.Server
}

// StartBare starts one on a free port, its streams in a folder. It fails with [schema.CodeUnavailable] where it takes no connections
// after ten seconds.
func StartBare(folder string) (*Bare, error) {
	s, err := server.NewServer(&server.Options{
		ServerName: "bare", Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: folder, JetStreamMaxMemory: maxMemory,
		JetStreamMaxStore: maxStore(folder), MaxPayload: maxPayload, MaxPending: maxPending, NoSigs: true, NoLog: true,
	})
	if err != nil {
		return nil, fmt.Errorf("make a NATS server: %w", err)
	}
	s.Start()
	b := &Bare{server: s}
	if !s.ReadyForConnections(bareReady) {
		b.Stop()
		return nil, schema.Errorf(schema.CodeUnavailable, "a NATS server took no connections within %v", bareReady)
	}
	b.URL = s.ClientURL()
	return b, nil
}

// Connect connects within the process, as the roles of a fabric do. The connection is the caller's to close.
func (b *Bare) Connect() (*nats.Conn, error) {
	nc, err := nats.Connect("", nats.InProcessServer(b.server))
	if err != nil {
		return nil, fmt.Errorf("connect with the NATS server of this process: %w", err)
	}
	return nc, nil
}

// Stop ends the server and waits.
func (b *Bare) Stop() {
	b.server.Shutdown()
	b.server.WaitForShutdown()
}
