package deploy

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/hearth-run/hearth/internal/natstest"
)

// TestServersAreKnown: where a connection leads, and where its server's URL does, by address and by name, is the fabric's.
func TestServersAreKnown(t *testing.T) {
	t.Parallel()
	s := &servers{}
	s.named("nats://localhost:4222")
	s.named("tls://198.51.100.9")
	s.named("not a URL at all")
	nc := natstest.Start(t).ConnectTCP(t)
	s.add(nc)
	at, err := netip.ParseAddrPort(nc.ConnectedAddr())
	if err != nil {
		t.Fatal(err)
	}
	got := s.addresses()
	for _, want := range []netip.AddrPort{at, netip.MustParseAddrPort("127.0.0.1:4222"), netip.MustParseAddrPort("198.51.100.9:4222")} {
		if !slices.Contains(got, want) {
			t.Errorf("%s is not among %v", want, got)
		}
	}
	if again := s.addresses(); !slices.Equal(got, again) {
		t.Errorf("%v, then %v", got, again)
	}
}
