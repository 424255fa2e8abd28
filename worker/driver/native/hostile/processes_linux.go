//go:build amd64 || arm64

package hostile

import (
	"os"
	"os/exec"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// processProbes reach for processes: those outside, which a sandbox has no numbers for; the first one inside, which is another
// user's; and its own, with calls that lead from one process into another.
func processProbes() []Probe {
	filter := []Control{off(Filter)}
	first := []Control{off(Rights, "EPERM"), off(Landlock, "EPERM"), off(Rights | Landlock)}
	return []Probe{
		{"processes/signal one outside", "ESRCH", bare, func(f *Facts) error { return unix.Kill(f.Victim, 0) }},
		{"processes/descriptor of one outside", "ESRCH", bare, func(f *Facts) error { return closing(unix.PidfdOpen(f.Victim, 0)) }},
		{"processes/limits of one outside", "ESRCH", bare, func(f *Facts) error {
			return unix.Prlimit(f.Victim, unix.RLIMIT_NOFILE, nil, &unix.Rlimit{})
		}},
		{"processes/priority of one outside", "ESRCH", bare, func(f *Facts) error { return unix.Setpriority(unix.PRIO_PROCESS, f.Victim, 19) }},
		{"processes/cores of one outside", "ESRCH", bare, func(f *Facts) error {
			var set unix.CPUSet
			if err := unix.SchedGetaffinity(0, &set); err != nil {
				return err
			}
			return unix.SchedSetaffinity(f.Victim, &set)
		}},
		{"processes/session of one outside", "ESRCH", bare, func(f *Facts) error {
			_, err := unix.Getsid(f.Victim)
			return err
		}},
		{"processes/signal the first", "EPERM", first, func(*Facts) error { return unix.Kill(1, 0) }},
		{"processes/trace", "EPERM", filter, func(*Facts) error { return withChild(trace) }},
		{"processes/read memory", "EPERM", filter, func(*Facts) error { return memory(unix.SYS_PROCESS_VM_READV) }},
		{"processes/write memory", "EPERM", filter, func(*Facts) error { return memory(unix.SYS_PROCESS_VM_WRITEV) }},
		{"processes/take a descriptor", "EPERM", filter, func(*Facts) error { return takeDescriptor() }},
		{"processes/compare", "EPERM", filter, func(*Facts) error { return call(unix.SYS_KCMP, self(), self(), 0, 0, 0) }},
		{"processes/advise", "EPERM", filter, func(*Facts) error { return advise() }},
		{"processes/inherited descriptors", "nothing", bare, func(*Facts) error { return inherited() }},
	}
}

func self() uintptr { return uintptr(os.Getpid()) }

// call makes a system call that x/sys has no name for, or checks arguments of.
func call(number uintptr, args ...uintptr) error {
	var a [6]uintptr
	copy(a[:], args)
	if _, _, errno := syscall.Syscall6(number, a[0], a[1], a[2], a[3], a[4], a[5]); errno != 0 {
		return errno
	}
	return nil
}

// opens makes a system call that gives a descriptor.
func opens(number uintptr, args ...uintptr) error {
	var a [6]uintptr
	copy(a[:], args)
	fd, _, errno := syscall.Syscall6(number, a[0], a[1], a[2], a[3], a[4], a[5])
	if errno != 0 {
		return errno
	}
	return unix.Close(int(fd))
}

// closing is for calls that give a descriptor, or an error.
func closing(fd int, err error) error {
	if err == nil {
		err = unix.Close(fd)
	}
	return err
}

// text is a string for the kernel.
func text(s string) uintptr {
	b, err := unix.BytePtrFromString(s)
	if err != nil {
		panic(err) // constants
	}
	held = append(held, b)
	return uintptr(unsafe.Pointer(b))
}

// held keeps what the kernel was told the address of: an uintptr keeps nothing alive.
var held []*byte

// again is a command of this program in another role.
func again(role string, arguments ...string) *exec.Cmd {
	return exec.Command("/proc/self/exe", append([]string{argument, role}, arguments...)...)
}

// withChild does something to a child of this process.
func withChild(do func(pid int) error) error {
	child := again("wait")
	leash, err := child.StdinPipe()
	if err != nil {
		return err
	}
	if err := child.Start(); err != nil {
		return err
	}
	err = do(child.Process.Pid)
	_ = leash.Close()
	_ = child.Process.Kill()
	_ = child.Wait()
	return err
}

func trace(pid int) error {
	const seize = 0x4206
	return call(unix.SYS_PTRACE, seize, uintptr(pid), 0, 0)
}

// memory reads or writes the memory of a process: its own, which everybody may.
func memory(number uintptr) error {
	var from, to [8]byte
	local, remote := unix.Iovec{Base: &to[0], Len: 8}, unix.Iovec{Base: &from[0], Len: 8}
	return call(number, self(), uintptr(unsafe.Pointer(&local)), 1, uintptr(unsafe.Pointer(&remote)), 1, 0)
}

func takeDescriptor() error {
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return closing(unix.PidfdGetfd(fd, 0, 0))
}

func advise() error {
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	page, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return err
	}
	defer unix.Munmap(page)
	vector := unix.Iovec{Base: &page[0], Len: 4096}
	return call(unix.SYS_PROCESS_MADVISE, uintptr(fd), uintptr(unsafe.Pointer(&vector)), 1, unix.MADV_COLD, 0)
}

// inherited looks for descriptors that came from outside beside the three that every process has.
func inherited() error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		fd := 0
		for _, c := range entry.Name() {
			fd = fd*10 + int(c-'0')
		}
		// Go's own close when something is executed.
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); fd > 2 && err == nil && flags&unix.FD_CLOEXEC == 0 {
			return nil
		}
	}
	return found("nothing")
}
