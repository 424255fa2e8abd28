//go:build amd64 || arm64

package native

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Descriptors of the shim. Those it opens itself have the lowest free number each, so what a script says of them holds.
const (
	controlFD = 3 // a SOCK_SEQPACKET; its end is the worker's
	procsFD   = 4 // and on: cgroups to join

	// After the build.
	rulesetFD = 4 // landlock's
	outputFD  = 5 // the first of those that come with the letter
	statusFD  = 6
	taskFD    = 7
	runtimeFD = 8
)

// Port is where a function finds its Runtime API, as at Lambda.
const (
	port       = 9001
	apiAddress = "127.0.0.1:9001"
	backlog    = 128
)

// program is what all sandboxes of a driver have alike: the shim's first script, and what a letter refers to in it.
type program struct {
	first *script
	tail  uintptr // where the first process goes on when the function's has been forked
	bpf   uintptr // the filter, see halves
	zero  uintptr // 24 zero bytes
	caps  uintptr // the header of capset
	wrong uintptr // where it fails
	six   bool    // the kernel speaks version 6 of IP
}

// plan is what the program is made from.
type plan struct {
	joins       int // cgroups to join by descriptor
	dirs, files []string
	initUID     uint32
	landlock    int               // version of its interface
	filter      []unix.SockFilter // of functions, in one
	inherited   []unix.SockFilter // and in two
	own         []unix.SockFilter
	waiting     []unix.SockFilter // of the first process
	lastCap     int               // the highest capability of the kernel
	device      bool              // there are taps, and devices for networks
	six         bool              // the kernel speaks version 6 of IP
	left        without           // of tests
}

// newProgram writes the first script:
//
//	build                                   then, with the letter (bind_linux.go)        tail
//	  join the cgroups                        mount the code, size of /tmp                 forget the letter
//	  own /proc, /tmp, /dev/shm               fork ------- function's process              give up all rights
//	  landlock's rules                          |          gives up all rights             wait for it, bury others
//	  lo, tap, listener -> worker                  tail        executes                        tell its status -> worker
//	  wait for a letter                                                                    end, and all with it
func newProgram(p plan) *program {
	s := &script{base: scriptBase, left: p.left}
	prog := &program{first: s}
	zero := s.bytes(make([]byte, 64))
	caps := s.bytes(binary.NativeEndian.AppendUint64(nil, unix.LINUX_CAPABILITY_VERSION_3))
	bpf := s.table(len(p.own), s.bytes(filterBytes(p.own)))
	waiting := s.table(len(p.waiting), s.bytes(filterBytes(p.waiting)))
	tail, wrong := &label{}, &label{}

	s.do("keep the control socket to ourselves", unix.SYS_FCNTL, controlFD, unix.F_SETFD, unix.FD_CLOEXEC)
	s.do("die with the worker", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, int(unix.SIGKILL))
	for i := range p.joins {
		s.do("join a cgroup", unix.SYS_WRITE, procsFD+i, "0", 1)
	}
	s.do("close", unix.SYS_CLOSE_RANGE, procsFD, int(^uint32(0)), 0)
	s.do("make a cgroup namespace", unix.SYS_UNSHARE, unix.CLONE_NEWCGROUP)
	s.do("set the host's name", unix.SYS_SETHOSTNAME, hostname, len(hostname))
	mounts(s, p)
	landlock(s, p.landlock)
	listen(s, p, rulesetFD+1, wrong)
	waitForLetter(s)

	tail.at = len(s.steps)
	end(s, p, zero, caps, waiting)
	wrong.at = len(s.steps)
	s.do("set up the network", unix.SYS_CLOSE, -1) // which fails, as the shim tells failures

	prog.tail, prog.wrong, prog.six = s.place(tail), s.place(wrong), p.six
	prog.zero, prog.caps, prog.bpf = s.address(zero), s.address(caps), s.address(bpf)
	return prog
}

