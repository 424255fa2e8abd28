package schema

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Egress is what a function may reach (DESIGN 8). The zero value is `public`: everything but what [Unreachable] and
// [PrivateRange] hold back. It is checked where a connection is made, on the address that is really used.
type Egress struct {
	None  bool         // nothing, and there is no resolver
	Rules []EgressRule // these alone; empty means public, unless None
}

// EgressRule is one of a list: addresses, or a host by its name. It is for TCP and UDP alike.
type EgressRule struct {
	Prefix netip.Prefix // masked; not valid for a name
	Host   string       // lower case, "" for addresses
	Port   uint16       // 0: any but 25
}

// MaxEgressRules is how many rules a function may have.
const MaxEgressRules = 64

// EgressPublic and EgressNone are the rules that stand alone.
const (
	EgressPublic = "public"
	EgressNone   = "none"
)

// ClosedPort is reached by nobody: mail that a function sends by itself is spam (SECURITY 3).
const ClosedPort = 25

// ParseEgress reads the rules of a function. Its errors name each rule that is none, as fields of Hearth.Egress.
func ParseEgress(rules []string) (Egress, []FieldError) {
	var e Egress
	var bad []FieldError
	for _, text := range rules {
		if text == EgressPublic || text == EgressNone {
			if len(rules) > 1 {
				bad = append(bad, FieldError{"Hearth.Egress", clip(text), "public or none alone, or CIDRs and HOST:PORT"})
			}
			e.None = text == EgressNone
			continue
		}
		rule, wrong := parseEgressRule(text)
		if wrong != "" {
			bad = append(bad, FieldError{"Hearth.Egress", clip(text), wrong})
			continue
		}
		e.Rules = append(e.Rules, rule)
	}
	return e, bad
}

// parseEgressRule reads a CIDR or HOST:PORT; else it says what is allowed.
func parseEgressRule(text string) (EgressRule, string) {
	const forms = "public or none alone, or CIDRs and HOST:PORT"
	if prefix, err := netip.ParsePrefix(text); err == nil {
		switch {
		case prefix.Addr().Is4In6():
			return EgressRule{}, "an address of version 4 written as one"
		case floorHolds(prefix):
			return EgressRule{}, "other addresses: no function reaches these, whatever its policy says"
		}
		return EgressRule{Prefix: prefix.Masked()}, ""
	}
	at := strings.LastIndexByte(text, ':')
	if at < 1 {
		return EgressRule{}, forms
	}
	number, err := strconv.ParseUint(text[at+1:], 10, 16)
	host := text[:at]
	if err != nil || number == 0 {
		return EgressRule{}, forms
	}
	if number == ClosedPort {
		return EgressRule{}, "another port: 25 is closed to every function"
	}
	port := uint16(number)
	if bracketed := strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"); bracketed != host {
		addr, err := netip.ParseAddr(bracketed)
		if err != nil || addr.Zone() != "" || !addr.Is6() || "["+bracketed+"]" != host {
			return EgressRule{}, forms
		}
		return addressRule(addr.Unmap(), port), ""
	}
	if addr, err := netip.ParseAddr(host); err == nil && addr.Is4() {
		return addressRule(addr, port), ""
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if !HostName(host) {
		return EgressRule{}, forms
	}
	return EgressRule{Host: host, Port: port}, ""
}

func addressRule(addr netip.Addr, port uint16) EgressRule {
	return EgressRule{Prefix: netip.PrefixFrom(addr, addr.BitLen()), Port: port}
}

// HostName reports whether a name can be one of DNS. Underscores are not of hosts, but of what people have.
func HostName(name string) bool {
	if len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || !nameBytes(label, "") {
			return false
		}
	}
	return true
}

// String is the rule as it is written.
func (r EgressRule) String() string {
	switch {
	case r.Host != "":
		return r.Host + ":" + strconv.Itoa(int(r.Port))
	case r.Port != 0:
		return netip.AddrPortFrom(r.Prefix.Addr(), r.Port).String()
	}
	return r.Prefix.String()
}

