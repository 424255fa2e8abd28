//go:build amd64 || arm64

package native

import (
	"bytes"
	"encoding/binary"
	"errors"
	"runtime"
	"unsafe"
)

// shim is the program that builds a sandbox and stays in it as its first process. It is 150 bytes of assembly that carries out
// system calls from a list (a script, see script), so what it does is composed here, in Go, where it can be read and tested,
// and the process itself costs a page of code and a few of data: with the worker's own program in its place, 1,000 idle
// environments would take 2 GB more, and each start some 20 ms of CPU (measured).
//
//lint:ignore U1000 its code is what shimCode names
func shim()

// shimCode is where its code lies in this program.
func shimCode() unsafe.Pointer

// shimEnd stands behind its code.
const shimEnd = "HEARHTEH"

// Where the program's parts lie in its memory.
const (
	codeBase   = 0x0040_0000
	scriptBase = 0x1000_0000 // the first script, in the file
	letterBase = 0x2000_0000 // what the worker sends, see bind
	letterSize = 512 << 10
	pageSize   = 64 << 10 // the largest of any system
)

// elf makes the program with its first script.
func elf(first []byte) ([]byte, error) {
	code := unsafe.Slice((*byte)(shimCode()), 1024)
	end := bytes.Index(code, []byte(shimEnd))
	if end < 0 {
		return nil, errors.New("the end of the shim's code is not found")
	}
	machine := map[string]uint16{"amd64": 62, "arm64": 183}[runtime.GOARCH]
	const header, program, count = 64, 56, 4
	at := uint64(header + count*program)
	order := binary.LittleEndian
	b := []byte("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	b = order.AppendUint16(b, 2) // ET_EXEC
	b = order.AppendUint16(b, machine)
	b = order.AppendUint32(b, 1)
	b = order.AppendUint64(b, codeBase+at)
	b = order.AppendUint64(b, header)
	b = order.AppendUint64(b, 0)
	b = order.AppendUint32(b, 0)
	for _, n := range []uint16{header, program, count, 0, 0, 0} {
		b = order.AppendUint16(b, n)
	}
	segment := func(kind, flags uint32, offset, address, size, memory uint64) {
		b = order.AppendUint32(b, kind)
		b = order.AppendUint32(b, flags)
		for _, n := range []uint64{offset, address, address, size, memory, pageSize} {
			b = order.AppendUint64(b, n)
		}
	}
	const load, stack, x, w, r = 1, 0x6474e551, 1, 2, 4
	segment(load, r|x, 0, codeBase, at+uint64(end), at+uint64(end))
	segment(load, r|w, pageSize, scriptBase, uint64(len(first)), uint64(len(first)))
	segment(load, r|w, 0, letterBase, 0, letterSize)
	segment(stack, r|w, 0, 0, 0, 0)
	b = append(b, code[:end]...)
	b = append(b, make([]byte, pageSize-len(b))...)
	return append(b, first...), nil
}
