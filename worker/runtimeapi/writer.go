package runtimeapi

import (
	"net"
	"strconv"
	"sync"
	"syscall"
)

// writer is a connection's output: an ordered buffer that the connection's goroutine and [Server.Start] append to. One
// of them writes at a time and never holds the mutex while it waits, so that a runtime which does not read cannot hold
// Start.
type writer struct {
	conn net.Conn
	raw  syscall.RawConn // nil where the connection is no socket
	c    *connection

	mu      sync.Mutex
	idle    sync.Cond
	buf     []byte // in order
	payload []byte // of a call, after buf; not ours
	call    string // id of a call of which not every byte is out
	writing bool   // somebody writes without the mutex
	err     error  // the first of a write: the connection is done for

	// Of one attempt to write without waiting; guarded by mu. They are members so that an attempt allocates nothing.
	attempt func(fd uintptr) bool
	pieces  [2][]byte
	written int
	failure error
}

// keepOut is the capacity that an idle connection's buffer may keep.
const keepOut = 8 << 10

func (o *writer) init(c *connection) {
	o.c, o.conn = c, c.conn
	o.idle.L = &o.mu
	if s, ok := c.conn.(syscall.Conn); ok && canAttempt {
		if raw, err := s.SyscallConn(); err == nil {
			o.raw = raw
			o.attempt = func(fd uintptr) bool {
				o.written, o.failure = writeOnce(int(fd), &o.pieces)
				return true
			}
		}
	}
}

// begin locks the writer for appending by the connection's goroutine: behind a payload that is still going out nothing
// may be appended.
func (o *writer) begin() {
	o.mu.Lock()
	for o.payload != nil && o.err == nil {
		o.idle.Wait()
	}
}

// settle waits until a call may be appended by anybody.
func (o *writer) settle() {
	o.begin()
	o.mu.Unlock()
}

// accepted queues the answer to a POST that was taken.
func (o *writer) accepted(last bool) {
	o.begin()
	defer o.mu.Unlock()
	if last {
		o.buf = append(o.buf, "HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nConnection: close\r\n"+
			"Content-Length: 16\r\n\r\n{\"status\":\"OK\"}\n"...)
		return
	}
	o.buf = append(o.buf,
		"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{\"status\":\"OK\"}\n"...)
}

// fail queues an error in the Runtime API's form.
func (o *writer) fail(status int, errorType, message string, last bool) {
	o.fault(status, "", errorType, message, last)
}

// fault is fail with more headers, whole lines.
func (o *writer) fault(status int, header, errorType, message string, last bool) {
	body := make([]byte, 0, 128)
	body = append(body, `{"errorMessage":`...)
	body = appendJSONString(body, message)
	body = append(body, `,"errorType":`...)
	body = appendJSONString(body, errorType)
	body = append(body, "}\n"...)
	o.reply(status, header, "application/json", body, last)
}

// reply queues any answer; header is whole lines, each with its end.
func (o *writer) reply(status int, header, contentType string, body []byte, last bool) {
	o.begin()
	defer o.mu.Unlock()
	b := append(o.buf, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(b, ' ')
	b = append(b, statusText(status)...)
	b = append(b, "\r\nContent-Type: "...)
	b = append(b, contentType...)
	b = append(b, "\r\n"...)
	b = append(b, header...)
	if last {
		b = append(b, "Connection: close\r\n"...)
	}
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, int64(len(body)), 10)
	b = append(b, "\r\n\r\n"...)
	o.buf = append(b, body...)
}

// carryOn queues the interim answer that a client waits for before it sends a body.
func (o *writer) carryOn() {
	o.begin()
	defer o.mu.Unlock()
	o.buf = append(o.buf, "HTTP/1.1 100 Continue\r\n\r\n"...)
}

// queue appends a call behind what is queued already; it goes out with the next flush of the connection's goroutine.
func (o *writer) queue(call *Invocation, last bool) {
	o.begin()
	defer o.mu.Unlock()
	o.append(call, last)
}

