package egress

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
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
)

// MTU is the device's. Larger packets are cheaper, and 64 of them are what the kernel may hold of one environment.
const (
	MTU   = 4096
	Queue = 64
)

// Bounds of one environment.
const (
	maxOutbound = 128 // packets on their way to the device

	packetRate  = 20_000 // a second
	packetBurst = 4_000
	byteRate    = 128 << 20
	byteBurst   = 8 << 20
	newRate     = 100 // connections
	newBurst    = 500
	queryRate   = 50
	queryBurst  = 200
	maxQueries  = 16 // at once

	allQueries = 256 // at once, of all environments
)

const nic = 1

// abandonTime is between looks at what still lives of a place that ends.
const abandonTime = 20 * time.Millisecond

// place is the network of one environment, in the helper.
type place struct {
	id     uint64
	helper *helper
	tun    *os.File
	rules  rules
	names  names
	dns    *resolver
	stack  *stack.Stack
	link   *channel.Endpoint
	tally  tally
	owed   atomic.Bool // a report that is not told yet, new or not
	mark   atomic.Bool // and that is to be named so

	packets, bytes, openings, queries *rate.Limiter
	asking                            chan struct{} // one for each query that waits for its answer
	open                              atomic.Int64  // connections and flows

	flows, asks *share // of connections and flows, and of queries, of all

	life context.Context
	end  context.CancelFunc

	mu     sync.Mutex
	closed bool
	live   map[*live]struct{} // what is connected
	wg     sync.WaitGroup     // all goroutines; grows only while not closed
}

// newPlace makes the network of an environment behind its device, which is its own from now on.
func newPlace(h *helper, id uint64, who holder, tun *os.File, r rules) (*place, error) {
	p := &place{id: id, helper: h, tun: tun, rules: r, asking: make(chan struct{}, maxQueries), live: map[*live]struct{}{},
		flows: h.flows.share(who), asks: h.asks.share(who), names: names{room: h.names.share(who)},
		packets: rate.NewLimiter(packetRate, packetBurst), bytes: rate.NewLimiter(byteRate, byteBurst),
		openings: rate.NewLimiter(newRate, newBurst), queries: rate.NewLimiter(queryRate, queryBurst)}
	p.tally.soon = h.hurry
	p.life, p.end = context.WithCancel(context.Background())
	p.dns = &resolver{rules: &p.rules, names: &p.names, lookup: h.lookup, now: time.Now, refused: p.tally.refuse}
	p.link = channel.New(maxOutbound, MTU, "")
	p.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol},
	})
	if err := p.configure(); err != nil {
		p.stack.Destroy()
		return nil, err
	}
	questions, err := gonet.DialUDP(p.stack, &tcpip.FullAddress{NIC: nic, Addr: address(Gateway), Port: 53}, nil, ipv4.ProtocolNumber)
	if err != nil {
		p.stack.Destroy()
		return nil, fmt.Errorf("listen for questions: %w", err)
	}
	p.goes(func() { p.resolve(questions) })
	p.goes(p.in)
	p.goes(p.out)
	return p, nil
}

func address(a netip.Addr) tcpip.Address { return tcpip.AddrFromSlice(a.AsSlice()) }

// configure makes the stack one that answers for every address, with bounded windows.
func (p *place) configure() error {
	s := p.stack
	s.SetTransportProtocolHandler(tcp.ProtocolNumber, tcp.NewForwarder(s, window, p.helper.limits.Place, p.connection).HandlePacket)
	s.SetTransportProtocolHandler(udp.ProtocolNumber, udp.NewForwarder(s, p.datagrams).HandlePacket)
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: 4096, Default: window, Max: window}
	send := tcpip.TCPSendBufferSizeRangeOption{Min: 4096, Default: window, Max: window}
	moderate, sack, wait := tcpip.TCPModerateReceiveBufferOption(false), tcpip.TCPSACKEnabled(true), tcpip.TCPTimeWaitTimeoutOption(time.Second)
	for _, option := range []tcpip.SettableTransportProtocolOption{&receive, &send, &moderate, &sack, &wait} {
		if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, option); err != nil {
			return errors.New("set up TCP: " + err.String())
		}
	}
	if err := s.CreateNIC(nic, p.link); err != nil {
		return errors.New("make the inner device: " + err.String())
	}
	resolverAddress := tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: address(Gateway).WithPrefix()}
	for _, err := range []tcpip.Error{
		s.AddProtocolAddress(nic, resolverAddress, stack.AddressProperties{}), s.SetPromiscuousMode(nic, true), s.SetSpoofing(nic, true),
	} {
		if err != nil {
			return errors.New("set up the inner device: " + err.String())
		}
	}
	s.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nic}, {Destination: header.IPv6EmptySubnet, NIC: nic}})
	return nil
}

