//go:build amd64 || arm64

package native

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/hearth-run/hearth/worker/egress"
)

// What a function sends before it has a device goes to lo, where the kernel finds nobody who has the address and drops it, without a
// word to who sent it (it answers from addresses that are its own alone). A tap, which the worker has, hears of it:
//
//	function ── first packet ──► lo ──► dropped
//	                              └──► tap ──► worker: makes hearth0 in that network, gives it the address that lo has, and a way
//	                                           out that is better than lo's, and sends the packet there as it is (package egress)
//
// So a first packet comes late by the making of a device, and is not sent again by its sender. The way through lo stays: no packet
// finds none. A tap hears nothing but whole packets of TCP and UDP that leave, so the Runtime API's are not copied; it holds a few, and
// drops the others, whose senders send them again.

// Metrics of the ways through lo: worse than those through the device.
const (
	metricFour = 1
	metricSix  = 2048

	deviceFour = 0
	deviceSix  = 1024
)

// tapRoom is how many bytes of packets wait in a tap, as the kernel counts them. It doubles what it is told.
const tapRoom = 64 << 10

// tap opens it. fd is what it gets, the lowest free descriptor. lo is up: else the socket has an error, which wakes who waits for a packet.
func tap(s *script, fd int) {
	filter := tapFilter()
	all := binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL)
	// struct sockaddr_ll
	address := slices.Concat(short(unix.AF_PACKET), all, long(loopbackIndex), make([]byte, 12))
	s.do("open the tap", unix.SYS_SOCKET, unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	s.do("bound the tap", unix.SYS_SETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_RCVBUF, s.bytes(long(tapRoom)), 4)
	// Else each packet comes twice, and is copied for it.
	s.do("have the tap hear what arrives", unix.SYS_SETSOCKOPT, fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, s.bytes(long(1)), 4)
	s.do("have the tap hear what leaves", unix.SYS_SETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		s.table(len(filter), s.bytes(filterBytes(filter))), 2*pointerSz)
	s.do("bind the tap", unix.SYS_BIND, fd, s.bytes(address), len(address))
}

// tapFilter lets whole packets of TCP and UDP through that leave the environment's own address for another.
func tapFilter() []unix.SockFilter {
	const (
		protocolOfPacket = 0xfffff000 // SKF_AD_OFF + SKF_AD_PROTOCOL
		multicast        = 0xe000_0000
	)
	drop, take := answer(0), answer(egress.MTU)
	only := func(k uint32) []unix.SockFilter {
		return join([]unix.SockFilter{{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jt: 1}}, drop)
	}
	one := func(at uint32) []unix.SockFilter {
		return []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: at}}
	}
	spoken := func(at uint32) []unix.SockFilter {
		return join(one(at), []unix.SockFilter{{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.IPPROTO_TCP, Jt: 2}}, only(unix.IPPROTO_UDP))
	}
	own, six := egress.Own.As4(), egress.OwnSix.As16()
	self := binary.BigEndian.Uint32(own[:])
	const fromFour, toFour, fromSix, toSix, isFour, isSix = 12, 16, 8, 24, 9, 6
	four := join(
		[]unix.SockFilter{load(fromFour)}, only(self), spoken(isFour),
		[]unix.SockFilter{load(toFour)}, equal(self, drop, nil), branch(unix.BPF_JGE, multicast, drop, nil), take)
	var sender []unix.SockFilter
	receiver := drop // the same
	for i := uint32(0); i < 16; i += 4 {
		sender = join(sender, []unix.SockFilter{load(fromSix + i)}, only(binary.BigEndian.Uint32(six[i:])))
		last := uint32(12 - i)
		receiver = join([]unix.SockFilter{load(toSix + last)}, equal(binary.BigEndian.Uint32(six[last:]), receiver, nil), take)
	}
	version6 := join(sender, spoken(isSix), one(toSix), equal(0xff, drop, nil), receiver)
	return join([]unix.SockFilter{load(protocolOfPacket)}, equal(unix.ETH_P_IP, four, nil), equal(unix.ETH_P_IPV6, version6, nil), drop)
}

