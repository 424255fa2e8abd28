package schema

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// Bounds of whatever is decoded. The longest encoding is the embedded server's max_payload; the others keep a few bytes
// from becoming much memory: one byte of an array can stand for a record of 400.
const (
	MaxEncoded  = 8 << 20 // bytes
	MaxDepth    = 8       // maps and arrays in one another
	MaxElements = 1 << 14 // of one array, pairs of one map
	MaxValues   = 1 << 18 // in all
)

// ErrHostile is wrapped by every refusal of [Scan].
var ErrHostile = errors.New("not a well-formed envelope")

// Scan walks msgpack without recursion and without allocating what it announces, and refuses what a decoder must not
// see: more than the bounds above, a length above the bytes left, a key that is no string, a key twice in one map, an
// extension other than a time stamp, bytes after the end. It takes time in proportion to b (times a logarithm for large
// maps) and memory for the keys of the maps that are open. SECURITY 2.
func Scan(b []byte) error {
	if len(b) > MaxEncoded {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrHostile, len(b), MaxEncoded)
	}
	return scan(b, 0, 1)
}

// scan is [Scan] of the values that b must hold from at to its end, as many as count.
func scan(b []byte, at, count int) error {
	var (
		outer  [MaxDepth]nest // what is open around in, outermost first
		in     = nest{left: count}
		depth  int
		values int
		room   [32]span
		keys   = room[:0] // of the open maps, outermost first
	)
	for {
		for in.left == 0 {
			if in.pairs {
				if twice, ok := duplicate(b, keys[in.keys:]); ok {
					return refusal(twice.from, "the key %.40q comes twice", b[twice.from:twice.to])
				}
				keys = keys[:in.keys]
			}
			if depth == 0 {
				if at != len(b) {
					return refusal(at, "%d bytes after the end", len(b)-at)
				}
				return nil
			}
			depth--
			in = outer[depth]
		}
		v := head(b[at:])
		if v.kind == 0 {
			return refusal(at, "%w", fault(b[at:]))
		}
		if in.pairs && in.left%2 == 0 {
			if v.kind != kindString {
				return refusal(at, "a key that is no string")
			}
			keys = append(keys, span{at + int(v.prefix), at + v.size})
		}
		in.left--
		at += v.size
		if values++; values > MaxValues {
			return refusal(at, "more than %d values", MaxValues)
		}
		children := v.children()
		if children == 0 {
			continue
		}
		if children > len(b)-at {
			return refusal(at, "announces %d values, %d bytes are left", children, len(b)-at)
		}
		if depth == MaxDepth {
			return refusal(at, "deeper than %d", MaxDepth)
		}
		outer[depth] = in
		depth++
		in = nest{left: children, pairs: v.kind == kindMap, keys: len(keys)}
	}
}

// nest is an array or a map that is open: how many values are still to come, and where its keys begin.
type nest struct {
	left  int
	pairs bool
	keys  int
}

type span struct{ from, to int }

func refusal(at int, format string, args ...any) error {
	return fmt.Errorf("%w: at byte %d: %w", ErrHostile, at, fmt.Errorf(format, args...))
}

// duplicate finds two equal keys. Few are compared with one another, many are sorted first (in place: they are not needed
// in their order any more).
func duplicate(b []byte, keys []span) (span, bool) {
	text := func(s span) []byte { return b[s.from:s.to] }
	if len(keys) <= 24 {
		for i, k := range keys {
			for _, earlier := range keys[:i] {
				if bytes.Equal(text(k), text(earlier)) {
					return k, true
				}
			}
		}
		return span{}, false
	}
	slices.SortFunc(keys, func(x, y span) int { return bytes.Compare(text(x), text(y)) })
	for i, k := range keys[1:] {
		if bytes.Equal(text(k), text(keys[i])) {
			return k, true
		}
	}
	return span{}, false
}

// kind is what a value is, as far as reading it makes a difference.
type kind uint8

const (
	kindNil kind = iota + 1
	kindBool
	kindUint // not negative, also where it was written as signed
	kindInt  // negative
	kindFloat
	kindString
	kindBytes
	kindTime
	kindArray
	kindMap
)

// value is the head of one value: how much of it comes before its content, its size without its children, and a number's
// bits, a bool as 0 or 1, or how many values follow as children. Its zero value is no value at all.
type value struct {
	kind   kind
	prefix uint8
	size   int
	number uint64
}

func (v value) children() int {
	if v.kind == kindArray || v.kind == kindMap {
		return int(v.number)
	}
	return 0
}

