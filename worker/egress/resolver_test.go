package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/hearth-run/hearth/worker/driver"
)

// asked is a resolver with a world of names, whose clock the test moves.
type asked struct {
	resolver
	world   map[string][]string
	lookups int
	clock   time.Time
	said    []driver.Refused
}

func newAsked(t *testing.T, world map[string][]string, list ...string) *asked {
	a := &asked{world: world, clock: time.Unix(1_000_000, 0)}
	a.resolver = resolver{rules: &rules{egress: parse(t, list...)}, names: &names{}, now: func() time.Time { return a.clock },
		refused: func(r driver.Refused) { a.said = append(a.said, r) }}
	a.lookup = func(_ context.Context, name string) (all []netip.Addr, err error) {
		a.lookups++
		texts, ok := a.world[name]
		switch {
		case !ok:
			return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
		case len(texts) == 0:
			return nil, errors.New("the server is down")
		}
		for _, text := range texts {
			all = append(all, netip.MustParseAddr(text))
		}
		return all, nil
	}
	return a
}

func query(t testing.TB, name string, kind dnsmessage.Type) []byte {
	t.Helper()
	n, err := dnsmessage.NewName(name)
	if err != nil {
		t.Fatal(err)
	}
	b, err := (&dnsmessage.Message{Header: dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: n, Type: kind, Class: dnsmessage.ClassINET}}}).Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ask gives code, addresses and TTL in one line.
func (a *asked) ask(t *testing.T, name string, kind dnsmessage.Type) string {
	t.Helper()
	out := a.answer(t.Context(), query(t, name, kind))
	if len(out) > 512 {
		t.Errorf("%s: %d bytes", name, len(out))
	}
	var m dnsmessage.Message
	if err := m.Unpack(out); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if m.ID != 7 || !m.Response || len(m.Questions) != 1 || m.Questions[0].Name.String() != name {
		t.Errorf("%s: %+v", name, m)
	}
	said := []string{strings.TrimPrefix(m.RCode.String(), "RCode")}
	for _, r := range m.Answers {
		switch body := r.Body.(type) {
		case *dnsmessage.AResource:
			said = append(said, netip.AddrFrom4(body.A).String())
		case *dnsmessage.AAAAResource:
			said = append(said, netip.AddrFrom16(body.AAAA).String())
		}
		said = append(said, fmt.Sprint(r.Header.TTL))
	}
	return strings.Join(said, " ")
}

