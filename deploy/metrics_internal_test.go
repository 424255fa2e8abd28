package deploy

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"testing"
	"time"
)

// Whoever on this host opens connections to metrics or the console without end is closed at once, and has none of the process's other
// descriptors.
//
// Broken to see it fail: no bound.
func TestSeenListenerHasABound(t *testing.T) {
	t.Parallel()
	at, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &seenListener{}
	l.start(at, http.NotFoundHandler(), nil, slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := l.stop(ctx); err != nil {
			t.Error(err)
		}
	})
	dial := func() net.Conn {
		c, err := net.Dial("tcp", at.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	served := func(c net.Conn) bool {
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			return false
		}
		n, err := c.Read(make([]byte, 1))
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		return n == 1
	}
	var all []net.Conn
	for range maxSeen {
		c := dial()
		if !served(c) {
			t.Fatalf("connection %d is not served", len(all)+1)
		}
		all = append(all, c)
	}
	if served(dial()) {
		t.Errorf("%d connections are served, want %d", maxSeen+1, maxSeen)
	}
	_ = all[0].Close()
	for deadline := time.Now().Add(time.Minute); !served(dial()); {
		if time.Now().After(deadline) {
			t.Fatal("no place becomes free")
		}
	}
}
