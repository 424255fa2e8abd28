//go:build linux && (amd64 || arm64)

package native_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker/driver"
	"github.com/hearth-run/hearth/worker/driver/drivertest"
	"github.com/hearth-run/hearth/worker/driver/native"
	"github.com/hearth-run/hearth/worker/driver/native/hostile"
	"github.com/hearth-run/hearth/worker/egress/egresstest"
)

// talkArgument makes the binary a function that talks: what it is to try follows, one outcome is said of each.
const talkArgument = "native-test-talk"

// talk is the function. It never returns if it is one.
func talk() {
	if len(os.Args) < 2 || os.Args[1] != talkArgument {
		return
	}
	out := json.NewEncoder(os.Stdout)
	for _, what := range os.Args[2:] {
		_ = out.Encode(hostile.Result{Name: what, Outcome: outcome(try(what))})
	}
	syscall.Exit(0)
}

func outcome(err error) string {
	var errno syscall.Errno
	var name *net.DNSError
	switch {
	case err == nil:
		return hostile.Done
	case errors.As(err, &name):
		return "no name"
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	case errors.Is(err, io.EOF):
		return "end"
	}
	return err.Error()
}

// try does one thing: network/address, perhaps with a number behind it.
func try(what string) error {
	kind, address, _ := strings.Cut(what, "/")
	switch kind {
	case "tcp", "udp":
		c, err := net.DialTimeout(kind, address, patience)
		if err != nil {
			return err
		}
		defer c.Close()
		return echo(c)
	case "hold": // until the other end is gone, and asks for nothing meanwhile
		c, err := (&net.Dialer{Timeout: patience, KeepAlive: -1}).Dial("tcp", address)
		if err != nil {
			return err
		}
		fmt.Println("holding")
		_, err = c.Read(make([]byte, 1))
		return err
	case "deaf": // connections whose handshake does not end
		address, number, _ := strings.Cut(address, "/")
		n, err := strconv.Atoi(number)
		if err != nil {
			return err
		}
		if err := deaf(netip.MustParseAddrPort(address), n); err != nil {
			return err
		}
		fmt.Println("deaf now")
		return unix.Pause() // until it is killed
	case "stuff": // connections full of what nobody reads
		address, number, _ := strings.Cut(address, "/")
		n, err := strconv.Atoi(number)
		if err != nil {
			return err
		}
		if err := stuff(address, n); err != nil {
			return err
		}
		fmt.Println("stuffed now")
		return unix.Pause() // until it is killed
	case "many": // connections at once
		address, number, _ := strings.Cut(address, "/")
		n, err := strconv.Atoi(number)
		if err != nil {
			return err
		}
		for range n {
			c, err := net.DialTimeout("tcp", address, patience)
			if err != nil {
				return err
			}
			defer c.Close()
			if err := echo(c); err != nil {
				return err
			}
		}
		return nil
	case "left": // connections that are over but for what we do not read, and then one more
		address, number, _ := strings.Cut(address, "/")
		n, err := strconv.Atoi(number)
		if err != nil {
			return err
		}
		return left(address, n)
	case "bytes": // there and back
		c, err := net.DialTimeout("tcp", address, patience)
		if err != nil {
			return err
		}
		defer c.Close()
		return bulk(c.(*net.TCPConn), 4<<20)
	case "name":
		_, err := net.DefaultResolver.LookupNetIP(context.Background(), "ip4", address)
		return err
	case "first", "ask", "both", "storm", "self":
		return first(kind, address)
	case "device":
		_, err := net.InterfaceByName("hearth0")
		if err != nil {
			return unix.ENODEV
		}
		return nil
	}
	return errors.New("unknown")
}

func echo(c net.Conn) error {
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write([]byte("hello")); err != nil {
		return err
	}
	b := make([]byte, 5)
	if _, err := io.ReadFull(c, b); err != nil {
		return err
	}
	if string(b) != "hello" {
		return errors.New("another answer")
	}
	return nil
}

// left opens connections that both ends have ended, of whose last bytes it takes none, and then tries to open another for a while.
func left(address string, n int) error {
	small := net.Dialer{Timeout: patience, Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 1) })
	}}
	for range n {
		c, err := small.Dial("tcp", address)
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := c.Write(make([]byte, 24<<10)); err != nil {
			return err
		}
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			return err
		}
	}
	var err error
	for range 300 {
		var c net.Conn
		if c, err = small.Dial("tcp", address); err == nil {
			return c.Close()
		}
	}
	return err
}

