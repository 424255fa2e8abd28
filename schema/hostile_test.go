package schema_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/hearth-run/hearth/schema"
)

// hostileChild tells the test binary, run again, to be the process that may die; its value says of what.
const hostileChild = "HEARTH_TEST_HOSTILE"

// hostileMemory is how much the child may use beyond what it has at its start: room for an input of the largest size and
// for what comes of it.
const hostileMemory = 128 << 20

// TestHostileInputsCostLittle decodes what would end a process, in a process of its own that may not use much memory. A
// child that decodes without the scan shows that the limit is one: it does not survive.
func TestHostileInputsCostLittle(t *testing.T) {
	t.Parallel()
	if reason := memoryLimitMissing(); reason != "" {
		t.Skip(reason)
	}
	child := func(mode string) (string, error) {
		cmd := exec.Command(os.Args[0], "-test.run=^TestHostileChild$", "-test.v")
		cmd.Env = append(os.Environ(), hostileChild+"="+mode)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := child("scan")
	if err != nil || !strings.Contains(out, "survived") {
		t.Errorf("decoding hostile input under a limit of %d MB: %v\n%s", hostileMemory>>20, err, tail(out))
	}
	if out, err := child("naive"); err == nil {
		t.Errorf("the limit holds nobody back: a decoder without the scan lived\n%s", tail(out))
	}
}

func tail(s string) string { return s[max(0, len(s)-2000):] }

// TestHostileChild is the child of TestHostileInputsCostLittle and nothing by itself.
func TestHostileChild(t *testing.T) {
	mode := os.Getenv(hostileChild)
	if mode == "" {
		t.Skip("only as a child of TestHostileInputsCostLittle")
	}
	if err := limitMemory(hostileMemory); err != nil {
		t.Fatal(err)
	}
	debug.SetMemoryLimit(hostileMemory / 2) // collect early, so that only what is in use at once counts
	if mode == "naive" {
		var v any
		_ = msgpack.Unmarshal([]byte{0xdd, 0xff, 0xff, 0xff, 0xff}, &v)
		return
	}
	inputs := hostileInputs()
	for name, b := range expandingInputs() {
		inputs[name] = b
	}
	for name, b := range inputs {
		fmt.Println(name)
		_ = schema.DecodeCall(b, new(schema.Call))
		for _, sample := range samples() {
			_ = schema.Unmarshal(b, reflect.New(reflect.TypeOf(sample).Elem()).Interface())
		}
	}
	fmt.Printf("survived %d inputs\n", len(inputs))
}

// expandingInputs pass the scan, or nearly, and become as much memory as it allows.
func expandingInputs() map[string][]byte {
	// member is a map of one member that holds so many elements.
	member := func(name string, head byte, n int, element []byte) []byte {
		b := append([]byte{0x82, 0xa1, 'v', 1, 0xa0 | byte(len(name))}, name...)
		b = binary.BigEndian.AppendUint16(append(b, head), uint16(n))
		return append(b, bytes.Repeat(element, n)...)
	}
	aliases := []byte{0x82, 0xa1, 'v', 1, 0xa7, 'a', 'l', 'i', 'a', 's', 'e', 's'}
	return map[string][]byte{
		"versions from single bytes": member("versions", 0xdc, schema.MaxElements, []byte{0xc0}),
		"versions from empty maps":   member("versions", 0xdc, schema.MaxElements, []byte{0x80}),
		"arcs from single bytes":     member("arcs", 0xdc, schema.MaxElements, []byte{0xc0}),
		"tokens":                     member("t", 0xdc, schema.MaxElements, []byte{0xc0}),
		"members of a ring":          member("members", 0xdc, schema.MaxElements, []byte{0xa0}),
		"many aliases":               append(aliases, keyed(schema.MaxElements, false)...),
		"8 MB of bytes":              append([]byte{0x82, 0xa1, 'v', 1, 0xa6, 's', 'e', 'a', 'l', 'e', 'd', 0xc6, 0, 0x70, 0, 0}, make([]byte, 0x700000)...),
		"8 MB of one name":           append([]byte{0x82, 0xa1, 'v', 1, 0xa2, 'i', 'd', 0xdb, 0, 0x70, 0, 0}, make([]byte, 0x700000)...),
	}
}
