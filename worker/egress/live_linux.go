package egress

import (
	"net"
	"net/netip"
)

// live is something that is connected, and what ends it.
type live struct {
	to    netip.AddrPort
	abort func()
}

// connected notes it until the function that it returns is called.
func (p *place) connected(to net.Addr, abort func()) (over func()) {
	l := &live{abort: abort}
	switch a := to.(type) {
	case *net.TCPAddr:
		l.to = a.AddrPort()
	case *net.UDPAddr:
		l.to = a.AddrPort()
	}
	l.to = netip.AddrPortFrom(l.to.Addr().Unmap(), l.to.Port())
	p.mu.Lock()
	p.live[l] = struct{}{}
	p.mu.Unlock()
	// It may have been dialed before the fabric came there, and noted after who is there was looked for.
	if p.rules.taken(l.to) {
		abort()
	}
	return func() {
		p.mu.Lock()
		delete(p.live, l)
		p.mu.Unlock()
	}
}

// cut ends what is connected to such an address.
func (p *place) cut(bad func(netip.AddrPort) bool) {
	p.mu.Lock()
	var ends []func()
	for l := range p.live {
		if bad(l.to) {
			ends = append(ends, l.abort)
		}
	}
	p.mu.Unlock()
	for _, end := range ends {
		end()
	}
}
