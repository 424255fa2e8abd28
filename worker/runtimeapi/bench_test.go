package runtimeapi_test

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker/runtimeapi"
)

// waking tells of an answer by a channel and does nothing else.
type waking struct{ answered chan struct{} }

func (w *waking) Parked(first bool) {
	if first {
		w.answered <- struct{}{}
	}
}
func (w *waking) Answered(*runtimeapi.Answer)      { w.answered <- struct{}{} }
func (w *waking) InitFailed(*schema.FunctionError) {}

// lean is a runtime loop that answers as ours do: one connection, answer and next in one write, no allocation.
func lean(conn net.Conn, answer []byte, first string) {
	if _, err := io.WriteString(conn, first); err != nil {
		return
	}
	buf := make([]byte, 64<<10)
	end, size := []byte("\r\n\r\n"), []byte("Content-Length: ")
	for have := 0; ; {
		n, err := conn.Read(buf[have:])
		if err != nil {
			return
		}
		have += n
		for {
			i := bytes.Index(buf[:have], end)
			if i < 0 {
				break
			}
			total := i + len(end) + length(buf[bytes.Index(buf[:i], size)+len(size):i])
			if have < total {
				break
			}
			call := bytes.HasPrefix(buf, []byte("HTTP/1.1 200"))
			have = copy(buf, buf[total:have])
			if !call {
				continue
			}
			if _, err := conn.Write(answer); err != nil {
				return
			}
		}
	}
}

func length(digits []byte) (n int) {
	for _, c := range digits {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + int(c-'0')
	}
	return n
}

// hop sets up a server and a lean runtime over TCP loopback, in this process.
func hop(b testing.TB, payload int) (call func()) {
	w := &waking{answered: make(chan struct{}, 1)}
	s := runtimeapi.New(runtimeapi.Config{ARN: "arn:aws:lambda:us-east-1:000000000000:function:echo", Events: w})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s.Serve(l)
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		lean(conn, []byte(response(strings.Repeat("x", payload), "Content-Type: application/json\r\n")+next), next)
	}()
	b.Cleanup(func() { s.Close(); <-ended; _ = conn.Close() })
	<-w.answered
	in := runtimeapi.Invocation{RequestID: id, Payload: bytes.Repeat([]byte("x"), payload)}
	return func() {
		in.Deadline = time.Now()
		if err := s.Start(&in); err != nil {
			b.Fatal(err)
		}
		<-w.answered
	}
}

// BenchmarkHop is one warm call without NATS: Start, runtime, Answered.
func BenchmarkHop(b *testing.B) {
	for name, payload := range map[string]int{"64B": 64, "2KiB": 2 << 10, "32KiB": 32 << 10} {
		b.Run(name, func(b *testing.B) {
			call := hop(b, payload)
			b.ReportAllocs()
			for b.Loop() {
				call()
			}
		})
	}
}

// BenchmarkEcho is the floor: the same bytes there and back over one connection, and nobody parses them.
func BenchmarkEcho(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go func() {
		conn, err := l.Accept()
		if err == nil {
			_, _ = io.Copy(struct{ io.Writer }{conn}, struct{ io.Reader }{conn})
		}
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	defer l.Close()
	there := []byte(invocation(strings.Repeat("x", 64)))
	back := make([]byte, len(there))
	for b.Loop() {
		if _, err := conn.Write(there); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(conn, back); err != nil {
			b.Fatal(err)
		}
	}
}

// TestHopAllocates holds the warm call to no allocation, on both of its ways.
func TestHopAllocates(t *testing.T) {
	call := hop(t, 64)
	call()
	if n := testing.AllocsPerRun(200, call); n > 0 {
		t.Fatalf("%v allocations a call, want none", n)
	}
}