// Ranges that no policy opens (SECURITY 3), with what people call them. Metadata services of clouds lie in some that are private
// otherwise; they hand out credentials of the host.
var floor = []struct {
	prefix netip.Prefix
	what   string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "this network"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("168.63.129.16/32"), "a cloud's own services"},
	{netip.MustParsePrefix("100.100.100.200/32"), "a cloud's metadata"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local, and metadata of clouds"},
	{netip.MustParsePrefix("192.0.0.0/24"), "protocol assignments"},
	{netip.MustParsePrefix("198.18.0.0/15"), "the environment's own network"},
	{netip.MustParsePrefix("224.0.0.0/3"), "multicast, reserved and broadcast"},
	{netip.MustParsePrefix("::/96"), "unspecified, loopback, and version 4 in an old form"},
	{netip.MustParsePrefix("::ffff:0:0:0/96"), "version 4 as translators have it"},
	{netip.MustParsePrefix("fd00:ec2::254/128"), "a cloud's metadata"},
	{netip.MustParsePrefix("fd20:ce::254/128"), "a cloud's metadata"},
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), "NAT64 of one network"},
}

// private are the ranges that an explicit CIDR, or address and port, inside them opens.
var private = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("fc00::/7"),
}

// floorHolds reports whether a whole range is on the floor.
func floorHolds(p netip.Prefix) bool {
	return slices.ContainsFunc(floor, func(f struct {
		prefix netip.Prefix
		what   string
	}) bool {
		return f.prefix.Bits() <= p.Bits() && f.prefix.Contains(p.Addr())
	})
}

// Unreachable tells what an address is that no policy opens, or "". Addresses of version 6 that stand for one of version 4
// (mapped, NAT64, 6to4, Teredo, ISATAP) are what they stand for.
func Unreachable(addr netip.Addr) string {
	addr = addr.Unmap()
	if !addr.IsValid() || addr.Zone() != "" {
		return "no address"
	}
	for _, f := range floor {
		if f.prefix.Contains(addr) {
			return f.what
		}
	}
	for _, inner := range Inner(addr) {
		if what := Unreachable(inner); what != "" {
			return fmt.Sprintf("a form of %s, %s", inner, what)
		}
	}
	return ""
}

// PrivateRange is the range of private addresses that holds this one, or one that it stands for.
func PrivateRange(addr netip.Addr) (netip.Prefix, bool) {
	addr = addr.Unmap()
	for _, p := range private {
		if p.Contains(addr) {
			return p, true
		}
	}
	for _, inner := range Inner(addr) {
		if p, ok := PrivateRange(inner); ok {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

var (
	nat64  = netip.MustParsePrefix("64:ff9b::/96")
	sixTo4 = netip.MustParsePrefix("2002::/16")
	teredo = netip.MustParsePrefix("2001::/32")
)

// Inner are the addresses of version 4 that one of version 6 leads to, where a gateway or a tunnel does that: who refuses those
// refuses this one.
func Inner(addr netip.Addr) []netip.Addr {
	if !addr.Is6() {
		return nil
	}
	b := addr.As16()
	four := func(at int) netip.Addr { return netip.AddrFrom4([4]byte(b[at : at+4])) }
	var all []netip.Addr
	switch {
	case nat64.Contains(addr):
		all = append(all, four(12))
	case sixTo4.Contains(addr):
		all = append(all, four(2))
	case teredo.Contains(addr):
		client := four(12).As4()
		for i := range client {
			client[i] = ^client[i]
		}
		all = append(all, four(4), netip.AddrFrom4(client))
	}
	if b[8]&^2 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe { // ISATAP
		all = append(all, four(12))
	}
	return all
}

// Opens reports whether one of the rules is for an address and port, and, if the address is private, was written for private
// ones: 0.0.0.0/0 is not.
func (e Egress) Opens(to netip.AddrPort) bool {
	inside, isPrivate := PrivateRange(to.Addr())
	return slices.ContainsFunc(e.Rules, func(r EgressRule) bool {
		if r.Host != "" || !r.Prefix.Contains(to.Addr()) || cmp.Or(r.Port, to.Port()) != to.Port() {
			return false
		}
		return !isPrivate || inside.Bits() <= r.Prefix.Bits() && inside.Contains(r.Prefix.Addr())
	})
}
