package deploy

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/schema"
)

// anAddress is what an address of --allow-local has to be.
const anAddress = "IP:PORT or localhost:PORT, a loopback address or another one of this host's own, and not port 25"

// localAddresses reads the addresses of this host that functions may reach which list them; localhost is both of its. The
// exception is for what is the host's: everything else that no policy opens stays closed.
func localAddresses(allowed []string) ([]netip.AddrPort, []schema.FieldError) {
	var all []netip.AddrPort
	var bad []schema.FieldError
	for _, text := range allowed {
		host, number, err := net.SplitHostPort(text)
		port, wrong := strconv.ParseUint(number, 10, 16)
		addrs := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
		if host != "localhost" {
			addr, wrong := netip.ParseAddr(host)
			addrs = []netip.Addr{addr.Unmap()}
			if wrong != nil || !ownAddress(addr.Unmap()) {
				err = fmt.Errorf("%s is no address of this host", host)
			}
		}
		if err != nil || wrong != nil || port == 0 || port == schema.ClosedPort {
			bad = append(bad, schema.FieldError{Field: "AllowLocal", Got: text, Allowed: anAddress})
			continue
		}
		for _, addr := range addrs {
			all = append(all, netip.AddrPortFrom(addr, uint16(port)))
		}
	}
	return all, bad
}

// ownAddress reports whether this host has an address.
func ownAddress(addr netip.Addr) bool {
	if addr.IsLoopback() {
		return true
	}
	all, err := net.InterfaceAddrs()
	return err == nil && addr.Zone() == "" && slices.ContainsFunc(all, func(a net.Addr) bool {
		p, ok := a.(*net.IPNet)
		if !ok {
			return false
		}
		own, ok := netip.AddrFromSlice(p.IP)
		return ok && own.Unmap() == addr
	})
}

// Names of NATS servers are looked up anew after a while.
const (
	serversKept   = 30 * time.Second
	serversLookup = 2 * time.Second
)

// servers knows where the NATS servers of this process are, which no function reaches (SECURITY 3). Safe for concurrent use.
type servers struct {
	mu    sync.Mutex
	urls  []string
	conns []*nats.Conn
	found []netip.AddrPort
	until time.Time
}

// add has the servers of a connection known, those that it learns of later too.
func (s *servers) add(nc *nats.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = append(slices.DeleteFunc(s.conns, (*nats.Conn).IsClosed), nc)
	s.until = time.Time{}
}

// named has a server known by its URL.
func (s *servers) named(url string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.urls = append(s.urls, url)
}

// addresses are where they are now. What a name led to once counts on when it leads nowhere.
func (s *servers) addresses() []netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	urls := slices.Clone(s.urls)
	var now []netip.AddrPort
	for _, nc := range s.conns {
		if at, err := netip.ParseAddrPort(nc.ConnectedAddr()); err == nil {
			now = append(now, netip.AddrPortFrom(at.Addr().Unmap(), at.Port()))
		}
		urls = append(append(urls, nc.Servers()...), nc.DiscoveredServers()...)
	}
	if time.Now().After(s.until) {
		s.until = time.Now().Add(serversKept)
		for _, u := range urls {
			for _, at := range lookUp(u) {
				if !slices.Contains(s.found, at) {
					s.found = append(s.found, at)
				}
			}
		}
	}
	for _, at := range s.found {
		if !slices.Contains(now, at) {
			now = append(now, at)
		}
	}
	return now
}

// lookUp is the addresses of a server's URL.
func lookUp(server string) []netip.AddrPort {
	u, err := url.Parse(server)
	if err != nil || u.Hostname() == "" {
		return nil
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil {
		port = nats.DefaultPort
	}
	addr, err := netip.ParseAddr(u.Hostname())
	addrs := []netip.Addr{addr}
	if err != nil {
		ctx, cancel := context.WithTimeout(context.Background(), serversLookup)
		defer cancel()
		if addrs, err = net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname()); err != nil {
			return nil
		}
	}
	all := make([]netip.AddrPort, 0, len(addrs))
	for _, addr := range addrs {
		all = append(all, netip.AddrPortFrom(addr.Unmap(), uint16(port)))
	}
	return all
}
