package runtimeapi

import (
	"errors"
	"io"
	"net"
	"time"
)

// connection is one connection of the runtime. Its goroutine reads and answers; [connection.deliver], which may come from
// any goroutine, is all that others do with it.
type connection struct {
	server *Server
	conn   net.Conn
	in     reader
	out    writer
	req    request
	posted Answer // what is being told, here so that telling allocates nothing

	peeked   bool        // req holds the head of a request that is not handled yet
	bad      *badRequest // the head that was peeked cannot be read
	together bool        // what is owed goes out with the call that is asked for
	asked    bool        // a next is parked, or was lately: what the runtime sends after it has to wait for its turn

	// Guarded by the mutex of the server's state.
	parked bool
	last   bool          // it closes after the call that it asks for
	turn   chan struct{} // closed when a parked connection is given its call; nil unless somebody waits
}

// drainLimit is how much of a refused body is read so that the runtime sees the refusal and the connection lives on; a
// longer one costs it the connection.
const drainLimit = 16 << 20

func newConnection(s *Server, conn net.Conn) *connection {
	c := &connection{server: s, conn: conn}
	c.in.init(c)
	c.out.init(c)
	return c
}

// unparked takes a connection out of waiting; the state's mutex is held.
func (c *connection) unparked() {
	c.parked = false
	if c.turn != nil {
		close(c.turn)
		c.turn = nil
	}
}

// serve answers requests until the connection ends.
func (c *connection) serve() {
	for {
		if c.bad != nil {
			c.refuse(c.bad)
			return
		}
		if c.asked && c.in.r < c.in.w && !c.turned() {
			return
		}
		if !c.peeked {
			if err := c.readHead(); err != nil {
				c.refuse(err)
				return
			}
		}
		c.peeked = false
		if !c.handle() {
			c.finish()
			return
		}
	}
}

// read fills p from the socket, after everything that is owed has been written, unless the runtime wants that with its
// next call.
func (c *connection) read(p []byte) (int, error) {
	if !c.asked || !c.together {
		if err := c.out.flush(); err != nil {
			return 0, err
		}
	}
	n, err := c.conn.Read(p)
	if n > 0 && c.asked && !c.turned() {
		return 0, net.ErrClosed
	}
	return n, err
}

// turned waits for the turn of what the runtime sent behind its request for a call.
func (c *connection) turned() bool {
	c.asked = false
	return c.out.flush() == nil && c.server.state.held(c, c.server.done)
}

// refuse answers a head that cannot be read, if there is anybody to hear it.
func (c *connection) refuse(err error) {
	var bad *badRequest
	if !errors.As(err, &bad) {
		return // the runtime hung up
	}
	c.out.fail(bad.status, "InvalidRequest", bad.text, true)
	c.finish()
}

// finish ends a connection so that the runtime can read what it was answered: a plain close with bytes unread would reset
// it.
func (c *connection) finish() {
	if c.out.flush() != nil {
		return
	}
	half, ok := c.conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	_ = c.conn.SetReadDeadline(time.Now().Add(time.Second))
	_, _ = io.CopyN(io.Discard, c.conn, drainLimit)
}

// deliver writes a call to the connection that asked for it.
func (c *connection) deliver(call *Invocation, last bool) {
	done, err := c.out.invocation(call, last)
	switch {
	case err != nil:
		_ = c.conn.Close()
	case !done:
		// The socket is full, or the payload large: somebody has to wait for the runtime, and that is not our caller.
		pump := func() {
			if c.out.pump() != nil {
				_ = c.conn.Close()
			}
		}
		if !c.server.spawn(pump) {
			c.out.abandon()
		}
	}
}
