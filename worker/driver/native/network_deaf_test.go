//go:build linux && (amd64 || arm64)

package native_test

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hearth-run/hearth/worker/driver/drivertest"
	"github.com/hearth-run/hearth/worker/driver/native"
	"github.com/hearth-run/hearth/worker/driver/native/hostile"
)

// deaf opens connections whose sockets drop whatever comes, for it comes from too far away: the kernel sends what opens a
// connection, and never answers the answer. It returns when all are on their way.
func deaf(to netip.AddrPort, n int) error {
	for range n {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MINTTL, 255); err != nil {
			return err
		}
		if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != unix.EINPROGRESS {
			return err
		}
	}
	return nil
}

// TestEgressDeaf: handshakes that the function never ends hold no more than connections do, and end with it: neither it nor the
// helper is waited for, and nobody else's network is started anew.
func TestEgressDeaf(t *testing.T) {
	t.Parallel()
	w := newTalker(t, nil)
	const many = 40
	there := netip.MustParseAddrPort(server)
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			e, out, _ := w.start(t, nil, fmt.Sprintf("deaf/%s/%d", server, many))
			waitFor(t, e, out, "deaf now")
			if i%2 == 0 { // else some of them are on their way still
				drivertest.Eventually(t, "handshakes are held", func() bool { return w.world.Seen(there) >= many })
			}
			e.Kill()
			ended(t, e)
		})
	}
	wg.Wait()
	if got, _ := w.say(t, nil, "tcp/"+server); got["tcp/"+server] != hostile.Done {
		t.Errorf("afterwards: %v", got)
	}
	if _, started := native.Helper(w.Driver); started != 1 {
		t.Errorf("%d helpers were started", started)
	}
}
