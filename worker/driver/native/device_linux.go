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

// The device behind which the network of an environment is (package egress), and the tap that tells of the first need of it. The device
// is made by the worker when the function sends its first packet, for it costs a tenth of a start, and most need none (tap_linux.go).
// It is made to last, for then its descriptor is closed in no time and the device goes with its namespace; otherwise whoever closes it
// waits 20 ms for the kernel (measured). Function processes cannot change it, which takes CAP_NET_ADMIN.
const (
	deviceName    = "hearth0"
	loopbackIndex = 1
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
	if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return fmt.Sprintf("functions reach no network, whatever their egress policy says: open a packet socket: %v; load the module af_packet", err)
	}
	_ = unix.Close(fd)
	return ""
}

// hasSix reports whether this kernel speaks version 6 of IP.
func hasSix() bool {
	_, err := os.Stat("/proc/sys/net/ipv6")
	return err == nil
}

func short(n uint16) []byte { return binary.NativeEndian.AppendUint16(nil, n) }
func long(n uint32) []byte  { return binary.NativeEndian.AppendUint32(nil, n) }

// connect raises lo, and sends everything there that is not for lo where that is tapped: all by one message to the kernel
// (rtnetlink(7)), which costs half of what an ioctl for each does, with the sockets that those take (measured). wrong is where the
// script fails. fd is the lowest free descriptor.
func connect(s *script, fd int, p plan, wrong *label) {
	message := change(unix.RTM_NEWLINK, 0, link(loopbackIndex, unix.IFF_UP, unix.IFF_UP))
	if p.device {
		message = slices.Concat(message, addressed(unix.AF_INET, egress.Own, loopbackIndex),
			routed(unix.RTM_NEWROUTE, unix.AF_INET, loopbackIndex, metricFour, egress.MTU))
		if p.six {
			message = append(message, addressed(unix.AF_INET6, egress.OwnSix, loopbackIndex)...)
		}
	}
	tellKernel(s, fd, "set up the network", message, wrong)
	if p.device && p.six {
		routeSix(s, fd)
	}
}

// disconnect takes the ways to the tap before a function runs that may reach nothing. fd is the lowest free descriptor.
func disconnect(s *script, fd int, six bool, wrong *label) {
	message := routed(unix.RTM_DELROUTE, unix.AF_INET, loopbackIndex, metricFour, 0)
	if six {
		message = append(message, routed(unix.RTM_DELROUTE, unix.AF_INET6, loopbackIndex, metricSix, 0)...)
	}
	tellKernel(s, fd, "take the network", message, wrong)
}

// acknowledged has the kernel acknowledge the last of the changes in a message. It says what it refuses of it before that, so that the
// first answer tells.
func acknowledged(message []byte) []byte {
	last := 0
	for at := 0; at < len(message); at += int(binary.NativeEndian.Uint32(message[at:])) {
		last = at
	}
	flags := message[last+6:]
	binary.NativeEndian.PutUint16(flags, binary.NativeEndian.Uint16(flags)|unix.NLM_F_ACK)
	return message
}

// An acknowledgement has two headers and a zero; an error has the whole message behind it.
const acknowledgement = 2*unix.NLMSG_HDRLEN + 4

func tellKernel(s *script, fd int, name string, message []byte, wrong *label) {
	message = acknowledged(message)
	s.do("open a socket to the kernel", unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	s.do(name, unix.SYS_SENDTO, fd, s.bytes(message), len(message), 0, nil, 0)
	s.do("hear: "+name, unix.SYS_RECVFROM, fd, s.bytes(make([]byte, acknowledgement)), acknowledgement, unix.MSG_TRUNC, nil, nil).unless(acknowledgement, wrong)
	s.do("close", unix.SYS_CLOSE, fd)
}

// bound sets how many packets the device holds and how large they are, and keeps the kernel from addresses of its own making there
// and from asking for routers: nothing is on a device that the function did not send. Whoever sets the last by /proc/sys spins while
// others hold the kernel's lock of networks (a tenth of what sandboxes cost when they are made side by side, measured).
func bound(index uint32, six bool) []byte {
	attributes := slices.Concat(attribute(unix.IFLA_TXQLEN, long(egress.Queue)), attribute(unix.IFLA_MTU, long(egress.MTU)))
	if six {
		const addressesOfItsOwn, none = 8, 1 // IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE
		attributes = append(attributes, attribute(unix.IFLA_AF_SPEC, attribute(unix.AF_INET6, attribute(addressesOfItsOwn, []byte{none})))...)
	}
	return change(unix.RTM_NEWLINK, 0, link(index, 0, 0), attributes)
}

// addressed gives an interface an address.
func addressed(family byte, own netip.Addr, index uint32) []byte {
	const local = 2 // IFA_LOCAL; 1 is IFA_ADDRESS, the same where nobody is at the other end

	// struct ifaddrmsg. It is good at once: there are no neighbours who might have it.
	address := slices.Concat([]byte{family, byte(own.BitLen()), 0, unix.RT_SCOPE_UNIVERSE}, long(index))
	flags := uint32(unix.IFA_F_NOPREFIXROUTE)
	if family == unix.AF_INET6 {
		flags |= unix.IFA_F_NODAD
	}
	return change(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, address, attribute(local, own.AsSlice()),
		attribute(unix.IFA_ADDRESS, own.AsSlice()), attribute(unix.IFA_FLAGS, long(flags)))
}

// routed makes or deletes the way of everything of a family through an interface. The one with the lowest metric is gone; mtu, if it is
// not 0, bounds the packets of it.
func routed(kind uint16, family byte, index, metric, mtu uint32) []byte {
	scope, protocol := byte(unix.RT_SCOPE_UNIVERSE), byte(unix.RTPROT_BOOT)
	if family == unix.AF_INET {
		scope = unix.RT_SCOPE_LINK
	}
	flags := uint16(unix.NLM_F_CREATE | unix.NLM_F_EXCL)
	if kind == unix.RTM_DELROUTE {
		flags, protocol = 0, unix.RTPROT_UNSPEC // of whoever made it
	}
	// struct rtmsg
	route := slices.Concat([]byte{family, 0, 0, 0, unix.RT_TABLE_MAIN, protocol, scope, unix.RTN_UNICAST}, long(0))
	attributes := slices.Concat(attribute(unix.RTA_OIF, long(index)), attribute(unix.RTA_PRIORITY, long(metric)))
	if mtu > 0 {
		attributes = append(attributes, attribute(unix.RTA_METRICS, attribute(unix.RTAX_MTU, long(mtu)))...)
	}
	return change(kind, flags, route, attributes)
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

// network gives a bound sandbox its network, or takes the tap that it does not need.
func (d *Driver) network(s *sandbox, n *driver.Network) (*egress.Attachment, error) {
	tap := s.tap
	if tap < 0 {
		return nil, nil
	}
	s.tap = -1
	if d.reaches(n) {
		return d.egress.Attach(tap, s.init.pid, n)
	}
	d.egress.Release(tap)
	return nil, nil
}

// newEgress is the service behind the devices.
func (d *Driver) newEgress(p plan) (*egress.Service, error) {
	uid, err := d.users.Take()
	if err != nil {
		return nil, err
	}
	return egress.New(egress.Config{
		UID: uid, Device: d.makeDevice, Confine: d.confine, Restrict: func() error {
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
