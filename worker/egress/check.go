package egress

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker/driver"
)

// Addresses inside every environment: in a range that no policy opens, so that they hide nobody.
var (
	Gateway = netip.AddrFrom4([4]byte{198, 18, 0, 1}) // the resolver, and the host where it is allowed
	Own     = netip.AddrFrom4([4]byte{198, 18, 0, 2})
	OwnSix  = netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x68, 2: 0x65, 3: 0x61, 4: 0x72, 5: 0x74, 6: 0x68, 15: 2})
)

// HostName is how a function calls the host whose loopback addresses it may reach (--allow-local): its own 127.0.0.1 is itself.
const HostName = "host.hearth.internal"

// rules decide what one environment may reach. They are pure; what names led to is told by whoever asks.
type rules struct {
	egress schema.Egress
	local  []netip.AddrPort        // of the host's own, opened by --allow-local
	fabric func() []netip.AddrPort // now the NATS servers', and what else is the fabric's; nil: nowhere
}

// ofFabric reports whether an address is one of the fabric's, or leads there through a gateway (NAT64 and the like).
func (r *rules) ofFabric(addr netip.Addr) bool {
	all := append(schema.Inner(addr), addr.Unmap())
	return slices.ContainsFunc(r.at(), func(f netip.AddrPort) bool { return slices.Contains(all, f.Addr().Unmap()) })
}

// taken reports whether the fabric is where something is connected. Of the host's own addresses that --allow-local opens other ports
// are not its.
func (r *rules) taken(to netip.AddrPort) bool {
	if slices.Contains(r.local, to) {
		return slices.Contains(r.at(), to)
	}
	return r.ofFabric(to.Addr())
}

func (r *rules) at() []netip.AddrPort {
	if r.fabric == nil {
		return nil
	}
	return r.fabric()
}

// verdict is what a check says.
type verdict struct {
	to   netip.AddrPort // where to connect; valid if why is ""
	own  bool           // it is one of the host's own, by exception
	why  driver.Refusal
	what string
}

// check decides about an address and port. named tells whether a host's name led this environment there.
func (r *rules) check(to netip.AddrPort, named func(host string, addr netip.Addr) bool) verdict {
	addr := to.Addr().Unmap()
	to = netip.AddrPortFrom(addr, to.Port())
	no := func(why driver.Refusal, what string) verdict { return verdict{why: why, what: what} }
	if to.Port() == schema.ClosedPort {
		return no(driver.RefusedPort, "")
	}
	if own := r.exception(to); own.IsValid() {
		if slices.Contains(r.at(), own) {
			return no(driver.RefusedFabric, "")
		}
		return verdict{to: own, own: true}
	}
	if what := schema.Unreachable(addr); what != "" {
		return no(driver.RefusedFloor, what)
	}
	if r.ofFabric(addr) {
		return no(driver.RefusedFabric, "")
	}
	_, private := schema.PrivateRange(addr)
	switch {
	case r.egress.None:
		return no(driver.RefusedPolicy, "")
	case r.egress.Opens(to):
		return verdict{to: to}
	case private:
		return no(driver.RefusedPrivate, "")
	case len(r.egress.Rules) == 0:
		return verdict{to: to}
	}
	for _, rule := range r.egress.Rules {
		if rule.Host != "" && rule.Port == to.Port() && named(rule.Host, addr) {
			return verdict{to: to}
		}
	}
	return no(driver.RefusedPolicy, "")
}

// exception is where a connection to one of the host's own addresses goes: one that --allow-local names and the function lists.
func (r *rules) exception(to netip.AddrPort) netip.AddrPort {
	for _, own := range r.local {
		if own.Port() == to.Port() && (own.Addr() == to.Addr() || to.Addr() == Gateway && own.Addr().IsLoopback()) && r.lists(own) {
			return own
		}
	}
	return netip.AddrPort{}
}

// lists reports whether a rule names exactly this address and port.
func (r *rules) lists(own netip.AddrPort) bool {
	return slices.ContainsFunc(r.egress.Rules, func(rule schema.EgressRule) bool {
		if rule.Port != own.Port() {
			return false
		}
		return rule.Host == "localhost" && own.Addr().IsLoopback() || rule.Host == "" && rule.Prefix.IsSingleIP() && rule.Prefix.Addr() == own.Addr()
	})
}

// asks reports whether a name may be asked for: what is asked leaves the host too, so that a list is one of names as well.
func (r *rules) asks(name string) bool {
	switch {
	case r.egress.None:
		return false
	case len(r.egress.Rules) == 0:
		return true
	}
	return slices.ContainsFunc(r.egress.Rules, func(rule schema.EgressRule) bool {
		// Who reaches every address reaches whoever listens to names.
		return rule.Host == name || rule.Host == "" && rule.Prefix.Bits() == 0
	})
}

// gives reports whether an address may be an answer: whether there is a port for which a check could let it pass.
func (r *rules) gives(addr netip.Addr) bool {
	addr = addr.Unmap()
	if slices.ContainsFunc(r.local, func(own netip.AddrPort) bool { return own.Addr() == addr && !addr.IsLoopback() && r.lists(own) }) {
		return true
	}
	if schema.Unreachable(addr) != "" || r.ofFabric(addr) {
		return false
	}
	if _, private := schema.PrivateRange(addr); !private {
		return true
	}
	return slices.ContainsFunc(r.egress.Rules, func(rule schema.EgressRule) bool {
		return rule.Host == "" && r.egress.Opens(netip.AddrPortFrom(addr, max(rule.Port, 1)))
	})
}

// host is the answer for [HostName], and whether that is the name.
func (r *rules) host(name string) (netip.Addr, bool) {
	if !strings.EqualFold(name, HostName) {
		return netip.Addr{}, false
	}
	if slices.ContainsFunc(r.local, func(own netip.AddrPort) bool { return own.Addr().IsLoopback() && r.lists(own) }) {
		return Gateway, true
	}
	return netip.Addr{}, true
}
