package egress

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker/driver"
)

const (
	dialTime = 30 * time.Second // for a connection to stand

	// Bytes of a flow's buffers in the kernel, which doubles them for its own needs.
	kernelFlow  = 256 << 10 // the most: 25 MB a second over 10 ms
	kernelPlace = 2 << 20   // of all of an environment, before they become smaller
	kernelLeast = 16 << 10

	kernelFunction = 4 << 20 // the same of all of a function
	kernelAll      = 8 << 20 // and of all: four times that, with those that were there before, is 173 MB of the helper's 192
)

var (
	refusedRate  = driver.Refused{Why: driver.RefusedRate}
	refusedFlows = driver.Refused{Why: driver.RefusedFlows}
)

// refusedError is a refusal on its way out of a dialer.
type refusedError struct{ verdict }

func (e *refusedError) Error() string { return "refused: " + string(e.why) }

var buffers = sync.Pool{New: func() any { return new([copyBuffer]byte) }}

// target is where a flow of the environment wants to go.
func target(id stack.TransportEndpointID) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(id.LocalAddress.AsSlice())
	return netip.AddrPortFrom(addr, id.LocalPort)
}

// take takes room for a flow, which leave gives back; or it says why there is none.
func (p *place) take() (driver.Refused, bool) {
	if !p.openings.Allow() {
		return refusedRate, false
	}
	if int(p.open.Add(1)) <= p.helper.limits.Place && p.flows.take() {
		return driver.Refused{}, true
	}
	p.open.Add(-1)
	return refusedFlows, false
}

func (p *place) leave() {
	p.flows.give(1)
	p.open.Add(-1)
}

func (p *place) named(host string, addr netip.Addr) bool { return p.names.gave(host, addr, time.Now()) }

// dial connects, or says why not: a refusal, or what the network said. The check that counts is that of the address which the
// kernel is about to connect to.
func (p *place) dial(network string, to netip.AddrPort) (net.Conn, error) {
	v := p.rules.check(to, p.named)
	if v.why != "" {
		return nil, &refusedError{v}
	}
	d := net.Dialer{Timeout: dialTime, Control: func(_, address string, raw syscall.RawConn) error {
		if err := p.bound(raw); err != nil {
			return err
		}
		used, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		v := p.rules.check(used, p.named)
		switch {
		case v.why != "":
			return &refusedError{v}
		case v.own:
			return nil
		}
		for _, addr := range append(schema.Inner(used.Addr()), used.Addr().Unmap()) {
			if local, err := isLocal(addr); local {
				return errors.Join(&refusedError{verdict{why: driver.RefusedLocal}}, err)
			}
		}
		return nil
	}}
	conn, err := d.DialContext(p.life, network, v.to.String())
	if err != nil {
		return nil, err
	}
	// Only to itself does a host speak from the address that it speaks to.
	if here, there := ip(conn.LocalAddr()), ip(conn.RemoteAddr()); !v.own && (here == there || !there.IsValid()) {
		_ = conn.Close()
		return nil, &refusedError{verdict{why: driver.RefusedLocal}}
	}
	return conn, nil
}

// bound bounds what the kernel holds of a flow, each way. By itself it lets a fast connection grow to megabytes (4 to be sent and
// 32 received, by default), which stay when one end reads no more: 50 connections of one function then take what the cgroup of
// all has for sockets (measured). The more flows an environment, its function and all have, the smaller they are, so that the last
// one still finds room in that, whoever has the others.
func (p *place) bound(raw syscall.RawConn) error {
	theirs, all := p.flows.taken()
	size := kernelFlow
	for _, part := range []struct{ of, flows int }{{kernelPlace, int(p.open.Load())}, {kernelFunction, theirs}, {kernelAll, all}} {
		size = min(size, part.of/max(1, part.flows))
	}
	size = max(kernelLeast, size)
	var failed error
	err := raw.Control(func(fd uintptr) {
		failed = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, size),
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, size))
	})
	return errors.Join(err, failed)
}

