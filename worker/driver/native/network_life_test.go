//go:build linux && (amd64 || arm64)

package native_test

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hearth-run/hearth/worker/driver"
	"github.com/hearth-run/hearth/worker/driver/drivertest"
	"github.com/hearth-run/hearth/worker/driver/native"
	"github.com/hearth-run/hearth/worker/driver/native/hostile"
	"github.com/hearth-run/hearth/worker/driver/uids"
	"github.com/hearth-run/hearth/worker/egress"
	"github.com/hearth-run/hearth/worker/egress/egresstest"
)

const server = "198.51.100.7:80"

// waitFor waits until a function has said something.
func waitFor(t *testing.T, e driver.Environment, out *text, what string) {
	t.Helper()
	drivertest.Eventually(t, "the function says "+what, func() bool {
		drain(e)
		return strings.Contains(out.String(), what)
	})
}

// TestEgressAtFirstNeed: no helper runs, and no device is made, for functions that open no connection; one does for all that do, and it
// is a process that can do little: its own user, no capabilities, filtered, with nothing of the worker's open.
//
// Broken to see it fail: a tap that hears what the environment sends to itself.
func TestEgressAtFirstNeed(t *testing.T) {
	t.Parallel()
	w := newTalker(t, nil)
	// As a shell may leave something open to the worker.
	inherited, err := unix.Open("/etc/passwd", unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(inherited)
	if got, _ := w.say(t, nil, "self/", "device/"); got["self/"] != hostile.Done || got["device/"] != "ENODEV" {
		t.Errorf("a device for nobody: %v", got)
	}
	if pid, started := native.Helper(w.Driver); pid != 0 || started != 0 {
		t.Errorf("a helper (%d, %d) for nobody", pid, started)
	}
	for range 2 {
		if got, _ := w.say(t, nil, "tcp/"+server, "device/"); got["tcp/"+server] != hostile.Done || got["device/"] != hostile.Done {
			t.Errorf("%v", got)
		}
	}
	pid, started := native.Helper(w.Driver)
	if pid == 0 || started != 1 {
		t.Fatalf("helper %d, %d started", pid, started)
	}
	status := statusOf(t, pid)
	uid, err := strconv.ParseUint(strings.Fields(status["Uid"])[0], 10, 32)
	if err != nil || !uids.In(uint32(uid)) || strings.Count(status["Uid"], fmt.Sprint(uid)) != 4 || strings.TrimSpace(status["Groups"]) != "" {
		t.Errorf("it runs as %q, groups %q", status["Uid"], status["Groups"])
	}
	for name, want := range map[string]string{"CapEff": "0000000000000000", "CapPrm": "0000000000000000", "CapBnd": "0000000000000000",
		"CapAmb": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2"} {
		if status[name] != want {
			t.Errorf("%s is %s", name, status[name])
		}
	}
	if env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)); err != nil || len(env) != 0 {
		t.Errorf("its environment is %q, %v", env, err)
	}
	for _, what := range open0(t, pid) {
		if !strings.HasPrefix(what, "pipe:") && !strings.HasPrefix(what, "socket:") && !strings.HasPrefix(what, "anon_inode:") &&
			what != "/dev/null" && what != "/dev/net/tun" {
			t.Errorf("it has %s open", what)
		}
	}
}

// statusOf is /proc/PID/status.
func statusOf(t *testing.T, pid int) map[string]string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	status := map[string]string{}
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(line, ":")
		status[name] = strings.TrimSpace(value)
	}
	return status
}

// open0 is what a process has open.
func open0(t *testing.T, pid int) []string {
	t.Helper()
	folder := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, entry := range entries {
		if to, err := os.Readlink(folder + "/" + entry.Name()); err == nil {
			all = append(all, to)
		}
	}
	return all
}

