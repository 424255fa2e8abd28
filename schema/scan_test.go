package schema_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/hearth-run/hearth/schema"
)

// nested is n arrays of one element in one another, and a nil.
func nested(n int) []byte { return append(bytes.Repeat([]byte{0x91}, n), 0xc0) }

// keyed is a map of n different keys with nil as values; if twice, the last is the first again.
func keyed(n int, twice bool) []byte {
	b := binary.BigEndian.AppendUint16([]byte{0xde}, uint16(n))
	for i := range n {
		if twice && i == n-1 {
			i = 0
		}
		b = append(b, 0xa5)
		b = fmt.Appendf(b, "%05d", i)
		b = append(b, 0xc0)
	}
	return b
}

func TestScanTakes(t *testing.T) {
	t.Parallel()
	for name, v := range map[string]any{
		"nothing": nil, "numbers": []any{0, -1, 127, 128, -32, -33, 1 << 40, uint64(1 << 63), 1.5, float32(1.5)}, "text": "x", "bytes": []byte{0xc1},
		"times":    []time.Time{{}, time.Unix(0, 0), time.Unix(1<<33, 1), time.Unix(1<<40, 0), time.Now()},
		"long":     []any{string(make([]byte, 300)), string(make([]byte, 70_000)), make([]byte, 300), make([]byte, 70_000)},
		"same key": []map[string]int{{"a": 1}, {"a": 2}}, "empty": []any{map[string]int{}, []int{}, "", []byte{}},
	} {
		b, err := msgpack.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Scan(b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, b := range map[string][]byte{
		"deepest": nested(schema.MaxDepth), "24 keys": keyed(24, false), "25 keys": keyed(25, false), "most keys": keyed(schema.MaxElements, false),
		"key inside and outside": {0x81, 0xa1, 'a', 0x81, 0xa1, 'a', 0xc0},
		"most elements":          append([]byte{0xdc, 0x40, 0}, make([]byte, schema.MaxElements)...),
	} {
		if err := schema.Scan(b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// hostileInputs are what must be refused, by name.
func hostileInputs() map[string][]byte {
	announce := func(head byte) []byte { return []byte{head, 0xff, 0xff, 0xff, 0xff} }
	many := append([]byte{0xdc, 0x40, 0}, bytes.Repeat(append([]byte{0x9f}, make([]byte, 15)...), schema.MaxElements)...)
	many = bytes.Join([][]byte{{0x92}, many, many}, nil)
	return map[string][]byte{
		"nothing":               {},
		"c1":                    {0xc1},
		"array 32":              announce(0xdd),
		"map 32":                announce(0xdf),
		"string 32":             announce(0xdb),
		"bytes 32":              announce(0xc6),
		"extension 32":          announce(0xc9),
		"array 16, no content":  {0xdc, 0x01, 0x00},
		"one element too many":  append([]byte{0xdc, 0x40, 0x01}, make([]byte, schema.MaxElements+1)...),
		"too many values":       many,
		"too deep":              nested(schema.MaxDepth + 1),
		"a million deep":        nested(1_000_000),
		"deep in a field":       append([]byte{0x81, 0xa7, 'u', 'n', 'k', 'n', 'o', 'w', 'n'}, nested(500_000)...),
		"a key twice":           {0x82, 0xa1, 'a', 0xc0, 0xa1, 'a', 0xc0},
		"a key twice, spelled":  {0x82, 0xa1, 'a', 0xc0, 0xd9, 1, 'a', 0xc0},
		"a key twice, apart":    {0x83, 0xa1, 'a', 0x81, 0xa1, 'b', 0xc0, 0xa1, 'b', 0xc0, 0xa1, 'a', 0xc0},
		"one of 25 keys twice":  keyed(25, true),
		"one of many twice":     keyed(schema.MaxElements, true),
		"a number as a key":     {0x81, 1, 0xc0},
		"bytes as a key":        {0x81, 0xc4, 1, 'a', 0xc0},
		"a map as a key":        {0x81, 0x80, 0xc0},
		"a value missing":       {0x81, 0xa1, 'a'},
		"a byte after the end":  {0xc0, 0xc0},
		"cut in a number":       {0xcf, 1, 2, 3},
		"cut in a string":       {0xa3, 'a'},
		"cut in a float":        {0xcb, 0},
		"unknown extension":     {0xd6, 1, 0, 0, 0, 0},
		"extension of 1 byte":   {0xd4, 0xff, 0},
		"time of 16 bytes":      append([]byte{0xd8, 0xff}, make([]byte, 16)...),
		"time of 5 bytes":       {0xc7, 5, 0xff, 0, 0, 0, 0, 0},
		"longer than all bound": make([]byte, schema.MaxEncoded+1),
	}
}

func TestScanRefuses(t *testing.T) {
	t.Parallel()
	for name, b := range hostileInputs() {
		if err := schema.Scan(b); !errors.Is(err, schema.ErrHostile) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestScannedIsReadable holds the scan against the library that reads after it: what passes must decode, and random damage
// to good records must never get further than the scan allows.
func TestScannedIsReadable(t *testing.T) {
	t.Parallel()
	const seed = 5
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, seed))
	good, err := schema.Marshal(sampleFunction())
	if err != nil {
		t.Fatal(err)
	}
	passed := 0
	for range 20_000 {
		b := bytes.Clone(good)
		for range 1 + rng.IntN(3) {
			b[rng.IntN(len(b))] = byte(rng.Uint32())
		}
		if schema.Scan(b) != nil {
			continue
		}
		passed++
		dec := msgpack.NewDecoder(bytes.NewReader(b))
		if err := dec.Skip(); err != nil {
			t.Fatalf("the library cannot skip % x: %v", b, err)
		}
		if rest := dec.Buffered(); rest == nil {
			t.Fatal("no rest")
		} else if n, _ := rest.Read(make([]byte, 1)); n != 0 {
			t.Fatalf("the library sees an end before that of % x", b)
		}
	}
	if passed < 100 {
		t.Errorf("only %d damaged records passed: the comparison says little", passed)
	}
}