// TestResolver: answers by policy, without what would be refused, and what was given counts for its time.
func TestResolver(t *testing.T) {
	t.Parallel()
	var many []string
	for i := range 40 {
		many = append(many, fmt.Sprintf("198.51.100.%d", i), fmt.Sprintf("2001:db8::%x", i))
	}
	world := map[string][]string{
		"db.example.org": {"198.51.100.7", "2001:db8::7"}, "down.example.org": {}, "four.example.org": {"198.51.100.8"},
		"rebound.example.org": {"127.0.0.1", "10.0.0.5", "::ffff:169.254.169.254", "198.51.100.9"}, "bad.example.org": {"10.0.0.5"},
		"many.example.org": many,
	}
	a := newAsked(t, world)
	for _, c := range []struct {
		name string
		kind dnsmessage.Type
		want string
	}{
		{"db.example.org.", dnsmessage.TypeA, "Success 198.51.100.7 30"},
		{"DB.Example.ORG.", dnsmessage.TypeAAAA, "Success 2001:db8::7 30"},
		{"four.example.org.", dnsmessage.TypeAAAA, "Success"},
		{"rebound.example.org.", dnsmessage.TypeA, "Success 198.51.100.9 30"},
		{"rebound.example.org.", dnsmessage.TypeAAAA, "Success"},
		{"bad.example.org.", dnsmessage.TypeA, "Refused"},
		{"nobody.example.org.", dnsmessage.TypeA, "NameError"},
		{"nobody.example.org.", dnsmessage.TypeAAAA, "NameError"},
		{"down.example.org.", dnsmessage.TypeA, "ServerFailure"},
		{"db.example.org.", dnsmessage.TypeMX, "NotImplemented"},
		{"db.example.org.", dnsmessage.TypeTXT, "NotImplemented"},
		{"localhost.", dnsmessage.TypeA, "NameError"},
		{"a.localhost.", dnsmessage.TypeA, "NameError"},
		{HostName + ".", dnsmessage.TypeA, "NameError"},
		{"with space.example.org.", dnsmessage.TypeA, "NameError"},
		{".", dnsmessage.TypeA, "NameError"},
	} {
		if got := a.ask(t, c.name, c.kind); got != c.want {
			t.Errorf("%s %v: %s, want %s", c.name, c.kind, got, c.want)
		}
	}
	if n := strings.Count(a.ask(t, "many.example.org.", dnsmessage.TypeA), "198.51"); n != maxFour {
		t.Errorf("%d of many", n)
	}
	a.ask(t, "many.example.org.", dnsmessage.TypeAAAA)
	if len(a.said) != 1 || a.said[0].Name != "bad.example.org" || a.said[0].To.Addr().String() != "10.0.0.5" {
		t.Errorf("told of %+v", a.said)
	}
	before := a.lookups
	a.clock = a.clock.Add(10 * time.Second)
	if got := a.ask(t, "db.example.org.", dnsmessage.TypeA); got != "Success 198.51.100.7 20" || a.lookups != before {
		t.Errorf("after 10 s: %s, %d lookups more", got, a.lookups-before)
	}
	seven := netip.MustParseAddr("198.51.100.7")
	for after, want := range map[time.Duration]bool{0: true, nameLife + nameGrace - 11*time.Second: true, nameLife + nameGrace: false} {
		if got := a.names.gave("db.example.org", seven, a.clock.Add(after)); got != want {
			t.Errorf("after %s more it leads there: %v", after, got)
		}
	}
	if a.names.gave("four.example.org", seven, a.clock) || a.names.gave("rebound.example.org", netip.MustParseAddr("10.0.0.5"), a.clock) {
		t.Error("a name leads where nobody was told")
	}
	a.clock = a.clock.Add(nameLife)
	world["db.example.org"] = []string{"198.51.100.70"}
	if got := a.ask(t, "db.example.org.", dnsmessage.TypeA); got != "Success 198.51.100.70 30" {
		t.Errorf("afterwards: %s", got)
	}
	if a.names.gave("db.example.org", seven, a.clock) {
		t.Error("what a name led to once counts for ever")
	}
}

// TestResolverAsksAgain: what a name server did not answer for one family is asked again, is never a no, and takes nothing of what is known.
//
// Broken to see it fail: an answer for one family is remembered as all; it replaces what is known of the other.
func TestResolverAsksAgain(t *testing.T) {
	t.Parallel()
	a := newAsked(t, nil)
	four, six := netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("2001:db8::7")
	var addrs []netip.Addr
	var fails error
	a.lookup = func(context.Context, string) ([]netip.Addr, error) {
		a.lookups++
		return addrs, fails
	}
	lost := &net.DNSError{Err: "no name server answers", IsTemporary: true}
	for i, c := range []struct {
		addrs   []netip.Addr
		fails   error
		kind    dnsmessage.Type
		want    string
		lookups int
	}{
		{[]netip.Addr{six}, lost, dnsmessage.TypeA, "ServerFailure", 1},
		{[]netip.Addr{six}, lost, dnsmessage.TypeAAAA, "Success 2001:db8::7 30", 1}, // as it is known
		{nil, lost, dnsmessage.TypeA, "ServerFailure", 2},
		{[]netip.Addr{four}, lost, dnsmessage.TypeA, "Success 198.51.100.7 30", 3},
		{nil, lost, dnsmessage.TypeAAAA, "Success 2001:db8::7 30", 3},
		{nil, lost, dnsmessage.TypeA, "Success 198.51.100.7 30", 3},
	} {
		addrs, fails = c.addrs, c.fails
		if got := a.ask(t, "db.example.org.", c.kind); got != c.want || a.lookups != c.lookups {
			t.Errorf("%d: %s after %d lookups, want %s after %d", i, got, a.lookups, c.want, c.lookups)
		}
	}
	if !a.names.gave("db.example.org", four, a.clock) || !a.names.gave("db.example.org", six, a.clock) {
		t.Error("a name leads not where somebody was told")
	}
	// Two lookups at once, of which the later one lost a packet.
	addrs, fails = []netip.Addr{six}, lost
	if _, code := a.find(t.Context(), "db.example.org"); code != dnsmessage.RCodeSuccess || !a.names.gave("db.example.org", four, a.clock) {
		t.Errorf("%v, and the other family is forgotten", code)
	}
}

