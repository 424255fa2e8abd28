//go:build linux

package egress

import (
	"net"
	"net/netip"
	"testing"
)

// TestIsLocal: the kernel says which addresses are the host's own.
func TestIsLocal(t *testing.T) {
	t.Parallel()
	want := map[netip.Addr]bool{
		netip.MustParseAddr("127.0.0.1"): true, netip.MustParseAddr("127.200.0.1"): true, netip.MustParseAddr("255.255.255.255"): true,
		netip.MustParseAddr("198.51.100.7"): false, netip.MustParseAddr("8.8.8.8"): false, netip.MustParseAddr("2001:db8:77::1"): false,
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if p, ok := a.(*net.IPNet); ok {
			if addr, ok := netip.AddrFromSlice(p.IP); ok && !addr.IsLinkLocalUnicast() {
				want[addr.Unmap()] = true
			}
		}
	}
	for addr, local := range want {
		if got, err := isLocal(addr); got != local || err != nil {
			t.Errorf("%s is local: %v, %v", addr, got, err)
		}
	}
}

// TestReadRoute: whatever is no way to another host is local.
func TestReadRoute(t *testing.T) {
	t.Parallel()
	for _, b := range [][]byte{nil, make([]byte, 19), make([]byte, 64), {20, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 32, 0, 0}} {
		if local, err := readRoute(b); !local || err == nil {
			t.Errorf("%x: %v, %v", b, local, err)
		}
	}
}

// TestReadConnections: those by the device that stand, of both versions.
func TestReadConnections(t *testing.T) {
	t.Parallel()
	got := readConnections(`  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:2329 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 020012C6:9C40 076433C6:0050 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0
   2: 020012C6:9C41 076433C6:0050 06 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0
   3: 0100007F:9C42 0100007F:2329 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0
   4: 0000000000000000FFFF0000020012C6:9C43 0000000000000000FFFF0000076433C6:01BB 08 0 0
   5: zz:1 zz:2 01
   6: 020012C6 076433C6 01
`)
	want := []flow{
		{netip.MustParseAddrPort("198.18.0.2:40000"), netip.MustParseAddrPort("198.51.100.7:80")},
		{netip.MustParseAddrPort("198.18.0.2:40003"), netip.MustParseAddrPort("198.51.100.7:443")},
	}
	if len(got) != len(want) || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("%v", got)
	}
}

// FuzzConnections: no table ends the worker.
func FuzzConnections(f *testing.F) {
	f.Add("   1: 020012C6:9C40 076433C6:0050 01")
	f.Fuzz(func(t *testing.T, table string) {
		for _, f := range readConnections(table) {
			if !f.Here.IsValid() || !f.There.IsValid() {
				t.Errorf("%v", f)
			}
		}
	})
}