// bulk sends bytes, says that it is done, and has as many back before the end.
func bulk(c *net.TCPConn, n int) error {
	go func() { // ends with the process
		b := make([]byte, 64<<10)
		for sent := 0; sent < n; sent += len(b) {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
		_ = c.CloseWrite()
	}()
	got, err := io.Copy(io.Discard, c)
	if err == nil && got != int64(n) {
		return fmt.Errorf("%d bytes of %d", got, n)
	}
	return err
}

// talker is a driver whose environments are on a world's network.
type talker struct {
	*native.Driver
	world *egresstest.World
	code  string
	guest string

	function string // that its environments are of
}

func newTalker(t *testing.T, change func(*native.Config, *egresstest.World)) *talker {
	t.Helper()
	needsRoot(t)
	w := &talker{world: egresstest.New(t), code: drivertest.Folder(t)}
	w.guest = filepath.Join("/var/task", filepath.Base(drivertest.GuestCommand(t, w.code).Path))
	cfg := native.Config{Dir: filepath.Join(drivertest.Folder(t), "tree"), Resolver: egresstest.Resolver, Stock: -1}
	cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	if change != nil {
		change(&cfg, w.world)
	}
	d, err := native.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.Driver = d
	native.Elsewhere(d, w.world.Enter)
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return w
}

// traffic is the last report of an environment.
type traffic struct {
	mu   sync.Mutex
	last driver.Traffic
	mark driver.Traffic // that was asked for
	news []driver.Refused
}

func (r *traffic) report(now driver.Traffic) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last = now; now.Marked {
		r.mark = now
	}
	r.news = append(r.news, now.News...)
}

func (r *traffic) look() (driver.Traffic, []driver.Refused) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last, r.news
}

// start starts a function that may reach what the rules say.
func (w *talker) start(t *testing.T, rules []string, what ...string) (driver.Environment, *text, *traffic) {
	t.Helper()
	egress, bad := schema.ParseEgress(rules)
	if len(bad) > 0 {
		t.Fatal(bad)
	}
	e, err := w.New(t.Context(), driver.Spec{ID: "talker", MemoryMB: 128})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		e.Kill()
		ended(t, e)
	})
	out, seen := &text{}, &traffic{}
	cmd := driver.Command{Path: w.guest, Args: append([]string{talkArgument}, what...), Dir: w.code,
		Network: &driver.Network{Egress: egress, Function: w.function, Report: seen.report}}
	if err := e.Start(t.Context(), cmd, out); err != nil {
		t.Fatal(err)
	}
	return e, out, seen
}

// say has a function try things, and gives what became of each.
func (w *talker) say(t *testing.T, rules []string, what ...string) (map[string]string, *traffic) {
	t.Helper()
	e, out, seen := w.start(t, rules, what...)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the function said %s", out)
		}
	})
	ended(t, e)
	got := hostile.Read(out.String())
	if len(got) != len(what) {
		t.Fatalf("the function said %s", out)
	}
	return got, seen
}

// TestWorldAnswers is the control of TestEgressPolicies: from the host itself everything is reached that functions are refused.
func TestWorldAnswers(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	w := egresstest.New(t)
	done := make(chan struct{})
	go func() { // awaited below
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread is in another network
		if err := w.Enter(); err != nil {
			t.Error(err)
			return
		}
		for _, to := range []string{
			"198.51.100.7:25", "10.0.0.5:5432", "[fd00::5]:80", "100.64.0.1:80", "169.254.169.254:80", "168.63.129.16:80", "198.18.0.1:80",
			"[64:ff9b::a9fe:a9fe]:80", "[2002:a9fe:a9fe::1]:80", "[2001:0:a9fe:a9fe::1]:80", "203.0.113.4:4222",
			"[64:ff9b::cb00:7104]:4222", "[64:ff9b::c000:202]:80", w.Own.String(), w.Loopback.String(),
		} {
			// By system calls: the thread is the one that is there.
			address := netip.MustParseAddrPort(to)
			err := dialHere(address)
			for try := 1; errors.Is(err, unix.EINPROGRESS) && try < 5; try++ { // a first packet may be lost, and is sent again late
				err = dialHere(address)
			}
			if err != nil {
				t.Errorf("%s: %v", to, err)
			}
		}
	}()
	<-done
}

// dialHere connects from the network of the calling thread; EINPROGRESS says that nothing came back for some seconds.
func dialHere(to netip.AddrPort) error {
	family, address := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()})
	if to.Addr().Is4() {
		family, address = unix.AF_INET, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: 4}); err != nil {
		return err
	}
	return unix.Connect(fd, address)
}

