package egress

import (
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hearth-run/hearth/schema"
)

// placeOn makes the network of an environment that may reach an address of this host's loopback, behind one end of a pair of
// sockets. The other end is the environment's.
func placeOn(t *testing.T, open netip.AddrPort) (*place, *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	tun, guest := os.NewFile(uintptr(fds[0]), "tun"), os.NewFile(uintptr(fds[1]), "guest")
	t.Cleanup(func() { _ = guest.Close() })
	policy, bad := schema.ParseEgress([]string{open.String()})
	if len(bad) > 0 {
		t.Fatal(bad)
	}
	p, err := newPlace(newHelper(nil, Limits{}), 1, holder{function: "f"}, tun, rules{egress: policy, local: []netip.AddrPort{open}})
	if err != nil {
		t.Fatal(err)
	}
	return p, guest
}

// TestClosesInHandshakes: whatever a handshake waits for when its environment ends, the end does not wait for it: the worker
// would start the helper anew, and reset everybody's connections.
func TestClosesInHandshakes(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	open := l.Addr().(*net.TCPAddr).AddrPort()
	for round := range 60 {
		p, guest := placeOn(t, open)
		for i := range 64 {
			if _, err := guest.Write(segment(netip.AddrPortFrom(Own, uint16(1024+i)).String(), netip.AddrPortFrom(Gateway, open.Port()).String())); err != nil {
				t.Fatal(err)
			}
		}
		for p.open.Load() < int64(round) {
			if p.life.Err() != nil {
				t.Fatal("closed")
			}
			runtime.Gosched()
		}
		done := make(chan struct{})
		go func() { // awaited below
			defer close(done)
			p.close()
		}()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Fatalf("round %d: the end waits for a handshake", round)
		}
	}
}
