package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/sourcegraph/conc"
)

// observer hears from functions when they run: one line for each run, on connections that they open and keep.
type observer struct {
	listener net.Listener
	heard    chan heard
	loops    conc.WaitGroup

	mu    sync.Mutex
	ended bool
	conns []net.Conn
}

// heard is one line and when it came.
type heard struct {
	word string
	at   time.Time
}

// hearTimeout bounds the wait for one run.
const hearTimeout = 30 * time.Second

func newObserver() (*observer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for runs of the function: %w", err)
	}
	o := &observer{listener: l, heard: make(chan heard, 64)}
	o.loops.Go(o.accept)
	return o, nil
}

// address is where functions tell.
func (o *observer) address() string { return o.listener.Addr().String() }

func (o *observer) accept() {
	for {
		conn, err := o.listener.Accept()
		if err != nil {
			return
		}
		o.mu.Lock()
		if o.ended {
			o.mu.Unlock()
			_ = conn.Close()
			return
		}
		o.conns = append(o.conns, conn)
		o.loops.Go(func() { o.hear(conn) })
		o.mu.Unlock()
	}
}

func (o *observer) hear(conn net.Conn) {
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		select {
		case o.heard <- heard{lines.Text(), time.Now()}:
		default: // nobody waits for so many
		}
	}
}

// wait gives the moment at which a word was heard; others before it are forgotten.
func (o *observer) wait(ctx context.Context, word string) (time.Time, error) {
	late := time.NewTimer(hearTimeout)
	defer late.Stop()
	for {
		select {
		case h := <-o.heard:
			if h.word == word {
				return h.at, nil
			}
		case <-late.C:
			return time.Time{}, fmt.Errorf("the function did not run within %v", hearTimeout)
		case <-ctx.Done():
			return time.Time{}, context.Cause(ctx)
		}
	}
}

// stop ends it and waits.
func (o *observer) stop() {
	_ = o.listener.Close()
	o.mu.Lock()
	o.ended = true
	for _, conn := range o.conns {
		_ = conn.Close()
	}
	o.mu.Unlock()
	o.loops.Wait()
}
