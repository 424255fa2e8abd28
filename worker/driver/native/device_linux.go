//go:build amd64 || arm64

package native

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/hearth-run/hearth/worker/driver"
	"github.com/hearth-run/hearth/worker/egress"
)

// The device behind which the network of an environment is (package egress). It is made with the sandbox, up and with its routes,
// and goes down with the letter of a function that may reach nothing: so it is not on the way of most starts (a twentieth of them,
// measured). Until it is attached nobody reads what is in it. It is made to last, for then its descriptor is closed in no time and
// the device goes with its namespace; otherwise whoever closes it waits 20 ms for the kernel (measured). Function processes cannot
// change it, which takes CAP_NET_ADMIN, and have no way to the node that makes others (/dev/net is root's).
const (
	deviceName    = "hearth0"
	loopbackIndex = 1
	deviceIndex   = 2 // the first after lo
	deviceNode    = "/dev/net/tun"
	deviceFlags   = unix.IFF_NOARP // else the kernel looks for neighbours, and says so by itself
)

// deviceAvailable tells what keeps this host from devices, or "".
func deviceAvailable() string {
	fd, err := unix.Open(deviceNode, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Sprintf("functions reach no network, whatever their egress policy says: %s: %v; load the module tun, or give the "+
			"container this device", deviceNode, err)
	}
	_ = unix.Close(fd)
	return ""
}

// hasSix reports whether this kernel speaks version 6 of IP.
func hasSix() bool {
	_, err := os.Stat("/proc/sys/net/ipv6")
	return err == nil
}

