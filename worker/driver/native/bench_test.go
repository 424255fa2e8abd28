//go:build linux && (amd64 || arm64)

package native_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hearth-run/hearth/worker/driver"
	"github.com/hearth-run/hearth/worker/driver/drivertest"
	"github.com/hearth-run/hearth/worker/driver/native"
)

// starter starts the guest once, waits until it has reported, and ends it. It returns how long the report and the end took.
type starter func(t testing.TB) (cold, kill time.Duration)

// bare is a process of this host and nothing else.
func bare(t testing.TB, folder string) starter {
	cmd := drivertest.GuestCommand(t, folder)
	return func(t testing.TB) (time.Duration, time.Duration) {
		began := time.Now()
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Error(err)
			return 0, 0
		}
		defer l.Close()
		c := exec.Command(cmd.Path, cmd.Args...)
		c.Dir, c.Env = cmd.Dir, []string{"AWS_LAMBDA_RUNTIME_API=" + l.Addr().String()}
		if err := c.Start(); err != nil {
			t.Error(err)
			return 0, 0
		}
		conn := report(t, l)
		cold := time.Since(began)
		began = time.Now()
		_ = c.Process.Kill()
		_ = c.Wait()
		kill := time.Since(began)
		_ = conn.Close()
		return cold, kill
	}
}

// twin is a process in the same objects of the kernel as a sandbox has, and nothing of Hearth beside ([native.Twin]).
func twin(t testing.TB, folder string, o native.Objects) starter {
	cmd := drivertest.GuestCommand(t, folder)
	w := native.NewTwin(t, filepath.Join(drivertest.Folder(t), "tree"), folder, cmd.Args, o)
	return func(t testing.TB) (time.Duration, time.Duration) {
		began := time.Now()
		l, end, err := w.Start()
		if err != nil {
			t.Error(err)
			return 0, 0
		}
		conn := report(t, l)
		cold := time.Since(began)
		began = time.Now()
		if err := end(); err != nil {
			t.Error(err)
		}
		kill := time.Since(began)
		_ = conn.Close()
		return cold, kill
	}
}

// sandboxed is an environment of the driver, which reaches what its network says.
func sandboxed(t testing.TB, d driver.Driver, folder string, n *driver.Network) starter {
	cmd := drivertest.GuestCommand(t, folder)
	cmd.Path = filepath.Join("/var/task", filepath.Base(cmd.Path))
	return func(t testing.TB) (time.Duration, time.Duration) {
		began := time.Now()
		e, err := d.New(context.Background(), driver.Spec{ID: "bench", MemoryMB: 128})
		if err != nil {
			t.Error(err)
			return 0, 0
		}
		c := cmd
		c.Network = n
		c.Env = []string{"AWS_LAMBDA_RUNTIME_API=" + e.APIAddress()}
		if err := e.Start(context.Background(), c, io.Discard); err != nil {
			t.Error(err)
			return 0, 0
		}
		conn := report(t, e.Listener())
		cold := time.Since(began)
		began = time.Now()
		e.Kill()
		<-e.Done()
		kill := time.Since(began)
		_ = conn.Close()
		return cold, kill
	}
}

func report(t testing.TB, l net.Listener) net.Conn {
	conn, err := l.Accept()
	if err != nil {
		t.Error(err)
		return nil
	}
	if _, err := bufio.NewReader(conn).ReadBytes('\n'); err != nil {
		t.Error(err)
	}
	return conn
}

// cpuTime is what the processes of a cgroup have used, if the benchmark was started in one of its own (HEARTH_BENCH_CPUACCT is its
// cpuacct.usage): on a busy machine that tells more than a clock.
func cpuTime(b testing.TB) time.Duration {
	path := os.Getenv("HEARTH_BENCH_CPUACCT")
	if path == "" {
		return 0
	}
	text, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return time.Duration(n)
}

func median(of []time.Duration) float64 {
	slices.Sort(of)
	return float64(of[len(of)/2])
}

// BenchmarkCold compares one start after the other, a bare process, a sandbox with a network and one without a device in turn.
func BenchmarkCold(b *testing.B) {
	needsRoot(b)
	folder := drivertest.Folder(b)
	d := open(b)
	defer d.Close()
	alone := open(b).(*native.Driver)
	defer alone.Close()
	alone.Leave("device")
	starts := []starter{bare(b, folder), sandboxed(b, d, folder, &driver.Network{}), sandboxed(b, alone, folder, nil)}
	for _, s := range starts {
		s(b)
	}
	var cold, kill [3][]time.Duration
	for b.Loop() {
		for i, s := range starts {
			took, killed := s(b)
			cold[i], kill[i] = append(cold[i], took), append(kill[i], killed)
		}
	}
	b.ReportMetric(median(cold[0])/1e6, "bare-ms")
	b.ReportMetric(median(cold[1])/1e6, "native-ms")
	b.ReportMetric(median(cold[1])/median(cold[0]), "cold-ratio")
	b.ReportMetric(median(cold[1])/median(cold[2]), "network-ratio") // to a sandbox without a device
	b.ReportMetric(median(kill[1])/median(kill[2]), "network-kill-ratio")
	b.ReportMetric(median(kill[1])/1e6, "kill-ms")
}

