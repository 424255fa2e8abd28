//go:build amd64 || arm64

package native

import (
	"golang.org/x/sys/unix"
)

// The list of system calls is that of github.com/moby/profiles/seccomp v0.2.4 for a container without capabilities, less what
// SECURITY 3 takes away and what the kernel counts nowhere; a test says what differs, name by name, so that an update is read
// before it holds. What is neither allowed nor forbidden answers ENOSYS, as a kernel does that has no such call: programs fall
// back then, also from those that are not invented yet.
type systemCall struct {
	name string
	nr   uintptr
}

// judged are the system calls whose arguments decide.
func judged() map[systemCall][]unix.SockFilter {
	const (
		coreLimit  = unix.RLIMIT_CORE
		namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID |
			unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP
		tcpULP = 31
	)
	return map[systemCall][]unix.SockFilter{
		// No new namespaces: in a user namespace of its own a process would have capabilities.
		{"clone", unix.SYS_CLONE}: join(low(0), masked(namespaces, allow(), deny())),
		// Not even lowered: only 1 keeps the kernel from starting a core handler (SECURITY 3).
		{"setrlimit", unix.SYS_SETRLIMIT}: join(low(0), equal(coreLimit, deny(), allow())),
		{"prlimit64", unix.SYS_PRLIMIT64}: join(low(1), equal(coreLimit,
			join(low(2), equal(0, join(high(2), equal(0, allow(), deny())), deny())), allow())),
		// Local sockets, TCP, UDP, and routes and addresses by netlink; vsock would lead out of the namespace.
		{"socket", unix.SYS_SOCKET}: join(low(0),
			equal(unix.AF_UNIX, allow(), nil),
			equal(unix.AF_NETLINK, join(low(2), equal(unix.NETLINK_ROUTE, allow(), deny())), nil),
			equal(unix.AF_INET, internet(), nil),
			equal(unix.AF_INET6, internet(), nil),
			deny()),
		{"socketpair", unix.SYS_SOCKETPAIR}: join(low(0), equal(unix.AF_UNIX, allow(), deny())),
		// Protocols above TCP are code of the kernel that nobody here needs.
		{"setsockopt", unix.SYS_SETSOCKOPT}: join(low(1), equal(unix.IPPROTO_TCP,
			join(low(2), equal(tcpULP, deny(), allow())), allow())),
		// All that can be written is in memory. What is on a disk is the host's: its flushes, which cost everybody, are not
		// a function's to ask for, and it is told that there was nothing to do.
		{"sync", unix.SYS_SYNC}: answer(answerDone), {"syncfs", unix.SYS_SYNCFS}: answer(answerDone),
		{"fsync", unix.SYS_FSYNC}: answer(answerDone), {"fdatasync", unix.SYS_FDATASYNC}: answer(answerDone),
		{"msync", unix.SYS_MSYNC}: join(low(2), masked(unix.MS_SYNC, allow(), answer(answerDone))),
		// What is typed into a terminal on behalf of its owner.
		{"ioctl", unix.SYS_IOCTL}: join(low(1), equal(unix.TIOCSTI, deny(), nil), equal(unix.TIOCLINUX, deny(), allow())),
	}
}

// internet is the kinds and protocols of an internet socket: streams and datagrams. Not SOCK_PACKET, of which the kernel makes a
// packet socket whatever the family is.
func internet() []unix.SockFilter {
	const kind = 0xf // the rest are flags
	protocols := join(low(2), equal(0, allow(), nil), equal(unix.IPPROTO_TCP, allow(), nil), equal(unix.IPPROTO_UDP, allow(), deny()))
	return join(low(1), []unix.SockFilter{{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: kind}},
		equal(unix.SOCK_STREAM, protocols, nil), equal(unix.SOCK_DGRAM, protocols, deny()))
}
