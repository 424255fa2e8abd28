//go:build amd64 || arm64

package hostile

import (
	"encoding/binary"
	"fmt"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socketProbes open sockets of kinds that lead out of the namespace, or into code of the kernel that functions do not need.
// A kernel that lacks a kind says so, and does not say EPERM.
func socketProbes() []Probe {
	opened := func(name string, family, kind, protocol int, controls ...Control) Probe {
		return Probe{"sockets/" + name, "EPERM", controls, func(*Facts) error { return closing(unix.Socket(family, kind|unix.SOCK_CLOEXEC, protocol)) }}
	}
	const lacks = "|EAFNOSUPPORT|EPROTONOSUPPORT|ESOCKTNOSUPPORT"
	free, privileged := off(Filter, Done+lacks), off(Filter|Rights, Done+lacks)
	all := []Probe{
		opened("vsock", unix.AF_VSOCK, unix.SOCK_STREAM, 0, free),
		opened("packet", unix.AF_PACKET, unix.SOCK_RAW, 0, privileged, off(Filter, "EPERM|EAFNOSUPPORT")),
		opened("crypto", unix.AF_ALG, unix.SOCK_SEQPACKET, 0, free),
		opened("key", unix.AF_KEY, unix.SOCK_RAW, 2, privileged),
		opened("bluetooth", unix.AF_BLUETOOTH, unix.SOCK_RAW, 1, privileged),
		opened("tipc", unix.AF_TIPC, unix.SOCK_RDM, 0, free),
		opened("xdp", unix.AF_XDP, unix.SOCK_RAW, 0, privileged),
		opened("rds", unix.AF_RDS, unix.SOCK_SEQPACKET, 0, free),
		opened("can", unix.AF_CAN, unix.SOCK_RAW, 1, free),
		opened("raw", unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP, privileged, off(Filter, "EPERM")),
		opened("raw tcp", unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_TCP, privileged),
		// The kernel makes a packet socket of it.
		opened("packet of the old kind", unix.AF_INET, unix.SOCK_PACKET, 0, privileged, off(Rights, "EPERM"), off(Filter, "EPERM")),
		opened("raw of any protocol", unix.AF_INET, unix.SOCK_RAW, 0, off(Filter, "EPROTONOSUPPORT")),
		opened("raw, version 6", unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6, privileged),
		// Who may ping is a setting of each network, by default nobody.
		opened("ping", unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP, off(Filter, "done|EACCES")),
		opened("sctp", unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP, free),
		opened("dccp", unix.AF_INET, 6, unix.IPPROTO_DCCP, free),
		opened("mptcp", unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP, free),
		opened("mptcp, version 6", unix.AF_INET6, unix.SOCK_STREAM, unix.IPPROTO_MPTCP, free),
		opened("udplite", unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_UDPLITE, free),
		{"sockets/protocol with high bits", "EPERM", []Control{free}, func(*Facts) error {
			return opens(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 1<<32|unix.IPPROTO_MPTCP)
		}},
		{"sockets/family with high bits", "EPERM", []Control{free}, func(*Facts) error {
			return opens(unix.SYS_SOCKET, 1<<32|unix.AF_VSOCK, unix.SOCK_STREAM, 0)
		}},
		{"sockets/pair of another family", "EPERM", []Control{off(Filter, "EOPNOTSUPP|EAFNOSUPPORT")}, func(*Facts) error {
			_, err := unix.Socketpair(unix.AF_TIPC, unix.SOCK_STREAM, 0)
			return err
		}},
		{"sockets/protocol above tcp", "EPERM", []Control{off(Filter, "done|ENOENT|ENOTCONN")}, func(*Facts) error { return upper(unix.IPPROTO_TCP) }},
		{"sockets/protocol above tcp, high bits", "EPERM", []Control{off(Filter, "done|ENOENT|ENOTCONN")}, func(*Facts) error { return upper(unix.IPPROTO_TCP | 1<<32) }},
		{"sockets/type into a terminal", "EPERM", []Control{off(Filter, "ENOTTY")}, func(*Facts) error { return typeInto(unix.TIOCSTI) }},
		{"sockets/type into a terminal, high bits", "EPERM", []Control{off(Filter, "ENOTTY")}, func(*Facts) error { return typeInto(unix.TIOCSTI | 1<<32) }},
		{"sockets/console", "EPERM", []Control{off(Filter, "ENOTTY")}, func(*Facts) error { return typeInto(unix.TIOCLINUX) }},
	}
	for name, protocol := range map[string]int{
		"netfilter": unix.NETLINK_NETFILTER, "audit": unix.NETLINK_AUDIT, "device events": unix.NETLINK_KOBJECT_UEVENT,
		"socket list": unix.NETLINK_INET_DIAG, "ipsec": unix.NETLINK_XFRM, "generic": unix.NETLINK_GENERIC, "crypto": unix.NETLINK_CRYPTO,
		"connector": unix.NETLINK_CONNECTOR,
	} {
		all = append(all, opened("netlink "+name, unix.AF_NETLINK, unix.SOCK_RAW, protocol, free))
	}
	return all
}

// upper lays a protocol over a socket.
func upper(level uintptr) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return call(unix.SYS_SETSOCKOPT, uintptr(fd), level, unix.TCP_ULP, text("tls"), 3)
}

func typeInto(request uintptr) error {
	c := byte('x')
	return call(unix.SYS_IOCTL, 0, request, uintptr(unsafe.Pointer(&c)))
}

// public are the outcomes of probes that go another way where there is one: what is refused on it is reset, and a datagram is
// sent, whether it arrives or not (TestEgressPolicies).
var public = map[string]string{
	"network/address of the host": "ECONNREFUSED", "network/address of the host, version 6": "ECONNREFUSED", "network/metadata": "ECONNREFUSED",
	"network/datagrams": Done,
}

