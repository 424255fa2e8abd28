package inprocess

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// most is how many bytes of one direction wait to be read, as in a socket's buffer; who writes more waits.
const most = 128 << 10

// Conn is one end of a connection within this process. Its methods are safe for concurrent use.
type Conn struct {
	in, out *direction
	wrote   func() // after each write, and once it is closed; may be nil
}

var _ net.Conn = (*Conn)(nil)

// Pair makes a connection. What is written to one end is read from the other, in order. wrote, if it is not nil, is called after
// bytes were written to a, and when a is closed; it must not block.
func Pair(wrote func()) (a, b *Conn) {
	there, back := newDirection(), newDirection()
	return &Conn{in: back, out: there, wrote: wrote}, &Conn{in: there, out: back}
}

// Read reads what the other end wrote. Errors: [io.EOF] once that is closed and all was read, [io.ErrClosedPipe] once this one is,
// [os.ErrDeadlineExceeded].
func (c *Conn) Read(p []byte) (int, error) { return c.in.read(p) }

// Write returns when all of p waits to be read. Errors: [io.ErrClosedPipe] once either end is closed, [os.ErrDeadlineExceeded]; some of p
// may have been written then.
func (c *Conn) Write(p []byte) (int, error) {
	n, err := c.out.write(p)
	if err == nil {
		c.tell()
	}
	return n, err
}

// Close ends both directions. The other end may still read what was written before. Safe twice.
func (c *Conn) Close() error {
	c.out.finish()
	c.in.abandon()
	c.tell()
	return nil
}

func (c *Conn) tell() {
	if c.wrote != nil {
		c.wrote()
	}
}

// LocalAddr is the same for all: nothing tells them apart from outside.
func (c *Conn) LocalAddr() net.Addr { return address{} }

// RemoteAddr is the same for all.
func (c *Conn) RemoteAddr() net.Addr { return address{} }

// SetDeadline sets both deadlines; the zero time means none. It never fails.
func (c *Conn) SetDeadline(t time.Time) error {
	c.in.setReadBy(t)
	c.out.setWriteBy(t)
	return nil
}

// SetReadDeadline is until when a Read waits, also one that waits already. It never fails.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.in.setReadBy(t)
	return nil
}

// SetWriteDeadline is until when a Write waits, also one that waits already. It never fails. The server sets one for each of its
// writes: a timer runs only where one has to wait.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.out.setWriteBy(t)
	return nil
}

// address is spelt as that of a [net.Pipe].
type address struct{}

func (address) Network() string { return "pipe" }
func (address) String() string  { return "pipe" }

// direction is what goes one way.
type direction struct {
	writing sync.Mutex // held for the whole of a write, so that two do not mix

	mu       sync.Mutex
	readable sync.Cond // for who reads
	writable sync.Cond // for who writes
	buffer   []byte    // what waits begins at from
	from     int
	finished bool // nothing more comes
	gone     bool // nobody reads any more
	readBy   time.Time
	writeBy  time.Time
}

func newDirection() *direction {
	d := &direction{}
	d.readable.L, d.writable.L = &d.mu, &d.mu
	return d
}

func (d *direction) read(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		switch {
		case d.gone:
			return 0, io.ErrClosedPipe
		case late(d.readBy):
			return 0, os.ErrDeadlineExceeded
		case d.from < len(d.buffer):
			n := copy(p, d.buffer[d.from:])
			if d.from += n; d.from == len(d.buffer) {
				d.buffer, d.from = d.buffer[:0], 0
			}
			d.writable.Signal()
			return n, nil
		case len(p) == 0:
			return 0, nil
		case d.finished:
			return 0, io.EOF
		}
		d.wait(&d.readable, d.readBy)
	}
}

func (d *direction) write(p []byte) (n int, err error) {
	d.writing.Lock()
	defer d.writing.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		switch {
		case d.gone || d.finished:
			return n, io.ErrClosedPipe
		case late(d.writeBy):
			return n, os.ErrDeadlineExceeded
		}
		if room := min(most-(len(d.buffer)-d.from), len(p)-n); room > 0 {
			d.append(p[n : n+room])
			n += room
			d.readable.Signal()
		}
		if n == len(p) {
			return n, nil
		}
		d.wait(&d.writable, d.writeBy)
	}
}

// append puts bytes behind those that wait. The mutex is held.
func (d *direction) append(p []byte) {
	if d.from > 0 && len(d.buffer)+len(p) > cap(d.buffer) { // what was read makes room before more is taken
		d.buffer = d.buffer[:copy(d.buffer, d.buffer[d.from:])]
		d.from = 0
	}
	d.buffer = append(d.buffer, p...)
}

// wait waits for a signal, at most until by. The mutex is held again when it returns.
func (d *direction) wait(c *sync.Cond, by time.Time) {
	if !by.IsZero() {
		defer time.AfterFunc(time.Until(by), func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			c.Broadcast()
		}).Stop()
	}
	c.Wait()
}

func late(by time.Time) bool { return !by.IsZero() && !time.Now().Before(by) }

// finish ends it at its writer: what waits can still be read.
func (d *direction) finish() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.finished = true
	d.readable.Broadcast()
	d.writable.Broadcast()
}

// abandon ends it at its reader: what waits is lost.
func (d *direction) abandon() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gone, d.buffer, d.from = true, nil, 0
	d.readable.Broadcast()
	d.writable.Broadcast()
}

func (d *direction) setReadBy(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.readBy = t
	d.readable.Broadcast()
}

func (d *direction) setWriteBy(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.writeBy = t
	d.writable.Broadcast()
}
