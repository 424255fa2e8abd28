package egress

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// routeTime is how long the kernel has for its answer, in seconds. It needs microseconds.
const routeTime = 2

// isLocal asks the kernel where a packet to an address would go, and reports whether that is this host, or several. The kernel
// knows what no list does: every address of every interface, now. An address that no route leads to is not local.
func isLocal(addr netip.Addr) (bool, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return true, fmt.Errorf("ask for a route: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: routeTime}); err != nil {
		return true, fmt.Errorf("ask for a route: %w", err)
	}
	if err := unix.Sendto(fd, routeQuestion(addr), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return true, fmt.Errorf("ask for a route: %w", err)
	}
	b := make([]byte, 4096)
	n, from, err := unix.Recvfrom(fd, b, 0)
	if err != nil {
		return true, fmt.Errorf("ask for a route: %w", err)
	}
	if kernel, ok := from.(*unix.SockaddrNetlink); !ok || kernel.Pid != 0 {
		return true, errors.New("ask for a route: somebody else answers")
	}
	return readRoute(b[:n])
}

// routeQuestion is RTM_GETROUTE for an address.
func routeQuestion(addr netip.Addr) []byte {
	family, bytes := byte(unix.AF_INET6), addr.AsSlice()
	if addr.Is4() {
		family = unix.AF_INET
	}
	length := unix.SizeofNlMsghdr + unix.SizeofRtMsg + unix.SizeofRtAttr + len(bytes)
	b := make([]byte, 0, length)
	b = binary.NativeEndian.AppendUint32(b, uint32(length))
	b = binary.NativeEndian.AppendUint16(b, unix.RTM_GETROUTE)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST)
	b = append(b, make([]byte, 8)...) // sequence and port
	b = append(b, family, byte(8*len(bytes)), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofRtAttr+len(bytes)))
	b = binary.NativeEndian.AppendUint16(b, unix.RTA_DST)
	return append(b, bytes...)
}

// readRoute reads the kernel's answer. What is no way to another host is local.
func readRoute(b []byte) (bool, error) {
	const kind = unix.SizeofNlMsghdr + 7 // rtm_type
	if len(b) < unix.SizeofNlMsghdr+4 {
		return true, errors.New("ask for a route: a short answer")
	}
	switch binary.NativeEndian.Uint16(b[4:]) {
	case unix.NLMSG_ERROR:
		switch errno := unix.Errno(-int32(binary.NativeEndian.Uint32(b[unix.SizeofNlMsghdr:]))); errno {
		case unix.ENETUNREACH, unix.EHOSTUNREACH:
			return false, nil // the connection fails by itself
		default:
			return true, fmt.Errorf("ask for a route: %w", errno)
		}
	case unix.RTM_NEWROUTE:
		if len(b) <= kind {
			return true, errors.New("ask for a route: a short answer")
		}
		return b[kind] != unix.RTN_UNICAST, nil
	}
	return true, errors.New("ask for a route: an unknown answer")
}
