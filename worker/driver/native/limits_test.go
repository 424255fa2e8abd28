//go:build linux && (amd64 || arm64)

package native_test

import (
	"bytes"
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hearth-run/hearth/worker/driver"
	"github.com/hearth-run/hearth/worker/driver/drivertest"
	"github.com/hearth-run/hearth/worker/driver/native"
)

// patience bounds every wait.
const patience = 30 * time.Second

// text is an output that a test may read while it is written.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (x *text) Write(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.b.Write(p)
}

func (x *text) String() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.b.String()
}

func limited(t *testing.T, memory int64, cores float64, pids int) driver.Driver {
	t.Helper()
	needsRoot(t)
	d := open(t)
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	if memory > 0 {
		native.Limit(d.(*native.Driver), memory, cores, pids)
	}
	return d
}

// shell starts a script in an environment.
func shell(t *testing.T, d driver.Driver, script string) (*native.Environment, *text) {
	t.Helper()
	e, err := d.New(t.Context(), driver.Spec{ID: t.Name(), MemoryMB: 128})
	if err != nil {
		t.Fatal(err)
	}
	var out text
	cmd := driver.Command{Path: "/bin/sh", Args: []string{"-c", script}, Env: []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}}
	if err := e.Start(t.Context(), cmd, &out); err != nil {
		t.Fatal(err)
	}
	return e.(*native.Environment), &out
}

// ended waits for the end of an environment.
func ended(t *testing.T, e driver.Environment) driver.Exit {
	t.Helper()
	select {
	case <-e.Done():
		return e.Exit()
	case <-time.After(patience):
		t.Fatal("it does not end")
		return driver.Exit{}
	}
}

// TestRights: a function has none, can get none, and cannot leave the place it is in.
func TestRights(t *testing.T) {
	t.Parallel()
	e, out := shell(t, limited(t, 0, 0, 0), `
		grep core /proc/self/limits | tr -s ' '
		grep -E '^(Cap|NoNewPrivs|Seccomp:|Groups)' /proc/self/status | tr -d ' \t'
		echo files $(ulimit -n) core $(ulimit -c) $(ulimit -Hc); ulimit -c 0 2>/dev/null && echo core lowered
		echo user $(id -u) $(id -g)
		ls -d /proc/[0-9]* | wc -l | tr -d ' '
		cat /proc/1/status /proc/kcore /proc/keys 2>/dev/null | wc -c
		unshare -U true 2>/dev/null && echo namespace made
		mount -t tmpfs none /tmp 2>/dev/null && echo mounted
		for f in / /usr /etc /dev /proc/sys/kernel /var/task /init; do echo x 2>/dev/null >$f/x && echo wrote $f; done
		echo x >/proc/self/oom_score_adj && echo wrote /proc
		cat /init 2>/dev/null | wc -c
		echo said >/dev/stdout; true >/dev/null && echo null`)
	if exit := ended(t, e); exit.Code != 0 {
		t.Fatalf("%+v: %s", exit, out)
	}
	for _, want := range []string{
		"CapInh:0000000000000000\n", "CapPrm:0000000000000000\n", "CapEff:0000000000000000\n", "CapBnd:0000000000000000\n",
		"CapAmb:0000000000000000\n", "NoNewPrivs:1\n", "Seccomp:2\n", "Groups:\n", "Max core file size 1 1 bytes", "files 1024 ", "\n0\n", "said\n", "null\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	for _, bad := range []string{"core lowered", "user 0", "namespace made", "mounted", "wrote"} {
		if strings.Contains(out.String(), bad) {
			t.Errorf("%q in:\n%s", bad, out)
		}
	}
}

// TestOutOfMemory: what takes more memory than it may is killed, and the end says so at once.
func TestOutOfMemory(t *testing.T) {
	t.Parallel()
	e, out := shell(t, limited(t, 32<<20, 1, 64), "exec tail /dev/zero")
	exit := ended(t, e)
	if !exit.Started || !exit.OutOfMemory || exit.Signal != "killed" || exit.Killed {
		t.Errorf("%+v: %s", exit, out)
	}
	e, out = shell(t, limited(t, 0, 0, 0), "kill -9 $$")
	if exit := ended(t, e); exit.OutOfMemory || exit.Signal != "killed" {
		t.Errorf("%+v: %s", exit, out)
	}
}

// TestProcesses: there are only so many.
func TestProcesses(t *testing.T) {
	t.Parallel()
	e, out := shell(t, limited(t, 64<<20, 1, 8), "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; wait")
	if exit := ended(t, e); exit.Code == 0 || !strings.Contains(out.String(), "fork") {
		t.Errorf("%+v: %s", exit, out)
	}
}

