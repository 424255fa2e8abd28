package drivertest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hearth-run/hearth/worker/driver"
)

// patience bounds every wait of the suite: far beyond what a loaded machine needs.
const patience = 30 * time.Second

// Host is who guests report to.
type Host struct {
	t       testing.TB
	arrived chan *Leash
	wg      sync.WaitGroup

	mu      sync.Mutex
	leashes []*Leash
}

// Leash is the connection of one guest.
type Leash struct {
	Report
	t    testing.TB
	conn net.Conn
	gone chan struct{} // closed when the guest's end of the connection is
}

// NewHost serves guests on l until the test ends or l is closed.
func NewHost(t testing.TB, l net.Listener) *Host {
	h := &Host{t: t, arrived: make(chan *Leash, 64)}
	h.wg.Go(func() { h.accept(l) })
	t.Cleanup(func() {
		_ = l.Close()
		h.mu.Lock()
		for _, leash := range h.leashes {
			_ = leash.conn.Close()
		}
		h.mu.Unlock()
		h.wg.Wait()
	})
	return h
}

func (h *Host) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		leash := &Leash{t: h.t, conn: conn, gone: make(chan struct{})}
		h.mu.Lock()
		h.leashes = append(h.leashes, leash)
		h.mu.Unlock()
		h.wg.Go(func() {
			defer close(leash.gone)
			in := bufio.NewReader(conn)
			line, err := in.ReadBytes('\n')
			if err != nil || json.Unmarshal(line, &leash.Report) != nil {
				return
			}
			h.arrived <- leash
			_, _ = io.Copy(io.Discard, in)
		})
	}
}

// Await waits for the next guest to report.
func (h *Host) Await() *Leash {
	h.t.Helper()
	select {
	case leash := <-h.arrived:
		return leash
	case <-time.After(patience):
		h.t.Fatal("no guest reported")
		return nil
	}
}

// Tell makes a guest do something.
func (l *Leash) Tell(format string, args ...any) {
	l.t.Helper()
	if _, err := fmt.Fprintf(l.conn, format+"\n", args...); err != nil {
		l.t.Fatalf("tell %s: %v", l.Role, err)
	}
}

// AwaitGone waits until the guest's process has ended.
func (l *Leash) AwaitGone() {
	l.t.Helper()
	select {
	case <-l.gone:
	case <-time.After(patience):
		l.t.Fatalf("the %s lives", l.Role)
	}
}

// Gone tells whether the guest's process has ended.
func (l *Leash) Gone() bool {
	select {
	case <-l.gone:
		return true
	default:
		return false
	}
}

// Folder makes a folder that every user can reach, unlike those of t.TempDir, and removes it at the end.
func Folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "drivertest-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

// GuestCommand is a command that runs this binary as a guest, copied into folder, where every user may execute it.
func GuestCommand(t testing.TB, folder string, arguments ...string) driver.Command {
	t.Helper()
	path := filepath.Join(folder, "guest")
	if _, err := os.Stat(path); err != nil {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(self)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return driver.Command{Path: path, Args: GuestArguments(arguments...), Dir: folder}
}

// GuestArguments make this binary a guest.
func GuestArguments(arguments ...string) []string {
	return append([]string{guestArgument, RoleMain}, arguments...)
}

// buffer is an output that a test may read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
