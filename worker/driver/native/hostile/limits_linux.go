//go:build amd64 || arm64

package hostile

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// limitProbes are those of limits whose control is a place without them. The others are attacks with an amount: what fits works,
// and what does not fit is refused, or ends the environment.
func limitProbes() []Probe {
	return []Probe{
		{"limits/descriptors", "EMFILE", []Control{off(Resources)}, func(*Facts) error { return descriptors(1030) }},
		{"limits/locked memory", "ENOMEM", []Control{off(Resources | Rights)}, func(*Facts) error { return locked(1 << 20) }},
		{"limits/message queues", "EACCES", []Control{off(Landlock, "EMFILE|ENOMEM")}, func(*Facts) error { return queues(40) }},
		{"limits/signals", "EAGAIN", []Control{off(Resources | Rights)}, func(*Facts) error { return signals(5000) }},
	}
}

// Attack makes this binary a guest that takes an amount of something: descriptors, processes, or MB of memory in one of its
// forms; and holds it until the environment is ended, if it got it. Its outcome is a [Result] under its name.
func Attack(what string, amount int) []string {
	return []string{argument, what, strconv.Itoa(amount)}
}

// attacks are what there is to take.
var attacks = map[string]func(int) error{
	"descriptors": descriptors, "processes": processes, "bomb": bomb,
	"anonymous": anonymous, "memfd": memfd, "sysv": sysv, "unix": unixSockets, "tcp": tcpSockets, "pipes": pipes,
	"tmp": func(n int) error { return fill("/tmp/full", n) }, "shm": func(n int) error { return fill("/dev/shm/full", n) },
	"tmp inodes": func(n int) error { return inodes("/tmp/many", n) }, "shm inodes": func(n int) error { return inodes("/dev/shm/many", n) },
	"both": func(n int) error {
		if err := fill("/tmp/full", n); err != nil {
			return err
		}
		return fill("/dev/shm/full", n)
	},
}

func attack(what string, arguments []string) int {
	amount, err := strconv.Atoi(append(arguments, "0")[0])
	if err != nil {
		fmt.Fprintln(os.Stderr, "hostile:", err)
		return 2
	}
	outcome := Take(what, amount)
	_ = json.NewEncoder(os.Stdout).Encode(Result{what, outcome})
	if outcome == Done {
		hold()
	}
	return 0
}

const megabyte = 1 << 20

func descriptors(n int) error {
	var fds []int
	defer func() {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}()
	for range n {
		fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		fds = append(fds, fd)
	}
	return nil
}

// fork makes a process that does nothing but wait, unless do is given.
func fork(do func()) error {
	pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 {
		return errno
	}
	for pid == 0 { // nothing of Go's runtime works here: there is one thread
		if do != nil {
			do()
		}
		_, _, _ = syscall.RawSyscall6(unix.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
	}
	return nil
}

// processes makes processes that last as long as this one.
func processes(n int) error {
	for range n {
		if err := fork(nil); err != nil {
			return err
		}
	}
	return nil
}

// bomb forks without end, each process in a session of its own, and never returns.
func bomb(int) error {
	multiply := func() {
		_, _, _ = syscall.RawSyscall(unix.SYS_SETSID, 0, 0, 0)
		_, _, _ = syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		_, _, _ = syscall.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
	}
	_ = json.NewEncoder(os.Stdout).Encode(Result{"bomb", "begins"})
	for {
		multiply()
	}
}

// anonymous takes memory.
func anonymous(n int) error {
	for range n {
		b, err := unix.Mmap(-1, 0, megabyte, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			return err
		}
		touch(b)
	}
	return nil
}

func touch(b []byte) {
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
}

// memfd takes memory as files without a name.
func memfd(n int) error {
	fd, err := unix.MemfdCreate("hog", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	return write(fd, n)
}

// sysv takes memory that is nobody's mapping.
func sysv(n int) error {
	for range n {
		id, err := unix.SysvShmGet(unix.IPC_PRIVATE, megabyte, unix.IPC_CREAT|0o600)
		if err != nil {
			return err
		}
		b, err := unix.SysvShmAttach(id, 0, 0)
		if err != nil {
			return err
		}
		touch(b)
		if err := unix.SysvShmDetach(b); err != nil {
			return err
		}
	}
	return nil
}

func fill(path string, n int) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	return write(fd, n)
}

func write(fd, n int) error {
	b := make([]byte, megabyte)
	for range n {
		for left := b; len(left) > 0; {
			m, err := unix.Write(fd, left)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				return err
			}
			left = left[m:]
		}
	}
	return nil
}

func inodes(dir string, n int) error {
	if err := unix.Mkdir(dir, 0o700); err != nil {
		return err
	}
	for i := range n {
		if err := unix.Mknod(dir+"/"+strconv.Itoa(i), unix.S_IFREG|0o600, 0); err != nil {
			fd, err := unix.Open(dir+"/"+strconv.Itoa(i), unix.O_CREAT|unix.O_CLOEXEC, 0o600)
			if err != nil {
				return err
			}
			_ = unix.Close(fd)
		}
	}
	return nil
}