// TestTemporary: /tmp is full long before the memory is, and nothing else can be written.
func TestTemporary(t *testing.T) {
	t.Parallel()
	e, out := shell(t, limited(t, 0, 0, 0), "head -c 100000000 /dev/zero >/tmp/big; head -c 100000000 /dev/zero >/dev/shm/big; ls -l /tmp")
	if exit := ended(t, e); exit.OutOfMemory || strings.Count(out.String(), "No space left") != 2 || !strings.Contains(out.String(), "67108864") {
		t.Errorf("%+v: %s", exit, out)
	}
}

// TestTemporarySize: /tmp is as large as was asked for, and at most half of the memory that it counts as.
func TestTemporarySize(t *testing.T) {
	t.Parallel()
	d := limited(t, 0, 0, 0)
	for _, size := range []struct{ memory, asked, want int }{{128, 0, 64}, {2048, 0, 512}, {2048, 600, 600}, {512, 600, 256}} {
		e, err := d.New(t.Context(), driver.Spec{ID: t.Name(), MemoryMB: size.memory, TemporaryMB: size.asked})
		if err != nil {
			t.Fatal(err)
		}
		var out text
		cmd := driver.Command{Path: "/bin/df", Args: []string{"-m", "--output=size", "/tmp"}, Env: []string{"LC_ALL=C"}}
		if err := e.Start(t.Context(), cmd, &out); err != nil {
			t.Fatal(err)
		}
		ended(t, e)
		if fields := strings.Fields(out.String()); len(fields) != 2 || fields[1] != strconv.Itoa(size.want) {
			t.Errorf("%+v: %s", size, &out)
		}
	}
}

// TestPeak: the most memory that an environment took is told, what lay in /tmp too, and stays when it is free again.
func TestPeak(t *testing.T) {
	t.Parallel()
	e, out := shell(t, limited(t, 0, 0, 0), "head -c 40000000 /dev/zero >/tmp/big; rm /tmp/big; echo done; read x </dev/zero")
	drivertest.Eventually(t, "it has written", func() bool {
		e.Drain()
		return strings.Contains(out.String(), "done")
	})
	peak, err := e.Peak()
	if now, _ := e.Memory(); err != nil || peak < 40_000_000 || peak > 128<<20 || now > peak {
		t.Errorf("%d bytes, now %d, %v", peak, now, err)
	}
	e.Kill()
	ended(t, e)
}

// TestProcessor: who may use a fifth of a core is made to wait.
func TestProcessor(t *testing.T) {
	t.Parallel()
	e, _ := shell(t, limited(t, 64<<20, 0.2, 8), "while :; do :; done")
	drivertest.Eventually(t, "it is made to wait", func() bool { return native.Throttled(e) > 2 })
	e.Kill()
	ended(t, e)
}

// TestFreeze: what is frozen stands still until it thaws, and can be killed as it is.
func TestFreeze(t *testing.T) {
	t.Parallel()
	d := limited(t, 0, 0, 0)
	e, out := shell(t, d, "while :; do echo x; done")
	drivertest.Eventually(t, "it runs", func() bool { return out.String() != "" })
	if err := e.Freeze(true); err != nil {
		t.Fatal(err)
	}
	drivertest.Eventually(t, "it has stopped", func() bool { return native.Frozen(e) })
	e.Drain()
	still := len(out.String())
	if err := e.Freeze(false); err != nil {
		t.Fatal(err)
	}
	drivertest.Eventually(t, "it goes on", func() bool { return len(out.String()) > still })
	if err := e.Freeze(true); err != nil {
		t.Fatal(err)
	}
	drivertest.Eventually(t, "it has stopped again", func() bool { return native.Frozen(e) })
	e.Kill()
	if exit := ended(t, e); !exit.Killed || exit.Signal != "killed" {
		t.Errorf("%+v", exit)
	}
	if err := e.Freeze(false); err == nil {
		t.Error("thawed after its end")
	}
}

// TestTooLong: what does not fit into a letter is refused, and ends the environment.
func TestTooLong(t *testing.T) {
	t.Parallel()
	e, err := limited(t, 0, 0, 0).New(t.Context(), driver.Spec{ID: "long"})
	if err != nil {
		t.Fatal(err)
	}
	cmd := driver.Command{Path: "/bin/true", Env: []string{"A=" + strings.Repeat("x", 600<<10)}}
	if err := e.Start(t.Context(), cmd, io.Discard); err == nil || !strings.Contains(err.Error(), "bytes") {
		t.Errorf("start: %v", err)
	}
	if exit := ended(t, e); exit.Started {
		t.Errorf("%+v", exit)
	}
}
