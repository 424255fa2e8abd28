//go:build amd64 || arm64

package native

import (
	"encoding/binary"
	"fmt"
	"syscall"
)

// script is a list of system calls for the shim. Each is a step of 96 bytes:
//
//	 0  number of the system call
//	 8  six arguments
//	56  jump: where to go on if the result is not the expected one; 0: at the next step whatever it is
//	64  the expected result
//	72  an error that is none, 0 if there is none
//	80  the result, as the shim writes it
//	88  which step this is, for people
//
// A step that fails otherwise is written to the control socket as it is, and the process ends.
type script struct {
	base   uintptr
	first  int // number of the first step, so that those of two scripts differ
	steps  []step
	data   []byte
	tables []table
	left   without
}

// table is a part of the data that holds addresses, and is filled in when these are known.
type table struct {
	at    ptr
	words []any
}

// step is a system call before it has addresses.
type step struct {
	name     string // for errors
	nr       uintptr
	args     [6]any // int, uintptr, or ptr
	jump     *label
	expect   int
	tolerate syscall.Errno
}

// ptr is a place in a script's data.
type ptr int

// label is a place among its steps.
type label struct {
	at    int
	fixed uintptr // where it lies already, in another script
}

const (
	stepSize  = 96
	pointerSz = 8
)

// do adds a step. Arguments are an int, a uintptr (the same, unsigned), a ptr, or a string, which is put into the data.
func (s *script) do(name string, nr uintptr, args ...any) *step {
	if s.left[name] {
		return &step{}
	}
	st := step{name: name, nr: nr}
	for i, a := range args {
		if text, ok := a.(string); ok {
			a = s.text(text)
		}
		st.args[i] = a
	}
	s.steps = append(s.steps, st)
	return &s.steps[len(s.steps)-1]
}

// here is the place of the next step.
func (s *script) here() *label { return &label{at: len(s.steps)} }

// unless makes the script go on at l where the result of the step is another.
func (st *step) unless(result int, l *label) { st.expect, st.jump = result, l }

// bytes puts something into the data, aligned for any of its kinds.
func (s *script) bytes(b []byte) ptr {
	for len(s.data)%pointerSz != 0 {
		s.data = append(s.data, 0)
	}
	at := len(s.data)
	s.data = append(s.data, b...)
	return ptr(at)
}

func (s *script) text(t string) ptr { return s.bytes(append([]byte(t), 0)) }

// table puts 64-bit words into the data; those that are a ptr become addresses.
func (s *script) table(words ...any) ptr {
	at := s.bytes(make([]byte, 8*len(words)))
	s.tables = append(s.tables, table{at, words})
	return at
}

// address is where something in the data lies once all steps are there.
func (s *script) address(p ptr) uintptr { return s.base + uintptr(len(s.steps)*stepSize+int(p)) }

// place is where a step lies.
func (s *script) place(l *label) uintptr {
	if l.fixed != 0 {
		return l.fixed
	}
	return s.base + uintptr(l.at*stepSize)
}

func (s *script) value(a any) uintptr {
	switch a := a.(type) {
	case nil:
		return 0
	case int:
		return uintptr(a)
	case uintptr:
		return a
	case ptr:
		return s.address(a)
	}
	panic(fmt.Sprintf("native: %T in a script", a))
}

// encode is the script as it must lie at its base.
func (s *script) encode() []byte {
	for _, t := range s.tables {
		for i, w := range t.words {
			binary.NativeEndian.PutUint64(s.data[int(t.at)+8*i:], uint64(s.value(w)))
		}
	}
	var b []byte
	for i := range s.steps {
		st := &s.steps[i]
		b = binary.NativeEndian.AppendUint64(b, uint64(st.nr))
		for _, a := range st.args {
			b = binary.NativeEndian.AppendUint64(b, uint64(s.value(a)))
		}
		jump := uintptr(0)
		if st.jump != nil {
			jump = s.place(st.jump)
		}
		for _, w := range []uint64{uint64(jump), uint64(st.expect), uint64(st.tolerate), 0, uint64(s.first + i)} {
			b = binary.NativeEndian.AppendUint64(b, w)
		}
	}
	return append(b, s.data...)
}

// failed reads what the shim says of a step that failed.
func failed(b []byte, scripts ...*script) *stepError {
	word := func(at int) uint64 { return binary.NativeEndian.Uint64(b[at:]) }
	err := &stepError{step: fmt.Sprintf("system call %d", word(0)), errno: syscall.Errno(-int64(word(80)))}
	for _, s := range scripts {
		if i := int(word(88)) - s.first; i >= 0 && i < len(s.steps) && uint64(s.steps[i].nr) == word(0) {
			err.step = s.steps[i].name
		}
	}
	return err
}