// disconnect takes the device down before a function runs. fd is the lowest free descriptor.
func disconnect(s *script, fd int) {
	s.do("open a socket", unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	s.do("take the device down", unix.SYS_IOCTL, fd, unix.SIOCSIFFLAGS, interfaceRequest(s, short(deviceFlags)))
	s.do("close", unix.SYS_CLOSE, fd)
}

// interfaceRequest is a struct ifreq with these bytes behind the name.
func interfaceRequest(s *script, value []byte) ptr {
	b := make([]byte, 40)
	copy(b, deviceName)
	copy(b[unix.IFNAMSIZ:], value)
	return s.bytes(b)
}

func short(n uint16) []byte { return binary.NativeEndian.AppendUint16(nil, n) }
func long(n uint32) []byte  { return binary.NativeEndian.AppendUint32(nil, n) }

// device makes it. fd is what it gets, the lowest free descriptor.
func device(s *script, fd int) {
	s.do("open the device", unix.SYS_OPENAT, unix.AT_FDCWD, deviceNode, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	s.do("make the device", unix.SYS_IOCTL, fd, unix.TUNSETIFF, interfaceRequest(s, short(unix.IFF_TUN|unix.IFF_NO_PI)))
	s.do("have the device be root's", unix.SYS_IOCTL, fd, unix.TUNSETOWNER, 0)
	s.do("have the device last", unix.SYS_IOCTL, fd, unix.TUNSETPERSIST, 1)
}

// connect raises lo and the device, and sends everything there that is not for lo: all by one message to the kernel (rtnetlink(7)),
// which costs half of what an ioctl for each does, with the sockets that those take (measured). The kernel says what it refuses of it
// before it acknowledges the last, so that the first answer tells; wrong is where the script fails then. fd is the lowest free
// descriptor.
func connect(s *script, fd int, p plan, wrong *label) {
	message := change(unix.RTM_NEWLINK, 0, link(loopbackIndex, unix.IFF_UP, unix.IFF_UP))
	if p.device {
		message = append(message, bound(p.six)...)
		// Raised after it is bound: the kernel gives what is up an address of its own making at once.
		message = append(message, change(unix.RTM_NEWLINK, 0, link(deviceIndex, unix.IFF_UP|deviceFlags, unix.IFF_UP|unix.IFF_MULTICAST|deviceFlags))...)
		message = append(message, addressed(unix.AF_INET, egress.Own)...)
		if p.six {
			message = append(message, addressed(unix.AF_INET6, egress.OwnSix)...)
		}
	}
	last := 0
	for at := 0; at < len(message); at += int(binary.NativeEndian.Uint32(message[at:])) {
		last = at
	}
	flags := message[last+6:]
	binary.NativeEndian.PutUint16(flags, binary.NativeEndian.Uint16(flags)|unix.NLM_F_ACK)
	s.do("open a socket to the kernel", unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	s.do("set up the network", unix.SYS_SENDTO, fd, s.bytes(message), len(message), 0, nil, 0)
	// An acknowledgement has two headers and a zero; an error has the whole message behind it.
	const done = 2*unix.NLMSG_HDRLEN + 4
	s.do("hear that the network is set up", unix.SYS_RECVFROM, fd, s.bytes(make([]byte, done)), done, unix.MSG_TRUNC, nil, nil).unless(done, wrong)
	s.do("close", unix.SYS_CLOSE, fd)
}

// bound sets how many packets the device holds and how large they are, and keeps the kernel from addresses of its own making there
// and from asking for routers: nothing is on a device that the function did not send. Whoever sets the last by /proc/sys spins while
// others hold the kernel's lock of networks (a tenth of what sandboxes cost when they are made side by side, measured).
func bound(six bool) []byte {
	attributes := slices.Concat(attribute(unix.IFLA_TXQLEN, long(egress.Queue)), attribute(unix.IFLA_MTU, long(egress.MTU)))
	if six {
		const addressesOfItsOwn, none = 8, 1 // IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE
		attributes = append(attributes, attribute(unix.IFLA_AF_SPEC, attribute(unix.AF_INET6, attribute(addressesOfItsOwn, []byte{none})))...)
	}
	return change(unix.RTM_NEWLINK, 0, link(deviceIndex, 0, 0), attributes)
}

// addressed gives the device an address, and sends everything of its family there.
func addressed(family byte, own netip.Addr) []byte {
	const local = 2 // IFA_LOCAL; 1 is IFA_ADDRESS, the same where nobody is at the other end

	// struct ifaddrmsg and, below, struct rtmsg
	address := slices.Concat([]byte{family, byte(own.BitLen()), 0, unix.RT_SCOPE_UNIVERSE}, long(deviceIndex))
	scope := byte(unix.RT_SCOPE_UNIVERSE)
	if family == unix.AF_INET {
		scope = unix.RT_SCOPE_LINK
	}
	route := slices.Concat([]byte{family, 0, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, scope, unix.RTN_UNICAST}, long(0))
	return slices.Concat(
		change(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, address, attribute(local, own.AsSlice()), attribute(unix.IFA_ADDRESS, own.AsSlice()),
			attribute(unix.IFA_FLAGS, long(unix.IFA_F_NOPREFIXROUTE))),
		change(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, route, attribute(unix.RTA_OIF, long(deviceIndex))))
}

// link is a struct ifinfomsg: of an interface, whose flags that change become these.
func link(index, flags, changed uint32) []byte {
	return slices.Concat(make([]byte, 4), long(index), long(flags), long(changed))
}

// change is one request of rtnetlink(7).
func change(kind uint16, flags uint16, parts ...[]byte) []byte {
	body := slices.Concat(parts...)
	return slices.Concat(long(uint32(unix.NLMSG_HDRLEN+len(body))), short(kind), short(unix.NLM_F_REQUEST|flags), make([]byte, 8), body)
}

// attribute is one of rtnetlink(7).
func attribute(kind uint16, value []byte) []byte {
	b := slices.Concat(short(uint16(unix.NLA_HDRLEN+len(value))), short(kind), value)
	for len(b)%unix.NLA_ALIGNTO != 0 {
		b = append(b, 0)
	}
	return b
}

// reaches reports whether a function gets a network.
func (d *Driver) reaches(n *driver.Network) bool {
	return d.noDevice == "" && n != nil && !n.Egress.None
}

// network gives a bound sandbox its network, or takes the device that it does not need.
func (d *Driver) network(s *sandbox, n *driver.Network) (*egress.Attachment, error) {
	fd := s.device
	if fd < 0 {
		return nil, nil
	}
	s.device = -1
	if d.reaches(n) {
		return d.egress.Attach(fd, s.init.pid, n)
	}
	if n == nil { // nobody said what it may reach: nothing, by a device that is down
		return nil, unix.Close(fd)
	}
	d.wg.Go(func() {
		// The kernel takes a while; a few at once are enough.
		d.removals <- struct{}{}
		defer func() { <-d.removals }()
		_ = unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 0)
		_ = unix.Close(fd)
	})
	return nil, nil
}

// newEgress is the service behind the devices.
func (d *Driver) newEgress(p plan) (*egress.Service, error) {
	uid, err := d.users.Take()
	if err != nil {
		return nil, err
	}
	return egress.New(egress.Config{
		UID: uid, Confine: d.confine, Restrict: func() error {
			if d.elsewhere != nil {
				if err := d.elsewhere(); err != nil {
					return err
				}
			}
			return restrictHelper(p)
		},
		Local: d.cfg.Local, Fabric: d.cfg.Fabric, Resolver: d.cfg.Resolver, Limits: d.cfg.Network, Log: d.cfg.Log,
	})
}

// helperLimits are what the helper may use: a core, and its connections' bytes with what the kernel holds of them.
var helperLimits = limits{memory: 768 * mb, cores: 1, weight: 1, pids: 256}

// confine puts the helper into a cgroup of its own.
func (d *Driver) confine(pid int) (free func(), err error) {
	g, err := d.cgroups.make(fmt.Sprintf("egress%d", d.number.Add(1)))
	if err != nil {
		return nil, err
	}
	free = func() {
		if err := g.remove(); err != nil {
			d.cfg.Log.Warn("the network of environments leaves something", "error", err)
		}
	}
	defer g.joined()
	if err := errors.Join(g.limit(helperLimits), g.enter(pid)); err != nil {
		free()
		return nil, err
	}
	return free, nil
}