// stuff writes to a descriptor until it takes no more, or n bytes; the rest is returned.
func stuff(fd, n int) (left int, err error) {
	b := make([]byte, 64<<10)
	for n > 0 {
		m, err := unix.Write(fd, b[:min(n, len(b))])
		switch err {
		case nil:
			n -= m
		case unix.EINTR:
		case unix.EAGAIN, unix.ENOBUFS:
			return n, nil
		default:
			return n, err
		}
	}
	return 0, nil
}

// pairs makes connected descriptors and stuffs each, until n MB lie in them. EAGAIN: they do not take that much.
func pairs(n int, pair func() (int, error)) error {
	left := n * megabyte
	for range 480 {
		fd, err := pair()
		if err != nil {
			return err
		}
		if left, err = stuff(fd, left); err != nil || left == 0 {
			return err
		}
	}
	return unix.EAGAIN
}

// unixSockets has memory lie in the buffers of local sockets.
func unixSockets(n int) error {
	return pairs(n, func() (int, error) {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			err = unix.SetsockoptInt(fds[0], unix.SOL_SOCKET, unix.SO_SNDBUF, 16*megabyte)
		}
		return fds[0], err
	})
}

// pipes has it lie in pipes.
func pipes(n int) error {
	return pairs(n, func() (int, error) {
		var fds [2]int
		err := unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC)
		_, _ = unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, megabyte)
		return fds[1], err
	})
}

// tcpSockets has it lie in the buffers of connections within the environment, which nobody reads.
func tcpSockets(n int) error {
	l, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.SetsockoptInt(l, unix.SOL_SOCKET, unix.SO_RCVBUF, 16*megabyte); err != nil {
		return err
	}
	if err := unix.Bind(l, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return err
	}
	if err := unix.Listen(l, 1024); err != nil {
		return err
	}
	to, err := unix.Getsockname(l)
	if err != nil {
		return err
	}
	return pairs(n, func() (int, error) {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 16*megabyte)
		}
		if err == nil {
			err = unix.Connect(fd, to)
		}
		if err == nil {
			_, _, err = unix.Accept4(l, unix.SOCK_CLOEXEC)
		}
		if err == nil {
			err = unix.SetNonblock(fd, true)
		}
		return fd, err
	})
}

func locked(n int) error {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return err
	}
	defer unix.Munmap(b)
	return unix.Mlock(b)
}

// queues makes message queues of the largest kind that is for everybody.
func queues(n int) error {
	attr := struct{ flags, messages, size, now, spare [1]int64 }{messages: [1]int64{10}, size: [1]int64{8192}}
	for i := range n {
		name := text("hostile" + strconv.Itoa(i))
		fd, _, errno := syscall.Syscall6(unix.SYS_MQ_OPEN, name, unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o600, uintptr(unsafe.Pointer(&attr)), 0, 0)
		if errno != 0 {
			return errno
		}
		defer func() {
			_ = unix.Close(int(fd))
			_ = call(unix.SYS_MQ_UNLINK, name)
		}()
	}
	return nil
}

// signals leaves signals pending, each of which the kernel remembers.
func signals(n int) error {
	const signal = 60
	set := uint64(1) << (signal - 1)
	if err := call(unix.SYS_RT_SIGPROCMASK, 0, uintptr(unsafe.Pointer(&set)), 0, 8); err != nil {
		return err
	}
	var info [16]uint64
	*(*int32)(unsafe.Pointer(&info[0])) = signal
	*(*int32)(unsafe.Pointer(&info[1])) = -1 // SI_QUEUE
	defer func() {
		for zero := (unix.Timespec{}); ; {
			if call(unix.SYS_RT_SIGTIMEDWAIT, uintptr(unsafe.Pointer(&set)), 0, uintptr(unsafe.Pointer(&zero)), 8) != nil {
				return
			}
		}
	}()
	for range n {
		if err := call(unix.SYS_RT_TGSIGQUEUEINFO, self(), uintptr(unix.Gettid()), signal, uintptr(unsafe.Pointer(&info))); err != nil {
			return err
		}
	}
	return nil
}

func parse(host string) (ip []byte, isV4 bool) {
	address, err := netip.ParseAddr(host)
	if err != nil {
		return make([]byte, 16), false
	}
	return address.AsSlice(), address.Is4()
}

// hold keeps what an attack has got until the environment is ended.
func hold() {
	for {
		time.Sleep(time.Hour)
	}
}

// Take takes an amount of something in this process, as [Attack] does in one of its own, and tells the outcome.
func Take(what string, amount int) string {
	do, ok := attacks[what]
	if !ok {
		return "no attack " + what
	}
	return describe(do(amount))
}
