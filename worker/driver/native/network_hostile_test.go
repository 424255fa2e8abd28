//go:build linux && (amd64 || arm64)

package native_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

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

// stuff opens connections to echoes, has the host's kernel learn that they are fast, and then writes to them until nothing more
// goes in, without reading what comes back.
func stuff(address string, n int) error {
	var wg sync.WaitGroup
	failed := make(chan error, n)
	for range n {
		wg.Go(func() {
			c, err := net.DialTimeout("tcp", address, patience)
			if err != nil {
				failed <- err
				return
			}
			b := make([]byte, 64<<10)
			for range 40 {
				_ = c.SetDeadline(time.Now().Add(patience))
				if _, err := c.Write(b); err != nil {
					failed <- err
					return
				}
				if _, err := io.ReadFull(c, b); err != nil {
					failed <- err
					return
				}
			}
			for err == nil {
				_ = c.SetWriteDeadline(time.Now().Add(time.Second))
				_, err = c.Write(b)
			}
		})
	}
	wg.Wait()
	close(failed)
	return <-failed
}

// TestEgressKernelMemory: what the kernel holds of connections that nobody reads is bounded for each: all of a worker share the
// helper's cgroup, and 50 connections of one function that may grow to what the kernel gives a connection leave the others none.
func TestEgressKernelMemory(t *testing.T) {
	t.Parallel()
	w := newTalker(t, nil)
	const many = 12
	e, out, _ := w.start(t, nil, fmt.Sprintf("stuff/%s/%d", server, many))
	waitFor(t, e, out, "stuffed now")
	pid, _ := native.Helper(w.Driver)
	if held := socketMemory(t, pid); held > many*3<<19 || held == 0 {
		t.Errorf("the kernel holds %d bytes of %d connections", held, many)
	}
}

// socketMemory is what the kernel holds for sockets of a process's cgroup.
func socketMemory(t *testing.T, pid int) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		var text []byte
		switch {
		case parts[1] == "memory":
			text, err = os.ReadFile(filepath.Join("/sys/fs/cgroup/memory", parts[2], "memory.kmem.tcp.usage_in_bytes"))
		case parts[0] == "0":
			var stat []byte
			if stat, err = os.ReadFile(filepath.Join("/sys/fs/cgroup", parts[2], "memory.stat")); err == nil {
				_, after, _ := strings.Cut(string(stat), "\nsock ")
				first, _, _ := strings.Cut(after, "\n")
				text = []byte(first)
			}
		}
		if n, bad := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && bad == nil {
			return n
		}
	}
	t.Fatalf("no socket memory is told of: %s", b)
	return 0
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
