package inprocess_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"github.com/sourcegraph/conc"
	"golang.org/x/net/nettest"

	"github.com/hearth-run/hearth/internal/inprocess"
	"github.com/hearth-run/hearth/internal/natstest"
)

func TestMain(m *testing.M) { natstest.Main(m) }

// What every net.Conn promises: order, deadlines, closing, many at once.
func TestConn(t *testing.T) {
	t.Parallel()
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		a, b := inprocess.Pair(nil)
		return a, b, func() { _ = a.Close(); _ = b.Close() }, nil
	})
}

// Pieces of any size, many times what waits at most, come whole and in order.
func TestOrder(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	sent := make([]byte, 4<<20)
	for i := range sent {
		sent[i] = byte(random.Uint32())
	}
	a, b := inprocess.Pair(nil)
	var writer conc.WaitGroup
	writer.Go(func() {
		defer a.Close()
		for rest := sent; len(rest) > 0; {
			n := min(len(rest), 1+random.IntN(1<<random.IntN(19)))
			if _, err := a.Write(rest[:n]); err != nil {
				t.Error(err)
				return
			}
			rest = rest[n:]
		}
	})
	got, err := io.ReadAll(b)
	writer.Wait()
	if err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("%d bytes of %d came, or others, %v", len(got), len(sent), err)
	}
}

// A write does not wait for its reader, up to a bound; what waits outlives the writer's end.
func TestBound(t *testing.T) {
	t.Parallel()
	a, b := inprocess.Pair(nil)
	if err := a.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	n, err := a.Write(make([]byte, 1<<20))
	if !errors.Is(err, os.ErrDeadlineExceeded) || n < 64<<10 || n > 256<<10 {
		t.Fatalf("%d bytes wait unread, %v", n, err)
	}
	if err := a.SetWriteDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	one := make([]byte, 1)
	if _, err := b.Read(one); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Write(one); err != nil {
		t.Fatalf("there is room for one: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(b); err != nil || len(rest) != n {
		t.Fatalf("%d bytes were left, %v; want %d", len(rest), err, n)
	}
	if _, err := b.Write(one); !errors.Is(err, io.ErrClosedPipe) {
		t.Fatalf("written to one that is closed: %v", err)
	}
}

// Who waits for a write is told of the next one, not of those before, and of the end.
func TestWrites(t *testing.T) {
	t.Parallel()
	var w inprocess.Writes
	server := natstest.Start(t).Server
	c, err := inprocess.Connect(server, &w)
	if err != nil {
		t.Fatal(err)
	}
	told := func(next <-chan struct{}) bool {
		select {
		case <-next:
			return true
		default:
			return false
		}
	}
	write := func() {
		if _, err := c.Write([]byte("\r\n")); err != nil {
			t.Fatal(err)
		}
	}
	write()
	first, second := w.Next(), w.Next()
	if told(first) || told(second) {
		t.Fatal("told of a write before the question")
	}
	write()
	if !told(first) || !told(second) {
		t.Fatal("not told of a write")
	}
	third := w.Next()
	if told(third) {
		t.Fatal("told of a write twice")
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if !told(third) {
		t.Fatal("not told of the end")
	}
}