// TestEgressHeals: what was connected through a helper that is killed is reset, at once, and the next need starts another. What
// the first one counted still counts.
func TestEgressHeals(t *testing.T) {
	t.Parallel()
	w := newTalker(t, nil)
	e, out, seen := w.start(t, nil, "tcp/"+server, "hold/"+server, "tcp/"+server)
	waitFor(t, e, out, "holding")
	first, _ := native.Helper(w.Driver)
	drivertest.Eventually(t, "the connections are reported", func() bool {
		now, _ := seen.look()
		return now.Connections == 2
	})
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ended(t, e)
	got := hostile.Read(out.String())
	if got["hold/"+server] != "ECONNRESET" || got["tcp/"+server] != hostile.Done {
		t.Errorf("the function met %v", got)
	}
	if second, started := native.Helper(w.Driver); started != 2 || second == first {
		t.Errorf("helper %d after %d, %d started", second, first, started)
	}
	if now, _ := seen.look(); now.Connections != 3 || now.Sent != 10 {
		t.Errorf("counted %+v", now)
	}
}

// TestEgressMarked: all until a mark is told at once and named so, new or not; who has sent nothing has nothing to tell. A helper that dies
// with the question is asked again when there is another.
//
// Broken to see it fail: a helper that tells news alone; one that is not asked again.
func TestEgressMarked(t *testing.T) {
	t.Parallel()
	w := newTalker(t, nil)
	silent, _, _ := w.start(t, nil, "device/")
	if silent.(driver.Marker).MarkTraffic() {
		t.Error("a report is promised of nothing")
	}
	e, out, seen := w.start(t, nil, "tcp/"+server, "hold/"+server, "tcp/"+server)
	waitFor(t, e, out, "holding")
	marked := func(connections int64) {
		t.Helper()
		if !e.(driver.Marker).MarkTraffic() {
			t.Fatal("no report is promised")
		}
		drivertest.Eventually(t, "the report is there", func() bool {
			seen.mu.Lock()
			defer seen.mu.Unlock()
			now := seen.mark
			seen.mark = driver.Traffic{}
			return now.Marked && now.Connections == connections && now.Sent == 5
		})
	}
	marked(2)
	marked(2)
	first, _ := native.Helper(w.Driver)
	if err := syscall.Kill(first, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if !e.(driver.Marker).MarkTraffic() {
		t.Fatal("no report is promised")
	}
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ended(t, e)
	drivertest.Eventually(t, "the report is there", func() bool {
		seen.mu.Lock()
		defer seen.mu.Unlock()
		return seen.mark.Marked && seen.mark.Connections >= 2
	})
}

// TestEgressBounds: connections of an environment, and of all of a function, have their numbers, and refusals are at once. Another
// function has a part of what the first one left.
func TestEgressBounds(t *testing.T) {
	t.Parallel()
	w := newTalker(t, func(cfg *native.Config, _ *egresstest.World) { cfg.Network = egress.Limits{Place: 4, All: 16} })
	for many, want := range map[string]string{"many/" + server + "/4": hostile.Done, "many/" + server + "/5": "ECONNREFUSED"} {
		got, seen := w.say(t, nil, many)
		now, _ := seen.look()
		if got[many] != want || (now.Refused[driver.RefusedFlows] == 1) != (want != hostile.Done) || now.Connections != 4 {
			t.Errorf("%v, counted %+v", got, now)
		}
	}
	// Others hold four of the five that are the share of a function alone.
	for _, holders := range []int{3, 1} {
		var holds []string
		for i := range holders {
			holds = append(holds, fmt.Sprintf("hold/198.51.100.%d:80", i+1))
		}
		for _, hold := range holds {
			e, out, _ := w.start(t, nil, hold)
			waitFor(t, e, out, "holding")
		}
	}
	for many, want := range map[string]string{"many/" + server + "/1": hostile.Done, "many/" + server + "/2": "ECONNREFUSED"} {
		if got, _ := w.say(t, nil, many); got[many] != want {
			t.Errorf("beside others: %v", got)
		}
	}
	// Seven are an account's, of which another function of it may have two now.
	w.function = "another"
	for many, want := range map[string]string{"many/" + server + "/2": hostile.Done, "many/" + server + "/3": "ECONNREFUSED"} {
		if got, _ := w.say(t, nil, many); got[many] != want {
			t.Errorf("another function: %v", got)
		}
	}
}

// TestEgressLeft: a connection that is over counts until its function has taken what is left of it, which the helper keeps.
//
// Broken to see it fail: it counts until both ends have said that they are done.
func TestEgressLeft(t *testing.T) {
	t.Parallel()
	w := newTalker(t, func(cfg *native.Config, _ *egresstest.World) { cfg.Network = egress.Limits{Place: 4} })
	for many, want := range map[string]string{"left/" + server + "/4": "ECONNREFUSED", "left/" + server + "/3": hostile.Done} {
		if got, _ := w.say(t, nil, many); got[many] != want {
			t.Errorf("%v, want %s", got, want)
		}
	}
}

// TestEgressFabricMoves: where the fabric is counts from the moment that it is there: who is connected is cut off, and nobody else
// comes there.
//
// Broken to see it fail: it is told with an environment's first packet alone; what is connected stays.
func TestEgressFabricMoves(t *testing.T) {
	t.Parallel()
	var at atomic.Pointer[[]netip.AddrPort]
	at.Store(&[]netip.AddrPort{})
	w := newTalker(t, func(cfg *native.Config, _ *egresstest.World) {
		cfg.Fabric = func() []netip.AddrPort { return *at.Load() }
	})
	const elsewhere = "198.51.100.77:80"
	e, out, seen := w.start(t, nil, "hold/"+server, "tcp/"+server, "tcp/"+elsewhere)
	waitFor(t, e, out, "holding")
	at.Store(&[]netip.AddrPort{netip.MustParseAddrPort(server)})
	ended(t, e)
	got := hostile.Read(out.String())
	if got["hold/"+server] != "ECONNRESET" || got["tcp/"+server] != "ECONNREFUSED" || got["tcp/"+elsewhere] != hostile.Done {
		t.Errorf("the function met %v", got)
	}
	if now, _ := seen.look(); now.Refused[driver.RefusedFabric] != 1 {
		t.Errorf("counted %+v", now)
	}
}

// TestEgressFrozen: an environment that is frozen in the middle of a connection takes nothing and holds nobody up; afterwards all
// bytes are there.
func TestEgressFrozen(t *testing.T) {
	t.Parallel()
	w := newTalker(t, nil)
	e, out, seen := w.start(t, nil, "hold/"+server, "bytes/"+server)
	waitFor(t, e, out, "holding")
	if err := e.(driver.Freezer).Freeze(true); err != nil {
		t.Fatal(err)
	}
	if got, _ := w.say(t, nil, "bytes/"+server, "udp/"+server); got["bytes/"+server] != hostile.Done || got["udp/"+server] != hostile.Done {
		t.Errorf("beside one that is frozen: %v", got)
	}
	first, _ := native.Helper(w.Driver)
	if err := e.(driver.Freezer).Freeze(false); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil { // lets go what is held
		t.Fatal(err)
	}
	ended(t, e)
	if got := hostile.Read(out.String()); got["bytes/"+server] != hostile.Done {
		now, _ := seen.look()
		t.Errorf("afterwards: %v, counted %+v", got, now)
	}
}

// TestEgressLeavesNothing: environments that are killed in the middle of connections leave no descriptor, goroutine, device or
// connection, here or in the helper.
func TestEgressLeavesNothing(t *testing.T) {
	w := newTalker(t, nil)
	w.say(t, nil, "tcp/"+server) // there is a helper now
	pid, _ := native.Helper(w.Driver)
	devices := func() (n int) {
		for _, what := range open0(t, pid) {
			if what == "/dev/net/tun" || strings.HasPrefix(what, "socket:") {
				n++
			}
		}
		return n
	}
	before, inside := look(t, w.Driver), devices()
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 25 {
				rules := []string(nil)
				if j%5 == 0 {
					rules = []string{"none"}
				}
				e, out, _ := w.start(t, rules, "tcp/"+server, "udp/"+server, "hold/"+server)
				if (i+j)%2 == 0 && rules == nil {
					waitFor(t, e, out, "holding")
				}
				e.Kill()
				ended(t, e)
			}
		})
	}
	wg.Wait()
	drivertest.Eventually(t, "nothing is left", func() bool {
		return maps.Equal(before, look(t, w.Driver)) && devices() == inside
	})
	if now, started := native.Helper(w.Driver); now != pid || started != 1 {
		t.Errorf("helper %d, then %d; %d started", pid, now, started)
	}
	if n := w.world.Seen(netip.MustParseAddrPort(server)); n < 80 {
		t.Errorf("%d connections came", n)
	}
}
