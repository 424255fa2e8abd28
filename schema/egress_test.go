package schema_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/hearth-run/hearth/schema"
)

// TestUnreachable: what no policy opens, in every form that an address has, and its neighbours, which some policy opens.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"0.0.0.0", "0.255.255.255", "127.0.0.1", "127.255.255.254", "168.63.129.16", "169.254.0.0", "169.254.169.254", "169.254.255.255",
		"192.0.0.0", "192.0.0.192", "198.18.0.0", "198.18.0.1", "198.19.255.255", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
		"100.100.100.200", "::", "::1", "fe80::1", "febf::1", "ff02::1", "ffff::", "fd00:ec2::254", "fd20:ce::254", "64:ff9b:1::1",
		// Mapped, the older form, and that of translators (SIIT).
		"::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:0.0.0.0", "::127.0.0.1", "::169.254.169.254", "::8.8.8.8",
		"::ffff:0:7f00:1", "::ffff:0:a9fe:a9fe", "::ffff:0:808:808",
		// NAT64, 6to4, Teredo (server, and client with its bits turned), ISATAP.
		"64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2001:0:7f00:1::", "2001:0:808:808::80ff:fffe",
		"2001:0:808:808::5601:5601", "2001:db8::5efe:127.0.0.1", "2001:db8::200:5efe:169.254.169.254",
		// One in the other.
		"2002:7f00:1:0:0:5efe:808:808", "fe80::1%eth0", "2001:db8::1%lo",
	} {
		if what := schema.Unreachable(netip.MustParseAddr(text)); what == "" {
			t.Errorf("%s may be reached", text)
		}
	}
	for _, text := range []string{
		"1.0.0.0", "8.8.8.8", "126.255.255.255", "128.0.0.1", "168.63.129.15", "168.63.129.17", "169.253.255.255", "169.255.0.0", "192.0.1.0",
		"198.17.255.255", "198.20.0.0", "223.255.255.255", "10.0.0.1", "100.64.0.1", "172.16.0.1", "192.168.0.1", "2606:4700::1111",
		"fc00::1", "fd00::1", "fec0::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1", "2001:0:808:808::f7f7:f7f7",
		"2001:db8::5efe:8.8.8.8", "2001:1::1", "64:ff9b:2::1",
	} {
		if what := schema.Unreachable(netip.MustParseAddr(text)); what != "" {
			t.Errorf("%s may not be reached: %s", text, what)
		}
	}
	if schema.Unreachable(netip.Addr{}) == "" {
		t.Error("no address may be reached")
	}
}

// TestPrivateRanges: they are found in every form.
func TestPrivateRanges(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"10.0.0.1": true, "10.255.255.255": true, "11.0.0.0": false, "9.255.255.255": false, "100.63.255.255": false, "100.64.0.0": true,
		"100.127.255.255": true, "100.128.0.0": false, "172.15.255.255": false, "172.16.0.0": true, "172.31.255.255": true, "172.32.0.0": false,
		"192.167.255.255": false, "192.168.0.0": true, "192.169.0.0": false, "fc00::": true, "fdff:ffff::": true, "fe00::": false,
		"::ffff:10.0.0.1": true, "64:ff9b::10.0.0.1": true, "2002:a00:1::": true, "2001:0:808:808::f5ff:fffe": true, "2001:db8::5efe:192.168.1.1": true,
		"8.8.8.8": false, "2001:db8::1": false,
	} {
		if _, got := schema.PrivateRange(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: private %v", text, got)
		}
	}
}

// TestEgressOpens: a list opens what it says; what is private only where a rule was written for that.
func TestEgressOpens(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rules []string
		to    string
		want  bool
	}{
		{[]string{"0.0.0.0/0"}, "8.8.8.8:443", true},
		{[]string{"0.0.0.0/0"}, "10.0.0.1:443", false},
		{[]string{"8.0.0.0/5"}, "10.0.0.1:443", false},
		{[]string{"10.0.0.0/8"}, "10.0.0.1:443", true},
		{[]string{"10.1.0.0/16"}, "10.2.0.1:443", false},
		{[]string{"10.0.0.5:5432"}, "10.0.0.5:5432", true},
		{[]string{"10.0.0.5:5432"}, "10.0.0.5:5433", false},
		{[]string{"10.0.0.5:5432"}, "10.0.0.6:5432", false},
		{[]string{"[fd00::1]:443"}, "[fd00::1]:443", true},
		{[]string{"::/0"}, "[fd00::1]:443", false},
		{[]string{"::/0"}, "[2002:a00:1::1]:443", false},
		{[]string{"fc00::/7"}, "[fd00::1]:80", true},
		{[]string{"10.0.0.0/8"}, "[64:ff9b::10.0.0.1]:443", false},
		{[]string{"64:ff9b::/96"}, "[64:ff9b::10.0.0.1]:443", false},
		{[]string{"[::ffff:10.0.0.5]:80"}, "10.0.0.5:80", true},
		{[]string{"db.internal:5432"}, "10.0.0.5:5432", false},
		{nil, "8.8.8.8:443", false}, // public is not a rule that opens: it is what is open without one
	} {
		e, bad := schema.ParseEgress(c.rules)
		if len(bad) != 0 {
			t.Errorf("%v: %v", c.rules, bad)
		}
		if got := e.Opens(netip.MustParseAddrPort(c.to)); got != c.want {
			t.Errorf("%v opens %s: %v", c.rules, c.to, got)
		}
	}
}

// TestEgressRules: rules as people write them, and what is refused of them, rule by rule.
func TestEgressRules(t *testing.T) {
	t.Parallel()
	good := []string{"10.1.2.3/8", "DB.Internal.:5432", "[FD00::1]:443", "8.8.8.8:53", "2001:db8::/32", "127.0.0.1:5432", "localhost:1"}
	e, bad := schema.ParseEgress(good)
	var got []string
	for _, r := range e.Rules {
		got = append(got, r.String())
	}
	want := []string{"10.0.0.0/8", "db.internal:5432", "[fd00::1]:443", "8.8.8.8:53", "2001:db8::/32", "127.0.0.1:5432", "localhost:1"}
	if len(bad) != 0 || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, bad)
	}
	refused := []string{
		"mail.example.org:25", "10.0.0.1:25", "127.0.0.0/8", "169.254.169.254/32", "::1/128", "fe80::/64", "224.0.0.0/4", "::ffff:10.0.0.0/104",
		"a..b:1", ".a:1", "a b:1", "[::1:80", "::1]:80", "[10.0.0.1]:80", "[fe80::1%lo]:80", "host", ":80", "h:0", "h:65536", "h:-1", "", "h:+80",
	}
	if _, bad := schema.ParseEgress(refused); len(bad) != len(refused) {
		t.Errorf("%d of %d refused: %v", len(bad), len(refused), bad)
	}
	for text, none := range map[string]bool{"public": false, "none": true} {
		if e, bad := schema.ParseEgress([]string{text}); len(bad) != 0 || e.None != none || e.Rules != nil {
			t.Errorf("%s: %+v, %v", text, e, bad)
		}
	}
}
