//go:build amd64 || arm64

package hostile

import (
	"fmt"
	"os/exec"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kernelProbes knock at parts of the kernel that functions have no use for, and at the edges of the filter itself.
func kernelProbes() []Probe {
	reached := func(then string) []Control { return []Control{off(Filter, then)} }
	behind := func(then string) []Control { return []Control{off(Filter|Rights, then)} }
	return []Probe{
		{"kernel/add a key", "EPERM", reached(Done), func(*Facts) error { return addKey() }},
		{"kernel/keys", "EPERM", reached(Done), func(*Facts) error { return call(unix.SYS_KEYCTL, 0, processKeyring, 1) }},
		{"kernel/ask for a key", "EPERM", reached("ENOKEY"), func(*Facts) error {
			return call(unix.SYS_REQUEST_KEY, text("user"), text("hostile-nothing"), 0, processKeyring)
		}},
		{"kernel/bpf", "EPERM", behind(Done), func(*Facts) error { return bpfMap() }},
		{"kernel/perf", "EPERM", behind(Done), func(*Facts) error {
			return closing(unix.PerfEventOpen(&unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Size: 64}, 0, -1, -1, 0))
		}},
		{"kernel/userfaultfd", "EPERM", reached(Done), func(*Facts) error { return opens(unix.SYS_USERFAULTFD, unix.O_CLOEXEC|1) }},
		{"kernel/io_uring", "ENOSYS", reached(Done), func(*Facts) error {
			var params [120]byte
			return opens(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params)))
		}},
		{"kernel/aio", "ENOSYS", reached(Done), func(*Facts) error {
			var context uintptr
			return call(unix.SYS_IO_SETUP, 1, uintptr(unsafe.Pointer(&context)))
		}},
		// A kernel without kexec or modules says ENOSYS, which is not what the filter says.
		{"kernel/kexec", "EPERM", behind("done|ENOSYS"), func(*Facts) error { return call(unix.SYS_KEXEC_LOAD, 0, 0, 0, 0) }},
		{"kernel/load a module", "EPERM", behind("ENOEXEC|EFAULT|ENOSYS"), func(*Facts) error { return call(unix.SYS_INIT_MODULE, 0, 0, text("")) }},
		{"kernel/load a module's file", "EPERM", behind("EBADF|ENOSYS"), func(*Facts) error { return call(unix.SYS_FINIT_MODULE, badFD, text(""), 0) }},
		{"kernel/remove a module", "EPERM", behind("ENOENT|ENOSYS"), func(*Facts) error {
			return call(unix.SYS_DELETE_MODULE, text("hostile_nothing"), unix.O_NONBLOCK)
		}},
		{"kernel/secret memory", "ENOSYS", reached("done"), func(*Facts) error { return opens(unix.SYS_MEMFD_SECRET, 0) }},
		{"kernel/file handle", "EPERM", reached(Done), func(*Facts) error {
			_, _, err := unix.NameToHandleAt(unix.AT_FDCWD, "/tmp", 0)
			return err
		}},
		{"kernel/open by handle", "EPERM", []Control{off(Filter|Rights, "ESTALE"), off(Filter, "ESTALE|EPERM")}, func(*Facts) error {
			return closing(unix.OpenByHandleAt(unix.AT_FDCWD, unix.NewFileHandle(1, make([]byte, 12)), 0))
		}},
		{"kernel/personality", "EPERM", reached(Done), func(*Facts) error { return call(unix.SYS_PERSONALITY, 0xffffffff) }},
		{"kernel/page cache", "ENOSYS", reached("EBADF"), func(*Facts) error { return call(unix.SYS_CACHESTAT, badFD, 0, 0, 0) }},
		{"kernel/remap pages", "ENOSYS", reached("EINVAL"), func(*Facts) error { return call(unix.SYS_REMAP_FILE_PAGES, 0, 0, 0, 0, 0) }},
		{"kernel/memory policy", "EPERM", reached("done|ENOSYS"), func(*Facts) error { return call(unix.SYS_SET_MEMPOLICY, 0, 0, 0) }},
		{"kernel/move pages", "EPERM", reached("done|ENOSYS"), func(*Facts) error { return call(unix.SYS_MOVE_PAGES, 0, 0, 0, 0, 0, 0) }},
		{"kernel/watch file systems", "EPERM", behind(Done), func(*Facts) error { return opens(unix.SYS_FANOTIFY_INIT, 0, 0) }},
		// Newer than the list, and known to kernels from 6.17 on.
		{"kernel/a call that nobody named", "ENOSYS", reached("EBADF|EFAULT|EINVAL"), func(*Facts) error { return call(Newest, badFD, 0, 0, 0, 0) }},
		// The filter says that it is done, and the kernel would look for the descriptor first.
		{"kernel/flush a disk", Done, reached("EBADF"), func(*Facts) error { return call(unix.SYS_SYNCFS, badFD) }},
		{"kernel/flush a file", Done, reached("EBADF"), func(*Facts) error { return call(unix.SYS_FSYNC, badFD) }},
		{"kernel/flush a mapping", Done, reached("ENOMEM"), func(*Facts) error { return call(unix.SYS_MSYNC, 1<<36, 4096, unix.MS_SYNC) }},
		{"kernel/no such call", "ENOSYS", nil, func(*Facts) error { return call(4000) }},
		{"kernel/negative call", "ENOSYS", nil, func(*Facts) error { return call(^uintptr(0)) }},
		{"kernel/core limit", "EPERM", reached(Done), func(*Facts) error { return coreLimit(unix.RLIMIT_CORE, 0) }},
		{"kernel/core limit, high bits", "EPERM", reached(Done), func(*Facts) error { return coreLimit(unix.RLIMIT_CORE|1<<32, 0) }},
		{"kernel/core limit, low half of an address", "EPERM", reached(Done), func(*Facts) error { return coreLimit(unix.RLIMIT_CORE, 1<<36) }},
		{"kernel/core limit of another name", "EPERM", reached(Done), func(*Facts) error {
			return call(setrlimit, unix.RLIMIT_CORE, uintptr(unsafe.Pointer(&unix.Rlimit{})))
		}},
		{"kernel/core is limited", "limited", []Control{off(Resources)}, func(*Facts) error { return coreIs() }},
		{"kernel/filter from the side", "EPERM", reached(Done), func(*Facts) error { return otherThreads() }},
		{"kernel/foreign system calls", "killed", []Control{off(Filter, "done|ENOSYS")}, func(*Facts) error { return foreignCall() }},
	}
}

