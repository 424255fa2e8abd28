package runtimeapi

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"sync"
)

// Sizes of bodies. What fits the connection's buffer is not copied; up to smallBody a buffer is taken from a pool; more
// is made and left to the collector.
const (
	smallBody = 64 << 10
	aheadBody = 512 // read beyond a body's end: the next request of a lean runtime
)

var (
	errTooLarge  = errors.New("body too large")
	errTruncated = errors.New("body cut off")
)

// body is a request's body. It is the reader's until release.
type body struct {
	bytes   []byte
	trailer trailer
	size    int64 // announced or read; valid with errTooLarge too

	pooled  *[smallBody + aheadBody]byte
	charged int64
}

// trailer is what a runtime says after a chunked body: the call failed half-way.
type trailer struct {
	errorType string
	errorBody []byte // decoded
}

// bodies lends buffers to all servers of a process: a buffer holds nothing once it is back.
var bodies = sync.Pool{New: func() any { return new([smallBody + aheadBody]byte) }}

// release gives the body's memory back.
func (c *connection) release(b *body) {
	if b.pooled != nil {
		bodies.Put(b.pooled)
		b.pooled = nil
	}
	c.server.cfg.Budget.Release(b.charged)
	b.charged, b.bytes = 0, nil
}

func (c *connection) charge(b *body, n int64) error {
	if !c.server.cfg.Budget.Acquire(n, c.server.done) {
		return io.ErrClosedPipe
	}
	b.charged += n
	return nil
}

// readBody reads the body that follows the head in c.req, of at most limit bytes. errTooLarge leaves it unread,
// errTruncated means that the connection is no good any more.
func (c *connection) readBody(b *body, limit int) error {
	if c.req.expect && c.req.hasBody() && c.in.r == c.in.w {
		if c.req.length > int64(limit) {
			b.size = c.req.length
			return errTooLarge
		}
		c.out.carryOn()
	}
	if c.req.chunked {
		return c.readChunks(b, limit)
	}
	b.size = c.req.length
	if b.size > int64(limit) {
		return errTooLarge
	}
	n := int(b.size)
	if n <= c.in.w-c.in.r {
		b.bytes = c.in.buf[c.in.r : c.in.r+n]
		c.in.r += n
		return nil
	}
	if err := c.charge(b, b.size); err != nil {
		return err
	}
	var space []byte
	if n <= smallBody {
		b.pooled = bodies.Get().(*[smallBody + aheadBody]byte)
		space = b.pooled[:n+aheadBody]
	} else {
		space = make([]byte, n+aheadBody)
	}
	if err := c.in.fullAhead(space, n); err != nil {
		return errTruncated
	}
	b.bytes = space[:n]
	return nil
}

// readChunks reads a chunked body and its trailers.
func (c *connection) readChunks(b *body, limit int) error {
	left := maxHead // of chunk lines without data, and of trailers
	for {
		line, err := c.in.line(&left)
		if err != nil {
			return errTruncated
		}
		size, ok := chunkSize(line)
		if !ok {
			return errTruncated
		}
		if size == 0 {
			return c.readTrailers(b, &left)
		}
		b.size += size
		if b.size > int64(limit) {
			// The chunk's data follow; who drops them needs to know how many.
			c.req.length = size
			return errTooLarge
		}
		if err := c.grow(b, int(b.size), limit); err != nil {
			return err
		}
		at := len(b.bytes)
		b.bytes = b.bytes[:b.size]
		if c.in.full(b.bytes[at:]) != nil {
			return errTruncated
		}
		left = min(maxHead, left+int(size))
		if line, err = c.in.line(&left); err != nil || len(line) > 0 {
			return errTruncated
		}
	}
}

