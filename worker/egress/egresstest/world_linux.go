// Package egresstest is a world for tests of networks: a network namespace with a host's addresses and routes, behind whose
// device a stack of the test answers for every address there is. So a test can tell what was refused from what nobody serves:
// whatever address leaves the host is answered, the metadata service's too.
package egresstest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// Addresses of the world.
const (
	Host     = "192.0.2.2" // the host's own
	Host6    = "2001:db8::2"
	Resolver = "192.0.2.53:53"
	Closed   = 9 // a port where nobody listens, whatever the address
	mtu      = 4096
)

// World is a network namespace and all that lies beyond it.
type World struct {
	// Loopback and Own are echoes of the host itself, on 127.0.0.1 and on [Host].
	Loopback, Own netip.AddrPort

	space *os.File
	tun   *os.File
	link  *channel.Endpoint
	wg    sync.WaitGroup
	life  context.Context

	mu    sync.Mutex
	names map[string][]netip.Addr
	seen  map[netip.AddrPort]int
	asked map[string]int
}

// New makes a world, which ends with the test.
func New(t testing.TB) *World {
	t.Helper()
	w := &World{names: map[string][]netip.Addr{}, seen: map[netip.AddrPort]int{}, asked: map[string]int{}}
	made := make(chan error, 1)
	var listeners []net.Listener
	go func() { // awaited below
		runtime.LockOSThread() // and never unlocked: the thread is in another namespace
		var err error
		listeners, err = w.make()
		made <- err
	}()
	if err := <-made; err != nil {
		t.Fatalf("make a world: %v", err)
	}
	var end context.CancelFunc
	w.life, end = context.WithCancel(context.Background())
	s, err := w.stack()
	if err != nil {
		t.Fatalf("make a world: %v", err)
	}
	w.wg.Go(w.in)
	w.wg.Go(w.out)
	for _, l := range listeners {
		w.wg.Go(func() { w.listen(l) })
	}
	t.Cleanup(func() {
		end()
		for _, l := range listeners {
			_ = l.Close()
		}
		_ = w.tun.Close()
		s.Close()
		w.wg.Wait()
		s.Wait()
		w.link.Close()
		_ = w.space.Close()
	})
	return w
}

// Enter moves the calling thread into the host's network. The thread must be locked.
func (w *World) Enter() error { return unix.Setns(int(w.space.Fd()), unix.CLONE_NEWNET) }

// Name has the world's name server answer for a name.
func (w *World) Name(name string, addresses ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.names[name] = nil
	for _, a := range addresses {
		w.names[name] = append(w.names[name], netip.MustParseAddr(a))
	}
}

// Seen is how often somebody came to an address and port.
func (w *World) Seen(to netip.AddrPort) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen[to]
}

// Asked is how often the name server was asked for a name.
func (w *World) Asked(name string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked[name]
}

func (w *World) note(to netip.AddrPort) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen[to]++
}

// make makes the namespace of the calling thread.
func (w *World) make() (listeners []net.Listener, err error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("make a network: %w", err)
	}
	if w.space, err = os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid())); err != nil {
		return nil, err
	}
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/default/addr_gen_mode", []byte("1"), 0); err != nil {
		return nil, err
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := device(fd); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	w.tun = os.NewFile(uintptr(fd), "world")
	for _, at := range []struct {
		address string
		to      *netip.AddrPort
	}{{"127.0.0.1:0", &w.Loopback}, {Host + ":0", &w.Own}} {
		l, err := net.Listen("tcp4", at.address)
		if err != nil {
			return nil, err
		}
		*at.to = l.Addr().(*net.TCPAddr).AddrPort()
		listeners = append(listeners, l)
	}
	return listeners, nil
}

// device sets up lo and the way out.
func device(fd int) error {
	four, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(four)
	six, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(six)
	for _, d := range []struct {
		name  string
		flags uint16
	}{{"lo", 0}, {"world0", unix.IFF_TUN | unix.IFF_NO_PI}} {
		r, err := unix.NewIfreq(d.name)
		if err != nil {
			return err
		}
		if d.flags != 0 {
			r.SetUint16(d.flags)
			if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, r); err != nil {
				return err
			}
			r.SetUint32(mtu)
			if err := unix.IoctlIfreq(four, unix.SIOCSIFMTU, r); err != nil {
				return err
			}
			own := netip.MustParseAddr(Host).As4()
			if err := r.SetInet4Addr(own[:]); err != nil {
				return err
			}
			if err := unix.IoctlIfreq(four, unix.SIOCSIFADDR, r); err != nil {
				return err
			}
		}
		r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING | unix.IFF_NOARP)
		if err := unix.IoctlIfreq(four, unix.SIOCSIFFLAGS, r); err != nil {
			return err
		}
	}
	name := append([]byte("world0"), 0)
	var route [15]uintptr // struct rtentry
	route[1], route[3], route[5], route[7] = unix.AF_INET, unix.AF_INET, unix.AF_INET, unix.RTF_UP
	route[11] = uintptr(unsafe.Pointer(&name[0]))
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(four), unix.SIOCADDRT, uintptr(unsafe.Pointer(&route[0])))
	runtime.KeepAlive(name)
	if errno != 0 {
		return errno
	}
	const index = 2
	own := netip.MustParseAddr(Host6).As16()
	address := binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(own[:], 64), index)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(six), unix.SIOCSIFADDR, uintptr(unsafe.Pointer(&address[0]))); errno != 0 {
		return errno
	}
	route6 := make([]byte, 80)
	binary.NativeEndian.PutUint32(route6[56:], 1024)
	binary.NativeEndian.PutUint32(route6[72:], unix.RTF_UP)
	binary.NativeEndian.PutUint32(route6[76:], index)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(six), unix.SIOCADDRT, uintptr(unsafe.Pointer(&route6[0]))); errno != 0 {
		return errno
	}
	return nil
}