func ip(a net.Addr) netip.Addr {
	switch a := a.(type) {
	case *net.TCPAddr:
		return a.AddrPort().Addr().Unmap()
	case *net.UDPAddr:
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// failed counts why a flow did not come about.
func (p *place) failed(to netip.AddrPort, err error) {
	var refused *refusedError
	if errors.As(err, &refused) {
		p.tally.refuse(driver.Refused{To: to, Why: refused.why, What: refused.what})
		return
	}
	p.tally.failed.Add(1)
}

// connection is a TCP connection that the environment opens. Until it is allowed and stands, the environment waits for its
// SYN to be answered; a refusal is a reset.
func (p *place) connection(r *tcp.ForwarderRequest) {
	if !p.enter() {
		r.Complete(true)
		return
	}
	defer p.wg.Done()
	to := target(r.ID())
	why, ok := p.take()
	if !ok {
		why.To = to
		p.tally.refuse(why)
		r.Complete(true)
		return
	}
	defer p.leave()
	outer, err := p.dial("tcp", to)
	if err != nil {
		p.failed(to, err)
		r.Complete(true)
		return
	}
	defer outer.Close()
	var wq waiter.Queue
	ep, failure := r.CreateEndpoint(&wq)
	r.Complete(failure != nil)
	if failure != nil {
		p.tally.failed.Add(1)
		return
	}
	p.tally.connections.Add(1)
	p.splice(gonet.NewTCPConn(&wq, ep), ep, outer.(*net.TCPConn))
}

// splice copies both ways until both are over. An end on one side is one on the other; what breaks off is broken off.
func (p *place) splice(inner *gonet.TCPConn, ep tcpip.Endpoint, outer *net.TCPConn) {
	abort := sync.OnceFunc(func() {
		_ = outer.SetLinger(0)
		_ = outer.Close()
		ep.Abort()
		_ = inner.SetDeadline(time.Unix(1, 0))
	})
	stop := context.AfterFunc(p.life, abort)
	defer stop()
	defer p.connected(outer.RemoteAddr(), abort)()
	done := make(chan struct{})
	go func() { // awaited below
		defer close(done)
		if err := p.copy(inner, outer, &p.tally.received); err != nil {
			abort()
			return
		}
		_ = inner.CloseWrite()
	}()
	if err := p.copy(outer, inner, &p.tally.sent); err != nil {
		abort()
	} else {
		_ = outer.CloseWrite()
	}
	<-done
	p.linger(inner, ep, outer)
}

// copy copies until the end, within what an environment may send and receive a second.
func (p *place) copy(to io.Writer, from io.Reader, count *atomic.Int64) error {
	b := buffers.Get().(*[copyBuffer]byte)
	defer buffers.Put(b)
	for {
		n, err := from.Read(b[:])
		if n > 0 {
			if wait := p.bytes.WaitN(p.life, n); wait != nil {
				return wait
			}
			if _, err := to.Write(b[:n]); err != nil {
				return err
			}
			count.Add(int64(n))
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// datagrams is the first datagram of a flow from one port of the environment to one outside. A refusal makes the stack answer
// that the port is unreachable.
func (p *place) datagrams(r *udp.ForwarderRequest) bool {
	to := target(r.ID())
	if to.Addr() == Gateway && to.Port() == 53 {
		return false // the resolver's own end is gone
	}
	why, ok := p.take()
	if !ok {
		why.To = to
		p.tally.refuse(why)
		return false
	}
	outer, err := p.dial("udp", to)
	if err != nil {
		p.leave()
		p.failed(to, err)
		return false
	}
	var wq waiter.Queue
	ep, failure := r.CreateEndpoint(&wq)
	if failure != nil {
		_ = outer.Close()
		p.leave()
		p.tally.failed.Add(1)
		return false
	}
	inner := gonet.NewUDPConn(&wq, ep)
	started := p.goes(func() {
		defer p.leave()
		p.tally.flows.Add(1)
		p.exchange(inner, outer.(*net.UDPConn))
	})
	if !started {
		_ = inner.Close()
		_ = outer.Close()
		p.leave()
	}
	return true
}

// exchange carries datagrams both ways until none has come for a while.
func (p *place) exchange(inner *gonet.UDPConn, outer *net.UDPConn) {
	end := sync.OnceFunc(func() {
		_ = inner.Close()
		_ = outer.Close()
	})
	defer end()
	stop := context.AfterFunc(p.life, end)
	defer stop()
	defer p.connected(outer.RemoteAddr(), end)()
	var last atomic.Int64 // when one came, in nanoseconds
	last.Store(time.Now().UnixNano())
	done := make(chan struct{})
	go func() { // awaited below
		defer close(done)
		defer end()
		p.carry(inner, outer, &p.tally.received, &last)
	}()
	p.carry(outer, inner, &p.tally.sent, &last)
	end()
	<-done
}

// carry carries datagrams one way. Whichever way the last one went, it keeps both.
func (p *place) carry(to io.Writer, from net.Conn, count *atomic.Int64, last *atomic.Int64) {
	b := buffers.Get().(*[copyBuffer]byte)
	defer buffers.Put(b)
	for {
		until := time.Unix(0, last.Load()).Add(p.helper.limits.Idle)
		_ = from.SetReadDeadline(until)
		n, err := from.Read(b[:])
		if err != nil {
			var late net.Error
			if errors.As(err, &late) && late.Timeout() && time.Unix(0, last.Load()).Add(p.helper.limits.Idle).After(time.Now()) {
				continue // the other way is in use
			}
			return
		}
		last.Store(time.Now().UnixNano())
		if p.bytes.WaitN(p.life, n) != nil {
			return
		}
		if _, err := to.Write(b[:n]); err != nil && !errors.Is(err, syscall.EMSGSIZE) {
			return
		}
		count.Add(int64(n))
	}
}