// grow makes room for n bytes. A body beyond the pooled size is charged for all that it may still become, at once: two
// that each hold a part and wait for the rest would wait for each other.
func (c *connection) grow(b *body, n, limit int) error {
	if n <= cap(b.bytes) {
		return nil
	}
	if b.pooled == nil {
		if err := c.charge(b, smallBody); err != nil {
			return err
		}
		b.pooled = bodies.Get().(*[smallBody + aheadBody]byte)
		b.bytes = b.pooled[:0:smallBody]
	}
	if n <= cap(b.bytes) {
		return nil
	}
	if b.charged < int64(limit) {
		if err := c.charge(b, int64(limit)-b.charged); err != nil {
			return err
		}
	}
	larger := make([]byte, len(b.bytes), min(limit, max(n, 2*cap(b.bytes))))
	copy(larger, b.bytes)
	b.bytes = larger
	return nil
}

func (c *connection) readTrailers(b *body, left *int) error {
	for {
		line, err := c.in.line(left)
		if errors.Is(err, errLong) && *left > 0 {
			if err = c.longTrailer(b, left); err == nil {
				continue
			}
		}
		switch {
		case err != nil:
			return errTruncated
		case len(line) == 0:
			return nil
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			return errTruncated
		}
		value = bytes.Trim(value, " \t")
		switch {
		case is(name, headerErrorType):
			b.trailer.errorType = short(value)
		case is(name, headerErrorBody):
			b.trailer.decode(value)
		}
	}
}

// longTrailer reads a trailer that does not fit the buffer: an error with a long stack.
func (c *connection) longTrailer(b *body, left *int) error {
	name, _, ok := bytes.Cut(c.in.buf[c.in.r:c.in.w], []byte(":"))
	if !ok {
		return errTruncated
	}
	if !is(name, headerErrorBody) {
		return c.in.rest(left, nil)
	}
	if err := c.charge(b, maxHead); err != nil {
		return err
	}
	var line []byte
	if err := c.in.rest(left, func(piece []byte) { line = append(line, piece...) }); err != nil {
		return err
	}
	_, value, _ := bytes.Cut(line, []byte(":"))
	b.trailer.decode(bytes.Trim(value, " \t\r"))
	return nil
}

func (t *trailer) decode(value []byte) {
	decoded := make([]byte, base64.StdEncoding.DecodedLen(len(value)))
	if n, err := base64.StdEncoding.Decode(decoded, value); err == nil {
		t.errorBody = decoded[:n]
	}
}

// discard drops the body that follows the head in c.req, as far as drainLimit; it reports whether the connection may be
// used again. After errTooLarge of a chunked body it goes on where that stopped.
func (c *connection) discard() bool {
	if c.req.expect && c.in.r == c.in.w {
		return false // the client sends no body now, or sends it unasked: nobody can tell
	}
	if !c.req.chunked {
		return c.req.length <= drainLimit && c.in.discard(c.req.length) == nil
	}
	left, budget := maxHead, int64(drainLimit)
	size := c.req.length
	for {
		if size > 0 {
			if budget -= size; budget < 0 || c.in.discard(size) != nil {
				return false
			}
			if line, err := c.in.line(&left); err != nil || len(line) > 0 {
				return false
			}
		}
		line, err := c.in.line(&left)
		if err != nil {
			return false
		}
		var ok bool
		if size, ok = chunkSize(line); !ok {
			return false
		}
		if size == 0 {
			var b body
			err := c.readTrailers(&b, &left)
			c.release(&b)
			return err == nil
		}
	}
}

// chunkSize reads the line before a chunk; extensions are passed over.
func chunkSize(line []byte) (n int64, ok bool) {
	if i := bytes.IndexByte(line, ';'); i >= 0 {
		line = line[:i]
	}
	line = bytes.TrimRight(line, " \t")
	if len(line) == 0 || len(line) > 12 {
		return 0, false
	}
	for _, b := range line {
		switch {
		case '0' <= b && b <= '9':
			b -= '0'
		case 'a' <= b && b <= 'f':
			b -= 'a' - 10
		case 'A' <= b && b <= 'F':
			b -= 'A' - 10
		default:
			return 0, false
		}
		n = n<<4 | int64(b)
	}
	return n, true
}