// enter adds a goroutine that close waits for; false when it is too late.
func (p *place) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.wg.Add(1)
	return true
}

// goes runs f as one of the goroutines of the place, if it is still there.
func (p *place) goes(f func()) bool {
	if !p.enter() {
		return false
	}
	go func() { // awaited by close
		defer p.wg.Done()
		f()
	}()
	return true
}

// bind has what it has and takes of all be a sub-tenant's.
func (p *place) bind(tenant string) {
	for _, share := range []*share{p.flows, p.asks, p.names.room} {
		share.bind(tenant)
	}
}

// close ends everything of the environment and waits for it.
func (p *place) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.end()
	_ = p.tun.Close()
	p.stack.Close()
	p.abandon()
	p.stack.Wait()
	p.link.Close()
	p.names.forget()
}

// abandon waits for the goroutines of the place. A connection to outside that stands at the very moment of the end begins its
// handshake with the environment after the stack has closed what it knew: nobody would ever answer it, and the stack tries for
// minutes. A function that ends when its dials succeed, which it can arrange, must not have the helper end with it.
func (p *place) abandon() {
	done := make(chan struct{})
	go func() { // awaited below
		defer close(done)
		p.wg.Wait()
	}()
	again := time.NewTicker(abandonTime)
	defer again.Stop()
	for {
		select {
		case <-done:
			return
		case <-again.C:
			for _, e := range p.stack.RegisteredEndpoints() {
				e.Abort()
			}
		}
	}
}

// in hands the stack what the environment sends. When it is faster than it may be, the device's queue fills, and the kernel drops.
func (p *place) in() {
	b := make([]byte, MTU)
	for {
		n, err := p.tun.Read(b)
		if err != nil {
			return // the device is gone, or we are
		}
		var protocol tcpip.NetworkProtocolNumber
		switch wholesome(b[:n]) {
		case 4:
			protocol = ipv4.ProtocolNumber
		case 6:
			protocol = ipv6.ProtocolNumber
		}
		if p.packets.Wait(p.life) != nil {
			return
		}
		if protocol == 0 {
			continue
		}
		packet := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(b[:n])})
		p.link.InjectInbound(protocol, packet)
		packet.DecRef()
	}
}

// out hands the environment what the stack sends. A device whose environment reads nothing takes it all the same: the kernel
// drops what its sockets have no room for.
func (p *place) out() {
	for {
		packet := p.link.ReadContext(p.life)
		if packet == nil {
			return
		}
		view := packet.ToView()
		_, _ = p.tun.Write(view.AsSlice()) // what is lost is sent again
		view.Release()
		packet.DecRef()
	}
}

// resolve answers questions until the place is closed.
func (p *place) resolve(questions *gonet.UDPConn) {
	stop := context.AfterFunc(p.life, func() { _ = questions.Close() })
	defer stop()
	b := make([]byte, 1500)
	for {
		n, from, err := questions.ReadFrom(b)
		if err != nil {
			return
		}
		p.tally.queries.Add(1)
		if !p.queries.Allow() {
			p.tally.refuse(refusedRate)
			continue
		}
		select {
		case p.asking <- struct{}{}:
		default:
			p.tally.refuse(refusedRate)
			continue
		}
		if !p.asks.take() {
			<-p.asking
			p.tally.refuse(refusedRate)
			continue
		}
		over := func() {
			p.asks.give(1)
			<-p.asking
		}
		query := append([]byte(nil), b[:n]...)
		started := p.goes(func() {
			defer over()
			if reply := p.dns.answer(p.life, query); reply != nil {
				_, _ = questions.WriteTo(reply, from) // who hears nothing asks again
			}
		})
		if !started {
			over()
		}
	}
}