// TestResolverAsksForWhatIsListed: a name that is on no list does not leave the host.
func TestResolverAsksForWhatIsListed(t *testing.T) {
	t.Parallel()
	a := newAsked(t, map[string][]string{"db.example.org": {"198.51.100.7"}, "x.example.org": {"198.51.100.8"}}, "db.example.org:5432")
	if got := a.ask(t, "x.example.org.", dnsmessage.TypeA); got != "Refused" || a.lookups != 0 || len(a.said) != 1 {
		t.Errorf("%s, %d lookups, told of %v", got, a.lookups, a.said)
	}
	if got := a.ask(t, "db.example.org.", dnsmessage.TypeA); got != "Success 198.51.100.7 30" {
		t.Error(got)
	}
	a.rules.local = ports("127.0.0.1:5432")
	a.rules.egress = parse(t, "127.0.0.1:5432")
	if got := a.ask(t, HostName+".", dnsmessage.TypeA); got != "Success 198.18.0.1 30" {
		t.Error(got)
	}
}

// TestNamesAreBounded: an environment remembers so many; old ones make room.
func TestNamesAreBounded(t *testing.T) {
	t.Parallel()
	var n names
	now := time.Unix(1_000_000, 0)
	for i := range maxNames {
		if !n.give(fmt.Sprint(i), given{until: now.Add(time.Second)}, now) {
			t.Fatalf("no room for name %d", i)
		}
	}
	if n.give("one more", given{until: now.Add(time.Second)}, now) {
		t.Error("there is no bound")
	}
	if !n.give("7", given{until: now.Add(time.Second)}, now) {
		t.Error("a known name is given anew")
	}
	if now = now.Add(time.Minute); !n.give("one more", given{until: now.Add(time.Second)}, now) || len(n.given) != 1 {
		t.Errorf("%d names, old ones among them", len(n.given))
	}
}

// FuzzQuestion: what a function sends to the resolver makes it answer or not, and nothing else; every answer is one.
func FuzzQuestion(f *testing.F) {
	f.Add(query(f, "db.example.org.", dnsmessage.TypeA))
	f.Add(query(f, strings.Repeat("a", 63)+"."+strings.Repeat("b", 63)+"."+strings.Repeat("c", 63)+"."+strings.Repeat("d", 61)+".", dnsmessage.TypeAAAA))
	f.Add([]byte("\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01"))
	addrs := []netip.Addr{netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::7")}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := resolver{rules: &rules{}, names: &names{}, now: time.Now, refused: func(driver.Refused) {},
			lookup: func(context.Context, string) ([]netip.Addr, error) { return slices.Repeat(addrs, 20), nil }}
		out := r.answer(t.Context(), b)
		if out == nil {
			return
		}
		var m dnsmessage.Message
		if err := m.Unpack(out); err != nil || !m.Response || len(out) > 512 {
			t.Errorf("%d bytes, %v: %x", len(out), err, out)
		}
		for _, a := range m.Answers {
			if body, ok := a.Body.(*dnsmessage.AResource); ok && body.A == addrs[1].As4() {
				t.Error("what is refused is given")
			}
		}
	})
}