// routeSix has everything of version 6 go to lo. The kernel makes a refusal of such a way, unless it is one to an address of several
// hosts (RTF_ANYCAST), which rtnetlink(7) cannot say; what arrives by that it would forward, and drops, for it is no router. fd is the
// lowest free descriptor.
func routeSix(s *script, fd int) {
	const up, anycast = 0x1, 0x0010_0000 // RTF_UP, RTF_ANYCAST

	// struct in6_rtmsg: to, from and by whom, all nobody; kind, two lengths of prefixes; metric, info, flags, interface
	request := slices.Concat(make([]byte, 3*16), long(0), short(0), short(0), long(metricSix), make([]byte, 4),
		make([]byte, 8), long(up|anycast), long(loopbackIndex))
	s.do("open a socket of version 6", unix.SYS_SOCKET, unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	s.do("set up the network of version 6", unix.SYS_IOCTL, fd, unix.SIOCADDRT, s.bytes(request))
	s.do("close", unix.SYS_CLOSE, fd)
}

// makeDevice makes the device of the network that a tap is of, up and with its ways out. Only to open its parts takes a thread that is
// in there.
func (d *Driver) makeDevice(tap int) (device int, index uint32, err error) {
	device, kernel, err := openThere(tap)
	if err != nil {
		return -1, 0, fmt.Errorf("make a device: %w", err)
	}
	defer unix.Close(kernel)
	if d.making != nil {
		d.making()
	}
	if index, err = setDevice(tap, device, kernel); err != nil {
		_ = unix.Close(device)
		return -1, 0, fmt.Errorf("make a device: %w", err)
	}
	return device, index, nil
}

// setDevice has what was opened be a device, and gives its number.
func setDevice(tap, device, kernel int) (uint32, error) {
	request, err := unix.NewIfreq(deviceName)
	if err != nil {
		return 0, err
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(device, unix.TUNSETIFF, request); err != nil {
		return 0, err
	}
	for _, set := range []struct {
		request uint
		value   int
	}{{unix.TUNSETOWNER, 0}, {unix.TUNSETPERSIST, 1}} {
		if err := unix.IoctlSetInt(device, set.request, set.value); err != nil {
			return 0, err
		}
	}
	if err := unix.IoctlIfreq(tap, unix.SIOCGIFINDEX, request); err != nil {
		return 0, err
	}
	index, six := request.Uint32(), hasSix()
	message := slices.Concat(bound(index, six),
		// Raised after it is bound: the kernel gives what is up an address of its own making at once.
		change(unix.RTM_NEWLINK, 0, link(index, unix.IFF_UP|deviceFlags, unix.IFF_UP|unix.IFF_MULTICAST|deviceFlags)),
		addressed(unix.AF_INET, egress.Own, index))
	if six {
		message = append(message, addressed(unix.AF_INET6, egress.OwnSix, index)...)
	}
	// The ways last: who takes one finds the rest there.
	message = append(message, routed(unix.RTM_NEWROUTE, unix.AF_INET, index, deviceFour, 0)...)
	if six {
		message = append(message, routed(unix.RTM_NEWROUTE, unix.AF_INET6, index, deviceSix, 0)...)
	}
	return index, ask(kernel, message)
}

// ask has the kernel change something.
func ask(kernel int, message []byte) error {
	if err := unix.Sendto(kernel, acknowledged(message), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	b := make([]byte, 4096)
	n, _, err := unix.Recvfrom(kernel, b, 0)
	if err != nil {
		return err
	}
	if n < acknowledgement {
		return fmt.Errorf("the kernel answers %d bytes", n)
	}
	if errno := int32(binary.NativeEndian.Uint32(b[unix.NLMSG_HDRLEN:])); errno != 0 {
		return unix.Errno(-errno)
	}
	return nil
}

// openThere opens a device that is none yet, and a socket to the kernel, in the network that a socket is of.
func openThere(socket int) (device, kernel int, err error) {
	there, err := unix.IoctlRetInt(socket, unix.SIOCGSKNS)
	if err != nil {
		return -1, -1, fmt.Errorf("find the network: %w", err)
	}
	defer unix.Close(there)
	here, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, -1, err
	}
	defer unix.Close(here)
	device, kernel = -1, -1
	done := make(chan struct{})
	go func() { // awaited below
		defer close(done)
		runtime.LockOSThread()
		if err = unix.Setns(there, unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			return
		}
		if device, err = unix.Open(deviceNode, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err == nil {
			kernel, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
		}
		if unix.Setns(here, unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread() // else the thread ends with this goroutine
		}
	}()
	<-done
	if err != nil && device >= 0 {
		_ = unix.Close(device)
	}
	return device, kernel, err
}
