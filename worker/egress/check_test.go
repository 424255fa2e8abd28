package egress

import (
	"net/netip"
	"testing"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker/driver"
)

func parse(t *testing.T, list ...string) schema.Egress {
	t.Helper()
	e, bad := schema.ParseEgress(list)
	if len(bad) > 0 {
		t.Fatal(bad)
	}
	return e
}

func ports(list ...string) (all []netip.AddrPort) {
	for _, text := range list {
		all = append(all, netip.MustParseAddrPort(text))
	}
	return all
}

// TestCheck is SECURITY 3 as a table: each policy, each kind of refusal.
func TestCheck(t *testing.T) {
	t.Parallel()
	// What the names led to: one to a public address, one into a private range, one to the metadata service.
	led := map[string]netip.Addr{"db.example.org": netip.MustParseAddr("198.51.100.7"), "in.example.org": netip.MustParseAddr("10.0.0.5"),
		"meta.example.org": netip.MustParseAddr("169.254.169.254")}
	named := func(host string, addr netip.Addr) bool { return led[host] == addr }
	local := ports("127.0.0.1:5432", "[::1]:5432", "192.0.2.2:80", "127.0.0.1:4222")
	fabric := ports("203.0.113.4:4222", "127.0.0.1:4222")
	for _, c := range []struct {
		rules []string
		to    string
		why   driver.Refusal
		goes  string // "" means to
	}{
		{nil, "198.51.100.7:443", "", ""},
		{nil, "[::ffff:198.51.100.7]:443", "", "198.51.100.7:443"},
		{nil, "198.51.100.7:25", driver.RefusedPort, ""},
		{nil, "169.254.169.254:80", driver.RefusedFloor, ""},
		{nil, "[::ffff:169.254.169.254]:80", driver.RefusedFloor, ""},
		{nil, "[64:ff9b::7f00:1]:80", driver.RefusedFloor, ""},
		{nil, "10.0.0.5:80", driver.RefusedPrivate, ""},
		{nil, "[64:ff9b::a00:5]:80", driver.RefusedPrivate, ""},
		{nil, "203.0.113.4:80", driver.RefusedFabric, ""},
		{nil, "[64:ff9b::203.0.113.4]:80", driver.RefusedFabric, ""},
		{nil, "[2002:cb00:7104::1]:4222", driver.RefusedFabric, ""},
		{[]string{"::/0"}, "[64:ff9b::203.0.113.4]:4222", driver.RefusedFabric, ""},
		{nil, "[64:ff9b::cb00:7105]:80", "", ""},
		{nil, "127.0.0.1:5432", driver.RefusedFloor, ""}, // it is allowed, and not on the list
		{nil, "198.18.0.1:5432", driver.RefusedFloor, ""},
		{[]string{"none"}, "198.51.100.7:443", driver.RefusedPolicy, ""},
		{[]string{"10.0.0.0/24"}, "10.0.0.5:80", "", ""},
		{[]string{"10.0.0.0/24"}, "10.0.0.5:25", driver.RefusedPort, ""},
		{[]string{"10.0.0.0/24"}, "10.0.1.5:80", driver.RefusedPrivate, ""},
		{[]string{"10.0.0.0/24"}, "198.51.100.7:80", driver.RefusedPolicy, ""},
		{[]string{"0.0.0.0/0"}, "10.0.0.5:80", driver.RefusedPrivate, ""},
		{[]string{"0.0.0.0/0"}, "198.51.100.7:80", "", ""},
		{[]string{"0.0.0.0/0"}, "169.254.169.254:80", driver.RefusedFloor, ""},
		{[]string{"203.0.113.0/24"}, "203.0.113.4:4222", driver.RefusedFabric, ""},
		{[]string{"203.0.113.4:4222"}, "203.0.113.4:4222", driver.RefusedFabric, ""},
		{[]string{"db.example.org:5432"}, "198.51.100.7:5432", "", ""},
		{[]string{"db.example.org:5432"}, "198.51.100.7:5433", driver.RefusedPolicy, ""},
		{[]string{"other.example.org:5432"}, "198.51.100.7:5432", driver.RefusedPolicy, ""},
		{[]string{"in.example.org:80"}, "10.0.0.5:80", driver.RefusedPrivate, ""},
		{[]string{"in.example.org:80", "10.0.0.5/32"}, "10.0.0.5:80", "", ""},
		{[]string{"meta.example.org:80"}, "169.254.169.254:80", driver.RefusedFloor, ""},
		// The exception: to who lists it, by its address or by that of the gateway.
		{[]string{"127.0.0.1:5432"}, "198.18.0.1:5432", "", "127.0.0.1:5432"},
		{[]string{"localhost:5432"}, "198.18.0.1:5432", "", "127.0.0.1:5432"},
		{[]string{"[::1]:5432"}, "198.18.0.1:5432", "", "[::1]:5432"},
		{[]string{"127.0.0.1:5433"}, "198.18.0.1:5433", driver.RefusedFloor, ""},
		{[]string{"127.0.0.1:5432"}, "198.18.0.1:5433", driver.RefusedFloor, ""},
		{[]string{"192.0.2.2:80"}, "192.0.2.2:80", "", ""},
		{[]string{"192.0.2.0/24"}, "192.0.2.2:80", "", ""}, // as any other: the kernel's routes refuse it
		{[]string{"192.0.2.2:80"}, "198.18.0.1:80", driver.RefusedFloor, ""},
		{[]string{"127.0.0.1:4222"}, "198.18.0.1:4222", driver.RefusedFabric, ""},
		{[]string{"169.254.169.254:80"}, "169.254.169.254:80", driver.RefusedFloor, ""},
	} {
		r := rules{egress: parse(t, c.rules...), local: local, fabric: func() []netip.AddrPort { return fabric }}
		got := r.check(netip.MustParseAddrPort(c.to), named)
		goes := c.to
		if c.goes != "" {
			goes = c.goes
		}
		if got.why != c.why || c.why == "" && got.to.String() != goes {
			t.Errorf("%v, %s: %+v, want %q", c.rules, c.to, got, c.why)
		}
		// Only by exception is anything taken for the host's own.
		if own := got.to.IsValid() && (got.to.Addr().IsLoopback() || len(c.rules) == 1 && c.rules[0] == "192.0.2.2:80"); got.own != own {
			t.Errorf("%v, %s: %+v", c.rules, c.to, got)
		}
	}
}