// head reads the value at the start of b; the zero value if b does not hold one whole, its children aside, or one that is
// not taken ([fault] says which). The msgpack specification has the table of first bytes.
func head(b []byte) value {
	if len(b) == 0 {
		return value{}
	}
	switch c := b[0]; {
	case c < 0x80:
		return value{kindUint, 1, 1, uint64(c)}
	case c < 0x90:
		return value{kindMap, 1, 1, 2 * uint64(c&0x0f)}
	case c < 0xa0:
		return value{kindArray, 1, 1, uint64(c & 0x0f)}
	case c < 0xc0:
		return content(b, kindString, 1, uint64(c&0x1f))
	case c >= 0xe0:
		return value{kindInt, 1, 1, uint64(int64(int8(c)))}
	}
	return longHead(b)
}

// longHead is head of the values whose first byte says what they are and little more.
func longHead(b []byte) value {
	c := b[0]
	switch c {
	case 0xc0:
		return value{kindNil, 1, 1, 0}
	case 0xc2, 0xc3:
		return value{kindBool, 1, 1, uint64(c & 1)}
	case 0xca, 0xcb: // float 32, 64
		return content(b, kindFloat, 1, 4<<(c-0xca))
	case 0xd6, 0xd7: // fixext 4, 8
		return timeStamp(b, 2, 4<<(c-0xd6))
	}
	n, width, ok := following(b)
	if !ok {
		return value{}
	}
	switch prefix := 1 + width; c {
	case 0xc4, 0xc5, 0xc6:
		return content(b, kindBytes, prefix, n)
	case 0xd9, 0xda, 0xdb:
		return content(b, kindString, prefix, n)
	case 0xc7: // ext 8
		return timeStamp(b, 3, n)
	case 0xdc, 0xdd:
		if n <= MaxElements {
			return value{kindArray, prefix, int(prefix), n}
		}
	case 0xde, 0xdf:
		if n <= MaxElements {
			return value{kindMap, prefix, int(prefix), 2 * n}
		}
	case 0xcc, 0xcd, 0xce, 0xcf:
		return value{kindUint, prefix, int(prefix), n}
	default: // d0 to d3: signed
		unused := 64 - 8*width
		v := int64(n) << unused >> unused
		if v < 0 {
			return value{kindInt, prefix, int(prefix), uint64(v)}
		}
		return value{kindUint, prefix, int(prefix), uint64(v)}
	}
	return value{}
}

// following is the big-endian number after the first byte of b, and its width.
func following(b []byte) (n uint64, width uint8, ok bool) {
	switch b[0] {
	case 0xc4, 0xc7, 0xcc, 0xd0, 0xd9:
		if len(b) > 1 {
			return uint64(b[1]), 1, true
		}
	case 0xc5, 0xcd, 0xd1, 0xda, 0xdc, 0xde:
		if len(b) > 2 {
			return uint64(binary.BigEndian.Uint16(b[1:])), 2, true
		}
	case 0xc6, 0xce, 0xd2, 0xdb, 0xdd, 0xdf:
		if len(b) > 4 {
			return uint64(binary.BigEndian.Uint32(b[1:])), 4, true
		}
	case 0xcf, 0xd3:
		if len(b) > 8 {
			return binary.BigEndian.Uint64(b[1:]), 8, true
		}
	}
	return 0, 0, false
}

func content(b []byte, k kind, prefix uint8, n uint64) value {
	if n > uint64(len(b)) || int(prefix)+int(n) > len(b) {
		return value{}
	}
	return value{k, prefix, int(prefix) + int(n), 0}
}

// timeStamp is the one extension that is taken: type -1 of 4, 8 or 12 bytes, its type in the last byte of the prefix.
func timeStamp(b []byte, prefix uint8, n uint64) value {
	v := content(b, kindTime, prefix, n)
	if v.kind == 0 || b[prefix-1] != 0xff || n != 4 && n != 8 && n != 12 {
		return value{}
	}
	return v
}

// fault says why head found no value at the start of b.
func fault(b []byte) error {
	if len(b) == 0 {
		return errors.New("ends early")
	}
	if n, _, ok := following(b); ok && n > uint64(min(len(b), MaxElements)) {
		return fmt.Errorf("announces %d bytes or values, %d bytes are left", n, len(b)-1)
	}
	return fmt.Errorf("byte %#x begins nothing that is taken, or more than the %d bytes left", b[0], len(b))
}
