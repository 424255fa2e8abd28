//go:build amd64 || arm64

package native

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Offsets in what a filter looks at (seccomp_data): number, architecture, instruction pointer, six arguments.
const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArgs   = 16
)

// Answers of a filter.
const (
	answerAllow = unix.SECCOMP_RET_ALLOW
	answerEPERM = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	answerDone  = unix.SECCOMP_RET_ERRNO // no error: nothing was done, and that is success
	answerNoSys = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	answerKill  = unix.SECCOMP_RET_KILL_PROCESS
)

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func answer(a uint32) []unix.SockFilter {
	return []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: a}}
}

func allow() []unix.SockFilter { return answer(answerAllow) }
func deny() []unix.SockFilter  { return answer(answerEPERM) }

// low and high load half an argument. Both architectures are little-endian.
func low(arg uint32) []unix.SockFilter  { return []unix.SockFilter{load(offsetArgs + 8*arg)} }
func high(arg uint32) []unix.SockFilter { return []unix.SockFilter{load(offsetArgs + 8*arg + 4)} }

func join(parts ...[]unix.SockFilter) []unix.SockFilter { return slices.Concat(parts...) }

// branch compares what is loaded. Then must end by an answer; without otherwise the filter goes on behind it.
func branch(code uint16, k uint32, yes, no []unix.SockFilter) []unix.SockFilter {
	if len(yes) > 255 {
		panic("native: a branch of the system call filter is too long")
	}
	return join([]unix.SockFilter{{Code: unix.BPF_JMP | code | unix.BPF_K, K: k, Jt: 0, Jf: uint8(len(yes))}}, yes, no)
}

func equal(k uint32, yes, no []unix.SockFilter) []unix.SockFilter {
	return branch(unix.BPF_JEQ, k, yes, no)
}

// masked answers yes where none of the bits is set.
func masked(bits uint32, yes, no []unix.SockFilter) []unix.SockFilter {
	return branch(unix.BPF_JSET, bits, no, yes)
}

// span is numbers with one answer.
type span struct {
	first uint32
	then  []unix.SockFilter
}

// newFilter assembles the filter of functions.
func newFilter(arch, foreign uint32) ([]unix.SockFilter, error) {
	answers, err := answersOfAll()
	if err != nil {
		return nil, err
	}
	return assembled(arch, foreign, answers, answer(answerNoSys)), nil
}

// building are the calls that making a sandbox takes and that functions have not, or not with all arguments.
var building = []uintptr{
	unix.SYS_CLONE, unix.SYS_CLONE3, unix.SYS_UNSHARE, unix.SYS_SETHOSTNAME, unix.SYS_MOUNT, unix.SYS_MOVE_MOUNT, unix.SYS_PRLIMIT64,
}

// halves are newFilter in two: what the thread has that sandboxes are started from, and they inherit, which allows what building takes;
// and what says no to that, which is all that a function's process installs itself. The kernel translates each filter when it is
// installed and holds a process to all that it has, the strictest answer first; so each start pays for a tenth of the list.
func halves(arch, foreign uint32) (inherited, own []unix.SockFilter, err error) {
	answers, err := answersOfAll()
	if err != nil {
		return nil, nil, err
	}
	rest := map[uint32][]unix.SockFilter{}
	for _, nr := range building {
		no := answers[uint32(nr)]
		if no == nil {
			no = answer(answerNoSys)
		}
		rest[uint32(nr)], answers[uint32(nr)] = no, allow()
	}
	// A tap is a packet socket, which nobody opens who is not building.
	const socket = uint32(unix.SYS_SOCKET)
	rest[socket] = join(low(0), equal(unix.AF_PACKET, deny(), allow()))
	answers[socket] = join(low(0), equal(unix.AF_PACKET, allow(), nil), answers[socket])
	return assembled(arch, foreign, answers, answer(answerNoSys)), assembled(arch, 0, rest, allow()), nil
}

// answersOfAll is what the filter of functions says to each call that is on a list.
func answersOfAll() (map[uint32][]unix.SockFilter, error) {
	answers := map[uint32][]unix.SockFilter{}
	put := func(c systemCall, then []unix.SockFilter) error {
		if answers[uint32(c.nr)] != nil {
			return fmt.Errorf("system call %s has two answers", c.name)
		}
		answers[uint32(c.nr)] = then
		return nil
	}
	for _, c := range allowed {
		if err := put(c, allow()); err != nil {
			return nil, err
		}
	}
	for _, c := range forbidden {
		if err := put(c, deny()); err != nil {
			return nil, err
		}
	}
	for c, then := range judged() {
		if err := put(c, then); err != nil {
			return nil, err
		}
	}
	return answers, nil
}

// assembled is a filter with these answers, and another to all numbers that have none.
func assembled(arch, foreign uint32, answers map[uint32][]unix.SockFilter, other []unix.SockFilter) []unix.SockFilter {
	spans := []span{{0, other}}
	add := func(first uint32, then []unix.SockFilter) {
		switch last := &spans[len(spans)-1]; {
		case last.first == first:
			last.then = then
		case !slices.Equal(last.then, then):
			spans = append(spans, span{first, then})
		}
	}
	numbers := slices.Sorted(maps.Keys(answers))
	for i, nr := range numbers {
		add(nr, answers[nr])
		if i+1 == len(numbers) || numbers[i+1] != nr+1 {
			add(nr+1, other)
		}
	}
	program := join([]unix.SockFilter{load(offsetArch)}, equal(arch, nil, nil))
	program[1].Jt, program[1].Jf = 1, 0
	program = join(program, answer(answerKill), []unix.SockFilter{load(offsetNumber)})
	if foreign != 0 { // numbers of another ABI of the same architecture (x32)
		program = join(program, branch(unix.BPF_JGE, foreign, answer(answerNoSys), nil))
	}
	return join(program, tree(spans))
}

// restrict installs a filter on the calling thread, and on what it starts.
func restrict(filter []unix.SockFilter) error {
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&program))); errno != 0 {
		return errno
	}
	return nil
}

// waitingFilter is that of a sandbox's first process, which does three things and ends.
func waitingFilter(arch uint32) []unix.SockFilter {
	program := join([]unix.SockFilter{load(offsetArch)}, equal(arch, nil, nil))
	program[1].Jt, program[1].Jf = 1, 0
	return join(program, answer(answerKill), []unix.SockFilter{load(offsetNumber)},
		equal(unix.SYS_WAIT4, allow(), nil), equal(unix.SYS_WRITE, allow(), nil), equal(unix.SYS_EXIT_GROUP, allow(), nil),
		answer(answerKill))
}

// tree finds the span of a number by halves: the kernel asks the filter for each number once when it is installed, and that
// is on the way of every start.
func tree(spans []span) []unix.SockFilter {
	if len(spans) == 1 {
		return spans[0].then
	}
	half := len(spans) / 2
	left, right := tree(spans[:half]), tree(spans[half:])
	if len(left) <= 255 {
		return join([]unix.SockFilter{{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, K: spans[half].first, Jt: uint8(len(left))}}, left, right)
	}
	// Too far for a conditional jump.
	return join([]unix.SockFilter{
		{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, K: spans[half].first, Jf: 1},
		{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(len(left))},
	}, left, right)
}

// filterBytes is the filter as the kernel reads it.
func filterBytes(program []unix.SockFilter) []byte {
	var b bytes.Buffer
	_ = binary.Write(&b, binary.NativeEndian, program) // a buffer takes all
	return b.Bytes()
}