// beside is how many start something side by side, HEARTH_BENCH_PARALLEL of them, so that all cores are busy: a sandbox waits for the
// kernel now and then (grace periods of RCU), so fewer would leave cores idle.
func beside() int {
	if most, err := strconv.Atoi(os.Getenv("HEARTH_BENCH_PARALLEL")); err == nil {
		return most
	}
	return 8 * runtime.GOMAXPROCS(0)
}

// turn is how many each of them starts before it is another's turn.
const turn = 6

// busyFor has starts and ends happen side by side, and tells how long that took, and the processor time of our cgroup.
func busyFor(b *testing.B, s starter) (spent, used time.Duration) {
	began, cpu := time.Now(), cpuTime(b)
	var wg sync.WaitGroup
	for range beside() {
		wg.Go(func() {
			for range turn {
				s(b)
			}
		})
	}
	wg.Wait()
	return time.Since(began), cpuTime(b) - cpu
}

// BenchmarkRate compares how many starts and ends a second fit when all cores are busy with them, in turns: of a bare process, of a
// sandbox, and of a process that has the kernel's objects of a sandbox and nothing else. The last is what the kernel itself leaves of
// the first: kernel-ratio is the most that rate-ratio can be. None of them sends a packet, so none has a device.
func BenchmarkRate(b *testing.B) {
	needsRoot(b)
	folder := drivertest.Folder(b)
	d := open(b)
	defer d.Close()
	starts := []starter{bare(b, folder), sandboxed(b, d, folder, &driver.Network{}), twin(b, folder, native.AllObjects)}
	var spent, used [3]time.Duration
	for b.Loop() {
		for i, s := range starts {
			took, cpu := busyFor(b, s)
			spent[i] += took
			used[i] += cpu
		}
	}
	many := turn * beside() * b.N
	b.ReportMetric(float64(spent[0])/float64(spent[1]), "rate-ratio")
	b.ReportMetric(float64(spent[0])/float64(spent[2]), "kernel-ratio")
	b.ReportMetric(float64(spent[2])/float64(spent[1]), "of-kernel")
	if used[1] > 0 {
		b.ReportMetric(float64(used[0])/float64(used[1]), "cpu-ratio")
		b.ReportMetric(float64(used[1])/float64(many)/1e6, "native-cpu-ms")
	}
	for i, name := range []string{"bare/s", "native/s", "kernel/s"} {
		b.ReportMetric(float64(many)/spent[i].Seconds(), name)
	}
}

// BenchmarkKernel is BenchmarkRate's price of the kernel, taken apart: what it takes for each of the objects of a sandbox more, in
// starts of a bare process.
func BenchmarkKernel(b *testing.B) {
	needsRoot(b)
	folder := drivertest.Folder(b)
	parts := []struct {
		name string
		has  native.Objects
	}{
		{"namespaces", native.Objects{}},
		{"groups", native.Objects{Groups: true}},
		{"mounts", native.Objects{Groups: true, Mounts: true}},
		{"masks", native.Objects{Groups: true, Mounts: true, Masks: true}},
		{"tap", native.AllObjects},
	}
	starts := []starter{bare(b, folder)}
	for _, p := range parts {
		starts = append(starts, twin(b, folder, p.has))
	}
	spent := make([]time.Duration, len(starts))
	for b.Loop() {
		for i, s := range starts {
			took, _ := busyFor(b, s)
			spent[i] += took
		}
	}
	for i, p := range parts {
		b.ReportMetric(float64(spent[i+1]-spent[i])/float64(spent[0]), p.name)
	}
}

// BenchmarkIdle is the memory of environments that wait for a call, HEARTH_BENCH_IDLE of them (100): what the host has less, and what
// is charged to them.
func BenchmarkIdle(b *testing.B) {
	needsRoot(b)
	folder := drivertest.Folder(b)
	d := open(b)
	defer d.Close()
	cmd := drivertest.GuestCommand(b, folder)
	cmd.Path = filepath.Join("/var/task", filepath.Base(cmd.Path))
	many, err := strconv.Atoi(os.Getenv("HEARTH_BENCH_IDLE"))
	if err != nil {
		many = 100
	}
	var taken, charged int64
	for b.Loop() {
		before := available(b)
		var all []driver.Environment
		var conns []net.Conn
		for i := range many {
			e, err := d.New(b.Context(), driver.Spec{ID: strconv.Itoa(i), MemoryMB: 128})
			if err != nil {
				b.Fatal(err)
			}
			all = append(all, e)
			c := cmd
			c.Network, c.Env = &driver.Network{}, []string{"AWS_LAMBDA_RUNTIME_API=" + e.APIAddress()}
			if err := e.Start(b.Context(), c, io.Discard); err != nil {
				b.Fatal(err)
			}
			conns = append(conns, report(b, e.Listener()))
		}
		taken = before - available(b)
		charged = 0
		for i, e := range all {
			n, err := e.(driver.Meter).Peak()
			if err != nil {
				b.Fatal(err)
			}
			charged += n
			e.Kill()
			<-e.Done()
			_ = conns[i].Close()
		}
	}
	b.ReportMetric(float64(taken)/float64(many)/(1<<20), "MiB/environment")
	b.ReportMetric(float64(taken)/(1<<20), "MiB")
	b.ReportMetric(float64(charged)/(1<<20), "charged-MiB")
}

// available is the memory that this host could give to new processes.
func available(b *testing.B) int64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "MemAvailable:" {
			n, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				b.Fatal(err)
			}
			return n << 10
		}
	}
	b.Fatal("no MemAvailable in /proc/meminfo")
	return 0
}