// TestNamesOfPolicies: which names may leave the host, and which addresses may be an answer.
func TestNamesOfPolicies(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rules []string
		asks  bool // for db.example.org
		gives string
	}{
		{nil, true, "198.51.100.7"},
		{[]string{"none"}, false, "198.51.100.7"},
		{[]string{"db.example.org:1"}, true, "198.51.100.7"},
		{[]string{"DB.example.org:1"}, true, "198.51.100.7"},
		{[]string{"a.db.example.org:1"}, false, "198.51.100.7"},
		{[]string{"10.0.0.0/8"}, false, "198.51.100.7 10.0.0.5"},
		{[]string{"0.0.0.0/0"}, true, "198.51.100.7"},
		{[]string{"10.0.0.5:5432"}, false, "198.51.100.7 10.0.0.5"},
	} {
		r := rules{egress: parse(t, c.rules...)}
		if got := r.asks("db.example.org"); got != c.asks {
			t.Errorf("%v may ask: %v", c.rules, got)
		}
		var gives string
		for _, text := range []string{"198.51.100.7", "10.0.0.5", "169.254.169.254", "::ffff:127.0.0.1", "64:ff9b::a00:5"} {
			if r.gives(netip.MustParseAddr(text)) {
				gives += " " + text
			}
		}
		if gives != " "+c.gives {
			t.Errorf("%v is given%s, want %s", c.rules, gives, c.gives)
		}
	}
}
