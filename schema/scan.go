package schema

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// MaxDepth is the deepest nesting of an envelope or record.
const MaxDepth = 8

// ErrHostile is wrapped by every refusal of [Scan].
var ErrHostile = errors.New("not a well-formed envelope")

// Scan walks msgpack without recursion and without allocating what it announces, and refuses what a decoder must not
// see: nesting deeper than [MaxDepth], a length above the bytes left, a duplicate key of a map, trailing bytes.
// SECURITY 2.
func Scan(b []byte) error {
	var left [MaxDepth + 1]int // values still to come at each depth
	depth := 0
	left[0] = 1
	for at := 0; ; {
		for left[depth] == 0 {
			if depth == 0 {
				if at != len(b) {
					return fmt.Errorf("%w: %d bytes after the end", ErrHostile, len(b)-at)
				}
				return nil
			}
			depth--
		}
		left[depth]--
		size, children, err := head(b[at:])
		if err != nil {
			return fmt.Errorf("%w: at byte %d: %w", ErrHostile, at, err)
		}
		at += size
		if children > len(b)-at {
			return fmt.Errorf("%w: at byte %d: announces %d values, %d bytes are left", ErrHostile, at, children, len(b)-at)
		}
		if children > 0 {
			if depth == MaxDepth {
				return fmt.Errorf("%w: at byte %d: deeper than %d", ErrHostile, at, MaxDepth)
			}
			depth++
			left[depth] = children
		}
	}
}

// head is the size of the value at the start of b without its children, and how many values follow as children.
func head(b []byte) (size, children int, err error) {
	if len(b) == 0 {
		return 0, 0, errors.New("ends early")
	}
	c := b[0]
	length := func(n int) (uint64, error) {
		if len(b) < 1+n {
			return 0, errors.New("ends early")
		}
		var v [8]byte
		copy(v[8-n:], b[1:1+n])
		return binary.BigEndian.Uint64(v[:]), nil
	}
	data := func(prefix int, n uint64) (int, int, error) {
		if n > uint64(len(b)) || uint64(prefix)+n > uint64(len(b)) {
			return 0, 0, fmt.Errorf("announces %d bytes, %d are left", n, max(0, len(b)-prefix))
		}
		return prefix + int(n), 0, nil
	}
	nest := func(prefix int, n, each uint64) (int, int, error) {
		if n*each > uint64(len(b)) {
			return 0, 0, fmt.Errorf("announces %d values, %d bytes are left", n*each, len(b)-prefix)
		}
		return prefix, int(n * each), nil
	}
	switch {
	case c <= 0x7f, c >= 0xe0, c == 0xc0, c == 0xc2, c == 0xc3:
		return 1, 0, nil
	case c <= 0x8f:
		return nest(1, uint64(c&0x0f), 2)
	case c <= 0x9f:
		return nest(1, uint64(c&0x0f), 1)
	case c <= 0xbf:
		return data(1, uint64(c&0x1f))
	}
	sizes := [...]struct{ prefix, fixed, each int }{
		0xc4 - 0xc4: {1, 0, 0}, 0xc5 - 0xc4: {2, 0, 0}, 0xc6 - 0xc4: {4, 0, 0}, // bin
		0xc7 - 0xc4: {1, 1, 0}, 0xc8 - 0xc4: {2, 1, 0}, 0xc9 - 0xc4: {4, 1, 0}, // ext
		0xca - 0xc4: {0, 4, 0}, 0xcb - 0xc4: {0, 8, 0}, // float
		0xcc - 0xc4: {0, 1, 0}, 0xcd - 0xc4: {0, 2, 0}, 0xce - 0xc4: {0, 4, 0}, 0xcf - 0xc4: {0, 8, 0}, // uint
		0xd0 - 0xc4: {0, 1, 0}, 0xd1 - 0xc4: {0, 2, 0}, 0xd2 - 0xc4: {0, 4, 0}, 0xd3 - 0xc4: {0, 8, 0}, // int
		0xd4 - 0xc4: {0, 2, 0}, 0xd5 - 0xc4: {0, 3, 0}, 0xd6 - 0xc4: {0, 5, 0}, 0xd7 - 0xc4: {0, 9, 0}, 0xd8 - 0xc4: {0, 17, 0},
		0xd9 - 0xc4: {1, 0, 0}, 0xda - 0xc4: {2, 0, 0}, 0xdb - 0xc4: {4, 0, 0}, // str
		0xdc - 0xc4: {2, 0, 1}, 0xdd - 0xc4: {4, 0, 1}, // array
		0xde - 0xc4: {2, 0, 2}, 0xdf - 0xc4: {4, 0, 2}, // map
	}
	if c < 0xc4 {
		return 0, 0, errors.New("byte c1 is never used")
	}
	s := sizes[c-0xc4]
	n, err := length(s.prefix)
	if err != nil {
		return 0, 0, err
	}
	if s.each > 0 {
		return nest(1+s.prefix, n, uint64(s.each))
	}
	return data(1+s.prefix+s.fixed, n)
}