// invocation queues a call and writes it, without waiting for the runtime to read. Not done means that the caller has
// to see to it that [writer.pump] is run.
func (o *writer) invocation(call *Invocation, last bool) (done bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.append(call, last)
	if o.err != nil {
		return false, o.err
	}
	if o.writing {
		return true, nil // who writes goes on until nothing is left
	}
	o.writing = true
	if o.raw == nil || len(o.payload) > syncPayload {
		return false, nil
	}
	o.pieces = [2][]byte{o.buf, o.payload}
	err = o.raw.Write(o.attempt)
	o.pieces = [2][]byte{}
	if err == nil {
		err = o.failure
	}
	if err != nil {
		o.stop(err)
		return false, err
	}
	o.wrote(o.written)
	if len(o.buf)+len(o.payload) > 0 {
		return false, nil
	}
	o.rest()
	return true, nil
}

// append appends head and payload of a call; the mutex is held.
func (o *writer) append(call *Invocation, last bool) {
	o.call = call.RequestID
	if o.err != nil {
		o.stop(o.err)
		return
	}
	o.buf = o.c.server.appendInvocation(o.buf, call, last)
	if len(call.Payload) <= inlinePayload {
		o.buf = append(o.buf, call.Payload...)
	} else {
		o.payload = call.Payload
	}
}

// flush writes what is queued and returns when it is out, whoever wrote it.
func (o *writer) flush() error {
	o.mu.Lock()
	for o.writing && o.err == nil {
		o.idle.Wait()
	}
	if o.err != nil || len(o.buf)+len(o.payload) == 0 {
		defer o.mu.Unlock()
		return o.err
	}
	o.writing = true
	o.mu.Unlock()
	return o.pump()
}

// pump writes until nothing is queued; the caller has set writing.
func (o *writer) pump() error {
	for {
		o.mu.Lock()
		buf, payload := o.buf, o.payload
		if err := o.err; err != nil || len(buf)+len(payload) == 0 {
			o.rest()
			o.mu.Unlock() // not deferred: in a loop that would be an allocation a call
			return err
		}
		o.mu.Unlock()
		var n int64
		var err error
		if len(payload) == 0 {
			var m int
			m, err = o.conn.Write(buf)
			n = int64(m)
		} else {
			// WriteTo moves through the slices of its own array; the bytes stay.
			both := net.Buffers{buf, payload}
			n, err = both.WriteTo(o.conn)
		}
		o.mu.Lock()
		o.wrote(int(n))
		if err != nil {
			o.stop(err)
			o.mu.Unlock()
			return err
		}
		o.mu.Unlock()
	}
}

// wrote drops n bytes from what is queued; the mutex is held.
func (o *writer) wrote(n int) {
	k := min(n, len(o.buf))
	if k == len(o.buf) && cap(o.buf) <= keepOut {
		o.buf = o.buf[:0]
	} else if k == len(o.buf) {
		o.buf = nil
	} else {
		o.buf = o.buf[k:]
	}
	if n -= k; n >= len(o.payload) {
		o.payload = nil
	} else {
		o.payload = o.payload[n:]
	}
	if len(o.buf)+len(o.payload) == 0 {
		o.call = ""
	}
}

// rest ends a turn of writing; the mutex is held.
func (o *writer) rest() {
	o.writing = false
	o.idle.Broadcast()
}

// abandon ends a turn of writing that nobody will take up: the server is closed.
func (o *writer) abandon() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stop(net.ErrClosed)
}

// stop gives up after a failed write. A call of which not every byte is out cannot have begun: it waits for another next.
func (o *writer) stop(err error) {
	o.err = err
	o.buf, o.payload = nil, nil
	if o.call != "" {
		o.c.server.state.undelivered(o.call)
		o.call = ""
	}
	o.rest()
}
