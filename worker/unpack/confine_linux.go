package unpack

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hearth-run/hearth/worker/driver/uids"
)

// confine takes from this process everything that unpacking does not need: all of the file system but the folder it was started
// in, its user, rights, network, other programs, memory and time. The calling thread must be locked. Landlock would have to be
// told to each thread of a Go program, and forbids nothing that is still there to be had: the root is the folder, and nothing
// else is open.
func confine(uid uint32, memory, seconds uint64) error {
	if !uids.In(uid) {
		return fmt.Errorf("uid %d is not one of environments", uid)
	}
	before, err := data()
	if err != nil {
		return err
	}
	for resource, most := range map[int]uint64{
		unix.RLIMIT_DATA: before + memory, unix.RLIMIT_CPU: seconds, unix.RLIMIT_FSIZE: MaxUnpacked, unix.RLIMIT_NOFILE: childFiles,
		unix.RLIMIT_CORE: 1, unix.RLIMIT_MEMLOCK: 0, unix.RLIMIT_MSGQUEUE: 0,
		unix.RLIMIT_NPROC: childThreads,
	} {
		if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: most, Max: most}); err != nil {
			return fmt.Errorf("limit resource %d: %w", resource, err)
		}
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("make its folder the root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	id := int(uid)
	// Of all threads (package syscall).
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setresgid(id, id, id), syscall.Setresuid(id, id, id)); err != nil {
		return fmt.Errorf("change user: %w", err)
	}
	if err := powerless(); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("gain no privileges: %w", err)
	}
	return filter()
}

// data is how many bytes count against RLIMIT_DATA already: what a Go program reserves when it starts, the more so under the race
// detector.
func data() (uint64, error) {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b))
	if len(fields) < 6 {
		return 0, fmt.Errorf("this process takes %q of memory", b)
	}
	pages, err := strconv.ParseUint(fields[5], 10, 64)
	return pages * uint64(os.Getpagesize()), err
}

// powerless makes sure that the change of user took all capabilities.
func powerless() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err
	}
	if data[0].Effective|data[0].Permitted|data[1].Effective|data[1].Permitted != 0 {
		return errors.New("capabilities are left")
	}
	return nil
}

// needed are the system calls of a Go program that reads a file and writes others, on both architectures. Not among them:
// sockets, other programs, signals to others, mounts, namespaces, devices, changes of owner.
var needed = []uint32{
	unix.SYS_READ, unix.SYS_PREAD64, unix.SYS_WRITE, unix.SYS_PWRITE64, unix.SYS_WRITEV, unix.SYS_OPENAT, unix.SYS_CLOSE, unix.SYS_FSTAT,
	unix.SYS_NEWFSTATAT, unix.SYS_STATX, unix.SYS_LSEEK, unix.SYS_MKDIRAT, unix.SYS_SYMLINKAT, unix.SYS_READLINKAT, unix.SYS_FCHMOD,
	unix.SYS_GETDENTS64, unix.SYS_FCNTL, unix.SYS_FTRUNCATE, unix.SYS_COPY_FILE_RANGE, unix.SYS_SENDFILE, unix.SYS_SPLICE,
	unix.SYS_MMAP, unix.SYS_MUNMAP, unix.SYS_MREMAP, unix.SYS_MPROTECT, unix.SYS_MADVISE, unix.SYS_BRK,
	unix.SYS_FUTEX, unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_CLOCK_GETTIME, unix.SYS_SCHED_YIELD, unix.SYS_SCHED_GETAFFINITY,
	unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_SIGALTSTACK, unix.SYS_RESTART_SYSCALL,
	unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT, unix.SYS_EVENTFD2, unix.SYS_PIPE2,
	unix.SYS_GETPID, unix.SYS_GETTID, unix.SYS_TGKILL, unix.SYS_GETUID, unix.SYS_GETEUID, unix.SYS_GETGID, unix.SYS_GETEGID,
	unix.SYS_GETRANDOM, unix.SYS_PRCTL, unix.SYS_SET_ROBUST_LIST, unix.SYS_RSEQ, unix.SYS_SET_TID_ADDRESS,
	unix.SYS_EXIT, unix.SYS_EXIT_GROUP,
}

var archs = map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}

// filter lets all threads of the process use these system calls alone; the others fail.
func filter() error {
	arch, ok := archs[runtime.GOARCH]
	if !ok {
		return fmt.Errorf("no filter of system calls for %s", runtime.GOARCH)
	}
	const number, architecture, flags = 0, 4, 16 // offsets in what it looks at
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	equal := func(k uint32, yes, no int) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jt: uint8(yes), Jf: uint8(no)}
	}
	end := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	const refused, absent = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM), unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	program := []unix.SockFilter{
		load(architecture), equal(arch, 1, 0), end(unix.SECCOMP_RET_KILL_PROCESS),
		load(number),
		// Threads, and nothing else, by the call whose flags can be seen.
		equal(unix.SYS_CLONE3, 0, 1), end(absent),
		equal(unix.SYS_CLONE, 0, 4), load(flags),
		{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: unix.CLONE_THREAD, Jf: 1}, end(unix.SECCOMP_RET_ALLOW), end(refused),
	}
	for i, nr := range needed {
		program = append(program, equal(nr, len(needed)-i, 0))
	}
	program = append(program, end(refused), end(unix.SECCOMP_RET_ALLOW))
	load64 := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	stuck, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC,
		uintptr(unsafe.Pointer(&load64)))
	switch {
	case errno != 0:
		return fmt.Errorf("filter system calls: %w", errno)
	case stuck != 0:
		return fmt.Errorf("filter system calls: thread %d has another filter", stuck)
	}
	return nil
}