// mounts makes what no two environments share.
func mounts(s *script, p plan) {
	const flags = unix.MS_NOSUID | unix.MS_NODEV
	// Read-only as a whole, for what a function could write there is the kernel's settings, and they are the host's.
	s.do("mount /proc", unix.SYS_MOUNT, "proc", "/proc", "proc", p.left.flags(unix.MS_RDONLY)|flags|unix.MS_NOEXEC, p.left.option("hidepid=invisible"))
	for _, dir := range p.dirs {
		s.do("mask "+dir, unix.SYS_MOUNT, emptyDir, dir, nil, unix.MS_BIND, nil).tolerate = unix.ENOENT
	}
	for _, file := range p.files {
		s.do("mask "+file, unix.SYS_MOUNT, nothing, file, nil, unix.MS_BIND, nil).tolerate = unix.ENOENT
	}
	s.do("mount /tmp", unix.SYS_MOUNT, "tmpfs", "/tmp", "tmpfs", flags, "mode=1777,size=1m,nr_inodes="+strconv.Itoa(maxInodes))
	s.do("mount /dev/shm", unix.SYS_MOUNT, "tmpfs", "/dev/shm", "tmpfs", flags|unix.MS_NOEXEC,
		"mode=1777,size=1m,nr_inodes="+strconv.Itoa(maxInodes))
}

// listen brings up lo, opens the tap, and the Runtime API's socket in the environment's own network, and hands both to
// the worker. fd is the lowest free descriptor.
func listen(s *script, p plan, fd int, wrong *label) {
	first, fds := fd, []int{}
	connect(s, fd, p, wrong)
	if p.device {
		tap(s, fd)
		fds = append(fds, fd)
		fd++
	}
	s.do("open the Runtime API's socket", unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	address := binary.NativeEndian.AppendUint16(nil, unix.AF_INET)
	address = binary.BigEndian.AppendUint16(address, port)
	address = append(address, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0)
	s.do("bind the Runtime API's socket", unix.SYS_BIND, fd, s.bytes(address), len(address))
	s.do("listen for the Runtime API", unix.SYS_LISTEN, fd, backlog)
	rights := unix.UnixRights(append([]int{fd}, fds...)...)
	oob := s.bytes(rights)
	vector := s.table(s.text("ready"), len("ready"))
	message := s.table(0, 0, vector, 1, oob, len(rights), 0)
	s.do("hand over the Runtime API's socket", unix.SYS_SENDMSG, controlFD, message, 0)
	s.do("close", unix.SYS_CLOSE_RANGE, first, fd, 0)
}

// waitForLetter reads what the worker says later, and goes on there.
func waitForLetter(s *script) {
	const maxRights = 256
	oob := s.bytes(make([]byte, maxRights))
	vector := s.table(uintptr(letterBase), letterSize)
	message := s.table(0, 0, vector, 1, oob, maxRights, 0)
	s.do("wait for the letter", unix.SYS_RECVMSG, controlFD, message, unix.MSG_CMSG_CLOEXEC).unless(0, &label{fixed: letterBase})
	s.do("end", unix.SYS_EXIT_GROUP, 0) // the worker closed it
}

// end is what the first process does while the function runs.
func end(s *script, p plan, zero, caps, waiting ptr) {
	s.do("close", unix.SYS_CLOSE_RANGE, controlFD, outputFD, 0)
	s.do("close", unix.SYS_CLOSE_RANGE, statusFD+1, int(^uint32(0)), 0)
	// The letter holds the function's variables, and secrets among them.
	s.do("forget the letter", unix.SYS_MUNMAP, uintptr(letterBase), letterSize)
	giveUp(s, int(p.initUID), zero, caps)
	s.do("die with the worker", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, int(unix.SIGKILL))
	s.do(stepFilter, unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, waiting)
	wait := s.here()
	status := s.bytes(make([]byte, 8))
	const functionPID = 2 // the first that was forked here
	s.do("wait for the function", unix.SYS_WAIT4, -1, status, unix.WALL, 0).unless(functionPID, wait)
	s.do("tell how it ended", unix.SYS_WRITE, statusFD, status, 4).tolerate = unix.EPIPE
	s.do("end", unix.SYS_EXIT_GROUP, 0)
}

// giveUp takes everything from a process that root has and others have not, and what could bring it back; the bounding set is
// empty already.
func giveUp(s *script, uid int, zero, caps any) {
	s.do("secure bits", unix.SYS_PRCTL, unix.PR_SET_SECUREBITS, notAtAll)
	s.do("clear ambient capabilities", unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	s.do("leave groups", unix.SYS_SETGROUPS, 0, nil)
	s.do("change group", unix.SYS_SETRESGID, uid, uid, uid)
	s.do("change user", unix.SYS_SETRESUID, uid, uid, uid)
	s.do("drop capabilities", unix.SYS_CAPSET, caps, zero)
	s.do("gain no privileges", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
}

// lastCapability is the highest that this kernel has.
func lastCapability() (int, error) {
	b, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || n < 0 || n > 63 {
		return 0, fmt.Errorf("the highest capability of this kernel is said to be %q", b)
	}
	return n, nil
}