// TestEgressPolicies is DESIGN 8 and SECURITY 3 with real functions: under each policy they reach what it opens and nothing else,
// by address and by name, and refusals come at once and not by a time-out. Everything that is refused here is served by the world
// (TestWorldAnswers), so a refusal is one of ours.
func TestEgressPolicies(t *testing.T) {
	t.Parallel()
	w := newTalker(t, func(cfg *native.Config, w *egresstest.World) {
		cfg.Local = []netip.AddrPort{w.Loopback}
		cfg.Fabric = func() []netip.AddrPort { return []netip.AddrPort{netip.MustParseAddrPort("203.0.113.4:4222")} }
	})
	w.world.Name("db.example.org", "198.51.100.7")
	w.world.Name("six.example.org", "2001:db8:1::7")
	w.world.Name("inside.example.org", "10.0.0.5")
	w.world.Name("rebound.example.org", "169.254.169.254", "127.0.0.1", "10.0.0.5")
	w.world.Name("half.example.org", "169.254.169.254", "198.51.100.8")
	own, loopback := w.world.Own.String(), w.world.Loopback
	host := "host.hearth.internal:" + strconv.Itoa(int(loopback.Port()))
	const done, refused, noName, unreachable = hostile.Done, "ECONNREFUSED", "no name", "ENETUNREACH"
	for _, policy := range []struct {
		name  string
		rules []string
		want  map[string]string
		why   map[driver.Refusal]bool
	}{
		{"public", nil, map[string]string{
			"tcp/198.51.100.7:443": done, "udp/198.51.100.7:443": done, "tcp/[2001:db8:1::7]:443": done, "bytes/198.51.100.7:80": done,
			"name/db.example.org": done, "tcp/db.example.org:5432": done, "tcp/half.example.org:80": done, "tcp/six.example.org:80": done,
			"name/nobody.example.org": noName, "name/rebound.example.org": noName, "name/inside.example.org": noName,
			"tcp/198.51.100.7:9": refused, "tcp/198.51.100.7:25": refused,
			"tcp/10.0.0.5:5432": refused, "udp/10.0.0.5:53": refused, "tcp/[fd00::5]:80": refused, "tcp/100.64.0.1:80": refused,
			"tcp/169.254.169.254:80": refused, "udp/169.254.169.254:80": refused, "tcp/168.63.129.16:80": refused,
			"tcp/[64:ff9b::a9fe:a9fe]:80": refused, "tcp/[2002:a9fe:a9fe::1]:80": refused, "tcp/[2001:0:a9fe:a9fe::1]:80": refused,
			"tcp/" + own: refused, "tcp/[" + egresstest.Host6 + "]:80": refused, "tcp/203.0.113.4:80": refused, "tcp/203.0.113.4:4222": refused,
			"tcp/[64:ff9b::cb00:7104]:4222": refused, "tcp/[64:ff9b::c000:202]:80": refused,
			"tcp/198.18.0.1:53": refused, "tcp/198.18.0.1:80": refused, "tcp/" + host: noName,
		}, map[driver.Refusal]bool{driver.RefusedFloor: true, driver.RefusedLocal: true, driver.RefusedFabric: true, driver.RefusedPrivate: true,
			driver.RefusedPort: true, driver.RefusedName: true}},
		{"none", []string{"none"}, map[string]string{
			"tcp/198.51.100.7:443": unreachable, "udp/198.51.100.7:443": unreachable, "tcp/[2001:db8:1::7]:443": unreachable,
			"name/db.example.org": noName, "tcp/10.0.0.5:5432": unreachable, "tcp/169.254.169.254:80": unreachable,
		}, nil},
		{"list", []string{"10.0.0.0/24", "db.example.org:5432", "inside.example.org:80", "203.0.113.0/24", "198.51.100.9:7", loopback.String()},
			map[string]string{
				"tcp/10.0.0.5:5432": done, "udp/10.0.0.5:54": done, "tcp/10.0.1.5:5432": refused, "tcp/db.example.org:5432": done,
				"tcp/inside.example.org:80": done, "tcp/db.example.org:5433": refused, "name/other.example.org": noName,
				"tcp/198.51.100.9:7": done, "tcp/198.51.100.9:8": refused, "tcp/198.51.100.200:443": refused, "tcp/203.0.113.4:80": refused,
				"tcp/203.0.113.5:80": done, "tcp/169.254.169.254:80": refused, "tcp/" + own: refused, "tcp/" + host: done,
			}, map[driver.Refusal]bool{driver.RefusedFloor: true, driver.RefusedPolicy: true, driver.RefusedFabric: true, driver.RefusedPrivate: true,
				driver.RefusedName: true}},
	} {
		t.Run(policy.name, func(t *testing.T) {
			t.Parallel()
			var what []string
			for one := range policy.want {
				what = append(what, one)
			}
			got, seen := w.say(t, policy.rules, what...)
			for _, one := range what {
				if got[one] != policy.want[one] {
					t.Errorf("%s: %s, want %s", one, got[one], policy.want[one])
				}
			}
			now, news := seen.look()
			for why := range policy.why {
				if now.Refused[why] == 0 {
					t.Errorf("no refusal of kind %s was counted: %+v", why, now)
				}
			}
			if len(policy.why) > 0 && (len(news) == 0 || now.Connections == 0 || now.Queries == 0 || now.Sent == 0 || now.Received == 0 || now.Flows == 0) {
				t.Errorf("counted %+v, told of %v", now, news)
			}
		})
	}
	t.Cleanup(func() { // after them all
		for _, to := range []string{"169.254.169.254:80", "10.0.1.5:5432", "203.0.113.4:4222", "198.51.100.7:25", "198.51.100.9:8"} {
			if n := w.world.Seen(netip.MustParseAddrPort(to)); n != 0 {
				t.Errorf("somebody came to %s: %d", to, n)
			}
		}
		if n := w.world.Asked("other.example.org"); n != 0 {
			t.Errorf("a name that is on no list left the host %d times", n)
		}
		if n := w.world.Seen(w.world.Own); n != 0 {
			t.Errorf("somebody came to the host itself: %d", n)
		}
	})
}
