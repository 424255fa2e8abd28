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

// BenchmarkRate compares how many starts and ends a second fit when all cores are busy with them, in turns.
func BenchmarkRate(b *testing.B) {
	needsRoot(b)
	folder := drivertest.Folder(b)
	d := open(b)
	defer d.Close()
	starts := []starter{bare(b, folder), sandboxed(b, d, folder, &driver.Network{})}
	most, err := strconv.Atoi(os.Getenv("HEARTH_BENCH_PARALLEL"))
	if err != nil {
		most = 4
	}
	const turn = 40
	var spent, used [2]time.Duration
	for b.Loop() {
		for i, s := range starts {
			began, cpu := time.Now(), cpuTime(b)
			var wg sync.WaitGroup
			for range most {
				wg.Go(func() {
					for range turn / most {
						s(b)
					}
				})
			}
			wg.Wait()
			spent[i] += time.Since(began)
			used[i] += cpuTime(b) - cpu
		}
	}
	b.ReportMetric(float64(spent[0])/float64(spent[1]), "rate-ratio")
	if used[1] > 0 {
		b.ReportMetric(float64(used[0])/float64(used[1]), "cpu-ratio")
		b.ReportMetric(float64(used[1])/float64(turn*b.N)/1e6, "native-cpu-ms")
	}
	b.ReportMetric(float64(turn*b.N)/spent[0].Seconds(), "bare/s")
	b.ReportMetric(float64(turn*b.N)/spent[1].Seconds(), "native/s")
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