// stack is everybody else.
func (w *World) stack() (*stack.Stack, error) {
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol},
	})
	w.link = channel.New(1024, mtu, "")
	s.SetTransportProtocolHandler(tcp.ProtocolNumber, tcp.NewForwarder(s, 0, 4096, w.connection).HandlePacket)
	s.SetTransportProtocolHandler(udp.ProtocolNumber, udp.NewForwarder(s, w.datagrams).HandlePacket)
	const nic = 1
	for _, err := range []tcpip.Error{s.CreateNIC(nic, w.link), s.SetPromiscuousMode(nic, true), s.SetSpoofing(nic, true)} {
		if err != nil {
			return nil, errors.New(err.String())
		}
	}
	s.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nic}, {Destination: header.IPv6EmptySubnet, NIC: nic}})
	return s, nil
}

func (w *World) in() {
	b := make([]byte, mtu)
	for {
		n, err := w.tun.Read(b)
		if err != nil {
			return
		}
		var protocol tcpip.NetworkProtocolNumber = ipv4.ProtocolNumber
		if b[0]>>4 == 6 {
			protocol = ipv6.ProtocolNumber
		}
		p := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(b[:n])})
		w.link.InjectInbound(protocol, p)
		p.DecRef()
	}
}

func (w *World) out() {
	for {
		p := w.link.ReadContext(w.life)
		if p == nil {
			return
		}
		v := p.ToView()
		_, _ = w.tun.Write(v.AsSlice())
		v.Release()
		p.DecRef()
	}
}

func target(id stack.TransportEndpointID) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(id.LocalAddress.AsSlice())
	return netip.AddrPortFrom(addr, id.LocalPort)
}

// connection is answered, whoever it is for.
func (w *World) connection(r *tcp.ForwarderRequest) {
	to := target(r.ID())
	w.note(to)
	if to.Port() == Closed {
		r.Complete(true)
		return
	}
	var wq waiter.Queue
	ep, err := r.CreateEndpoint(&wq)
	r.Complete(err != nil)
	if err == nil {
		w.echo(gonet.NewTCPConn(&wq, ep))
	}
}

func (w *World) echo(c net.Conn) {
	stop := context.AfterFunc(w.life, func() { _ = c.Close() })
	defer stop()
	defer c.Close()
	_, _ = io.Copy(c, c)
}

func (w *World) listen(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		w.note(l.Addr().(*net.TCPAddr).AddrPort())
		w.wg.Go(func() { w.echo(c) })
	}
}

// datagrams come back; questions are answered.
func (w *World) datagrams(r *udp.ForwarderRequest) bool {
	to := target(r.ID())
	w.note(to)
	if to.Port() == Closed {
		return false
	}
	var wq waiter.Queue
	ep, err := r.CreateEndpoint(&wq)
	if err != nil {
		return false
	}
	c := gonet.NewUDPConn(&wq, ep)
	go func() { // ends with the world's life
		stop := context.AfterFunc(w.life, func() { _ = c.Close() })
		defer stop()
		defer c.Close()
		b := make([]byte, 64<<10)
		for {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			reply := b[:n]
			if to.Port() == 53 {
				reply = w.answer(reply)
			}
			_, _ = c.Write(reply)
		}
	}()
	return true
}

func (w *World) answer(query []byte) []byte {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	name := strings.TrimSuffix(q.Name.String(), ".")
	w.mu.Lock()
	w.asked[name]++
	addresses, known := w.names[name]
	w.mu.Unlock()
	h = dnsmessage.Header{ID: h.ID, Response: true, RecursionDesired: true, RecursionAvailable: true}
	if !known {
		h.RCode = dnsmessage.RCodeNameError
	}
	b := dnsmessage.NewBuilder(nil, h)
	err = errors.Join(b.StartQuestions(), b.Question(q), b.StartAnswers())
	head := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 60}
	for _, a := range addresses {
		switch {
		case a.Is4() && q.Type == dnsmessage.TypeA:
			err = errors.Join(err, b.AResource(head, dnsmessage.AResource{A: a.As4()}))
		case a.Is6() && q.Type == dnsmessage.TypeAAAA:
			err = errors.Join(err, b.AAAAResource(head, dnsmessage.AAAAResource{AAAA: a.As16()}))
		}
	}
	out, last := b.Finish()
	if errors.Join(err, last) != nil {
		return nil
	}
	return out
}
