package manager

import (
	"bytes"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/internal/inprocess"
	"github.com/hearth-run/hearth/internal/natstest"
)

// tapped connects within the process and keeps what a client writes.
type tapped struct {
	fabric *natstest.Fabric
	writes inprocess.Writes

	mu      sync.Mutex
	written bytes.Buffer
}

func (p *tapped) InProcessConn() (net.Conn, error) {
	c, err := inprocess.Connect(p.fabric.Server, &p.writes)
	return tap{c, p}, err
}

func (p *tapped) has(text string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Contains(p.written.Bytes(), []byte(text))
}

type tap struct {
	net.Conn
	to *tapped
}

func (c tap) Write(b []byte) (int, error) {
	c.to.mu.Lock()
	c.to.written.Write(b)
	c.to.mu.Unlock()
	return c.Conn.Write(b)
}

// An acknowledgement that is said to be written out has left the client, whoever else publishes on its connection; nothing is said to
// have left one that is disconnected. DESIGN 3.
func TestWrittenOutWithinTheProcess(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	p := &tapped{fabric: f}
	nc, err := nats.Connect("", nats.InProcessServer(p), nats.MaxReconnects(-1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	m, err := New(nc, nil, Config{ID: "m1", Names: f.Names, Capacity: 1, Written: p.writes.Next})
	if err != nil {
		t.Fatal(err)
	}
	var claims conc.WaitGroup
	for who := range 4 {
		claims.Go(func() {
			for i := range 300 {
				subject := fmt.Sprintf("acks.%d.%d", who, i)
				if err := nc.Publish(subject, ackBody); err != nil {
					t.Error(err)
					return
				}
				if !m.writtenOut(m.now() + time.Minute) {
					t.Errorf("%s is not written out", subject)
					return
				}
				if !p.has("PUB " + subject + " ") {
					t.Errorf("%s is said to be written out and is not", subject)
					return
				}
			}
		})
	}
	claims.Wait()

	f.Stop()
	natstest.Eventually(t, 30*time.Second, func() bool { return !nc.IsConnected() }, "the connection is lost")
	if err := nc.Publish("acks.lost", ackBody); err != nil {
		t.Fatal(err)
	}
	if m.writtenOut(m.now() + 10*time.Millisecond) {
		t.Error("written out to a server that is gone")
	}
	over := make(chan struct{})
	close(over)
	m.cfg.Written = func() <-chan struct{} { return over } // as when the connection is closed while somebody waits
	if m.writtenOut(m.now() + time.Minute) {
		t.Error("written out by the end of the connection")
	}
}
