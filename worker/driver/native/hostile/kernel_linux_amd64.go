package hostile

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

const setrlimit uintptr = unix.SYS_SETRLIMIT

// kernelProbesArch are those of calls that only this architecture has.
func kernelProbesArch() []Probe {
	reached := func(then string) []Control { return []Control{off(Filter, then)} }
	return []Probe{
		{"kernel/descriptor table", "EPERM", reached(Done), func(*Facts) error {
			var b [64]byte
			return call(unix.SYS_MODIFY_LDT, 0, uintptr(unsafe.Pointer(&b)), uintptr(len(b)))
		}},
		{"kernel/ports", "EPERM", []Control{off(Filter|Rights, "done|ENOSYS")}, func(*Facts) error { return call(unix.SYS_IOPERM, 0x80, 1, 0) }},
		{"kernel/port level", "EPERM", []Control{off(Filter|Rights, "done|ENOSYS")}, func(*Facts) error { return call(unix.SYS_IOPL, 0) }},
		{"kernel/node of the old kind", "EPERM", []Control{off(Filter, "EACCES"), off(Filter | Rights | Landlock)}, func(*Facts) error {
			return made("/tmp/node", call(unix.SYS_MKNOD, text("/tmp/node"), unix.S_IFCHR|0o600, uintptr(unix.Mkdev(1, 1))))
		}},
		{"kernel/x32 call", "ENOSYS", nil, func(*Facts) error { return call(0x4000_0000 + unix.SYS_GETPID) }},
		{"kernel/x32 of what is refused", "ENOSYS", nil, func(*Facts) error { return call(0x4000_0000+unix.SYS_PTRACE, 0, 0, 0, 0) }},
		{"kernel/number with high bits", "EPERM", reached(Done), func(*Facts) error { return call(1<<32|unix.SYS_PERSONALITY, 0xffffffff) }},
	}
}

// foreign calls getpid by the gate of 32-bit programs.
func foreign() int {
	const getpid, enosys = 20, 38
	if n := int32(gate32(getpid)); n == -enosys {
		return foreignUnknown
	} else if n <= 0 {
		return 1
	}
	return 0
}

// gate32 makes a system call of the 32-bit architecture without arguments.
func gate32(number uint32) uint32
