package runtimeapi

import (
	"bytes"
	"errors"
	"io"
)

// readSize is a connection's own buffer: a head, a small answer and the next request of a lean runtime fit, so that a
// usual call is one read.
const readSize = 4 << 10

// errLong is a line that does not fit the buffer.
var errLong = errors.New("line too long")

// reader is a connection's input. What its methods return lies in its buffer until the next call.
type reader struct {
	c    *connection
	buf  []byte
	r, w int // unread bytes are buf[r:w]
}

func (in *reader) init(c *connection) {
	in.c = c
	in.buf = make([]byte, readSize)
}

// fill reads more behind what is unread.
func (in *reader) fill() error {
	if in.r > 0 {
		copy(in.buf, in.buf[in.r:in.w])
		in.w -= in.r
		in.r = 0
	}
	if in.w == len(in.buf) {
		return errLong
	}
	n, err := in.c.read(in.buf[in.w:])
	in.w += n
	if n > 0 {
		return nil
	}
	if err == nil {
		return io.ErrNoProgress
	}
	return err
}

// startsWith reports whether what has been read already begins with this.
func (in *reader) startsWith(text string) bool {
	unread := in.buf[in.r:in.w]
	return len(unread) >= len(text) && string(unread[:len(text)]) == text
}

// contains reports whether this stands in what has been read already.
func (in *reader) contains(text string) bool { return bytes.Contains(in.buf[in.r:in.w], []byte(text)) }

// line returns the next line without its end, and counts it against left. errLong leaves the line unread.
func (in *reader) line(left *int) ([]byte, error) {
	for seen := 0; ; {
		if i := bytes.IndexByte(in.buf[in.r+seen:in.w], '\n'); i >= 0 {
			n := seen + i + 1
			if *left -= n; *left < 0 {
				return nil, errLong
			}
			line := in.buf[in.r : in.r+n-1]
			in.r += n
			if k := len(line); k > 0 && line[k-1] == '\r' {
				line = line[:k-1]
			}
			return line, nil
		}
		seen = in.w - in.r
		if err := in.fill(); err != nil {
			return nil, err
		}
	}
}

// rest reads the rest of a line that does not fit, calling keep with its pieces, which end before the line's end.
func (in *reader) rest(left *int, keep func([]byte)) error {
	for {
		piece := in.buf[in.r:in.w]
		i := bytes.IndexByte(piece, '\n')
		if i >= 0 {
			piece = piece[:i]
		}
		if *left -= len(piece); *left < 0 {
			return errLong
		}
		if keep != nil {
			keep(piece)
		}
		in.r += len(piece)
		if i >= 0 {
			in.r++
			return nil
		}
		if err := in.fill(); err != nil {
			return err
		}
	}
}

// full fills dst.
func (in *reader) full(dst []byte) error {
	n := copy(dst, in.buf[in.r:in.w])
	in.r += n
	for n < len(dst) {
		m, err := in.c.read(dst[n:])
		n += m
		if err != nil && n < len(dst) {
			return err
		}
	}
	return nil
}

// fullAhead fills dst[:n] and may read into the rest of dst, which becomes unread input again: the next request of a
// lean runtime comes in the read that ends the answer.
func (in *reader) fullAhead(dst []byte, n int) error {
	have := copy(dst[:n], in.buf[in.r:in.w])
	in.r += have
	for have < n {
		m, err := in.c.read(dst[have:])
		have += m
		if err != nil && have < n {
			return err
		}
	}
	if have > n {
		// in.buf is empty: otherwise the loop would not have read.
		in.r = 0
		in.w = copy(in.buf, dst[n:have])
	}
	return nil
}

// discard drops n bytes.
func (in *reader) discard(n int64) error {
	for n > 0 {
		if in.r == in.w {
			if err := in.fill(); err != nil {
				return err
			}
		}
		step := min(n, int64(in.w-in.r))
		in.r += int(step)
		n -= step
	}
	return nil
}