// Newest is a system call that is newer than the list: file_getattr, which kernels have from 6.17 on.
const Newest = 468

// processKeyring is KEY_SPEC_PROCESS_KEYRING.
const processKeyring = ^uintptr(1)

func addKey() error {
	payload := [1]byte{'x'}
	return call(unix.SYS_ADD_KEY, text("user"), text("hostile"), uintptr(unsafe.Pointer(&payload)), 1, processKeyring)
}

// bpfMap makes an array of one number.
func bpfMap() error {
	attr := [18]uint32{2, 4, 4, 1} // BPF_MAP_TYPE_ARRAY, sizes of key and value, entries
	return opens(unix.SYS_BPF, 0, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
}

// coreLimit sets the limit of core dumps to nothing, which would start a core handler behind a pipe. The limit stands at a
// fixed address, so that half of the number that the filter sees can be zero.
func coreLimit(resource, address uintptr) error {
	if address == 0 {
		return call(unix.SYS_PRLIMIT64, 0, resource, uintptr(unsafe.Pointer(&unix.Rlimit{})), 0)
	}
	at, _, errno := syscall.Syscall6(unix.SYS_MMAP, address, 4096, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_FIXED_NOREPLACE, ^uintptr(0), 0)
	if errno != 0 {
		return found(fmt.Sprint("no memory there: ", errno))
	}
	defer func() { _, _, _ = syscall.Syscall(unix.SYS_MUNMAP, at, 4096, 0) }()
	return call(unix.SYS_PRLIMIT64, 0, resource, at, 0)
}

func coreIs() error {
	var l unix.Rlimit
	if err := unix.Prlimit(0, unix.RLIMIT_CORE, nil, &l); err != nil {
		return err
	}
	if l.Cur == 1 && l.Max == 1 {
		return found("limited")
	}
	return nil
}

// otherThreads asks for what the filter refuses on a thread that was there before: a filter holds for all of them.
func otherThreads() error {
	result := make(chan error, 8)
	for range cap(result) {
		go func() { result <- call(unix.SYS_PERSONALITY, 0xffffffff) }() // awaited below
	}
	var last error
	for range cap(result) {
		if err := <-result; err == nil {
			return nil
		} else {
			last = err
		}
	}
	return last
}

// foreignCall makes a system call of another architecture, in a process of its own: the filter ends it.
func foreignCall() error {
	cmd := again("foreign")
	err := cmd.Run()
	if exit, ok := err.(*exec.ExitError); ok {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGSYS {
			return found("killed")
		}
		if exit.ExitCode() == foreignUnknown {
			return unix.ENOSYS
		}
	}
	return err
}

// foreignUnknown is the exit status of a guest on a machine that has no other architecture's calls.
const foreignUnknown = 38