// networkProbes connect to whoever listens outside.
func networkProbes() []Probe {
	to := func(name, want string, address func(*Facts) string) Probe {
		return Probe{"network/" + name, want, bare, func(f *Facts) error { return dial("tcp", address(f)) }}
	}
	privileged, lacking := []Control{off(Rights)}, []Control{off(Rights, "done|ENODEV")}
	return []Probe{
		to("loopback of the host", "ECONNREFUSED", func(f *Facts) string { return f.TCP }),
		to("loopback of the host, version 6", "ECONNREFUSED", func(f *Facts) string { return f.TCP6 }),
		to("address of the host", "ENETUNREACH", func(f *Facts) string { return f.LAN }),
		to("address of the host, version 6", "ENETUNREACH", func(f *Facts) string { return f.LAN6 }),
		to("metadata", "ENETUNREACH", func(f *Facts) string { return f.Metadata }),
		{"network/datagrams", "ENETUNREACH", bare, func(f *Facts) error { return dial("udp", f.UDP) }},
		{"network/abstract socket", "ECONNREFUSED", bare, func(f *Facts) error { return dial("unix", "@"+f.Abstract) }},
		{"network/shared memory", "ENOENT", bare, func(f *Facts) error {
			_, err := unix.SysvShmGet(f.Shared, 0, 0)
			return err
		}},
		{"network/add an address", "EPERM", privileged, func(*Facts) error { return addAddress() }},
		{"network/port of the Runtime API", "EADDRINUSE", bare, func(*Facts) error { return take(9001) }},
		{"network/low port", "EACCES", privileged, func(*Facts) error { return take(81) }},
		// The device behind which its network is. Without one it is not there.
		{"network/raise the device", "EPERM", lacking, func(*Facts) error { return request(unix.SIOCSIFFLAGS, unix.IFF_UP) }},
		{"network/larger packets", "EPERM", lacking, func(*Facts) error { return request(unix.SIOCSIFMTU, 9000) }},
		{"network/longer queue", "EPERM", lacking, func(*Facts) error { return request(unix.SIOCSIFTXQLEN, 1000) }},
		{"network/address of the device", "EPERM", lacking, func(*Facts) error {
			return onSocket(func(fd int) error { return SetAddress(fd, Device, [4]byte{10, 0, 0, 1}) })
		}},
		{"network/another device", "ENOENT", []Control{off(Sandbox, "done|EACCES")}, func(*Facts) error {
			return closing(unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0))
		}},
		// The way that its first packet takes.
		{"network/take the way out", "EPERM", []Control{off(Rights, "done|ESRCH")}, func(*Facts) error { return way(unix.SIOCDELRT) }},
		{"network/another way out", "EPERM", privileged, func(*Facts) error { return way(unix.SIOCADDRT) }},
	}
}

// dial connects; addresses are literal, as there is nobody to ask for names.
func dial(network, address string) error {
	var to unix.Sockaddr
	family := unix.AF_INET
	host, port := address, 0
	if at := strings.LastIndex(address, ":"); at >= 0 {
		host = strings.Trim(address[:at], "[]")
		if _, err := fmt.Sscan(address[at+1:], &port); err != nil {
			return err
		}
	}
	ip, isV4 := parse(host)
	switch {
	case network == "unix":
		family, to = unix.AF_UNIX, &unix.SockaddrUnix{Name: address}
	case isV4:
		to = &unix.SockaddrInet4{Port: port, Addr: [4]byte(ip)}
	default:
		family, to = unix.AF_INET6, &unix.SockaddrInet6{Port: port, Addr: [16]byte(ip)}
	}
	kind := unix.SOCK_STREAM
	if network == "udp" {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Connect(fd, to)
}

// take binds a socket to a port, as one of several that share it.
func take(port int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, option := range []int{unix.SO_REUSEADDR, unix.SO_REUSEPORT} {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, 1); err != nil {
			return err
		}
	}
	return unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
}

// addAddress gives the environment's loopback interface another address.
func addAddress() error {
	return onSocket(func(fd int) error { return SetAddress(fd, "lo:1", [4]byte{10, 9, 8, 7}) })
}

// Device is the name of an environment's device.
const Device = "hearth0"

// request changes one thing of the device.
func request(what uintptr, value uint32) error {
	return onSocket(func(fd int) error {
		var r [40]byte // struct ifreq
		copy(r[:16], Device)
		binary.NativeEndian.PutUint32(r[16:], value)
		return call(unix.SYS_IOCTL, uintptr(fd), what, uintptr(unsafe.Pointer(&r[0])))
	})
}

// way changes where packets go that are for nobody here: through lo.
func way(what uintptr) error {
	return onSocket(func(fd int) error {
		name := [3]byte{'l', 'o'}
		var route [15]uintptr // struct rtentry: to, gateway, mask, flags, device
		route[1], route[3], route[5], route[7] = unix.AF_INET, unix.AF_INET, unix.AF_INET, unix.RTF_UP
		route[11] = uintptr(unsafe.Pointer(&name[0]))
		return call(unix.SYS_IOCTL, uintptr(fd), what, uintptr(unsafe.Pointer(&route[0])))
	})
}

func onSocket(f func(fd int) error) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return f(fd)
}

// SetAddress gives an interface of the calling thread's network an address, by any socket of it.
func SetAddress(fd int, name string, address [4]byte) error {
	var request [40]byte // struct ifreq with a sockaddr_in
	copy(request[:16], name)
	request[16] = unix.AF_INET
	copy(request[20:], address[:])
	if _, _, errno := syscall.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCSIFADDR, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return errno
	}
	return nil
}
