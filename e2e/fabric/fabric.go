// Package fabric runs the real command in processes of its own for scenarios: it builds the binary once, starts and
// kills fabrics, and runs client commands against them. Nothing in it looks inside the processes.
package fabric

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hearth-run/hearth/client"
)

// Binaries are the command and the scenarios' function, built once a test run.
type Binaries struct {
	Hearth string
	Fn     string
	dir    string
}

var build = sync.OnceValues(func() (*Binaries, error) {
	dir, err := os.MkdirTemp("", "hearth-e2e-")
	if err != nil {
		return nil, err
	}
	b := &Binaries{Hearth: filepath.Join(dir, "hearth"), Fn: filepath.Join(dir, "fn", "bootstrap"), dir: dir}
	if err := goBuild(b.Hearth, "github.com/hearth-run/hearth/cmd/hearth", os.Environ()); err != nil {
		return nil, err
	}
	return b, goBuild(b.Fn, "github.com/hearth-run/hearth/e2e/fn", append(os.Environ(), "CGO_ENABLED=0"))
})

func goBuild(out, pkg string, env []string) error {
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", out, pkg)
	cmd.Env = env
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, text)
	}
	return nil
}

// Build gives the binaries, building them the first time.
func Build(t testing.TB) *Binaries {
	t.Helper()
	b, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Cleanup removes what [Build] made; TestMain calls it last.
func Cleanup() {
	if b, err := build(); err == nil {
		_ = os.RemoveAll(b.dir)
	}
}

// Options say how a fabric is started. Zero values are the command's defaults, but for the ports, which are free ones.
type Options struct {
	Data     string // default: a folder of the test
	Managers int
	Capacity int
	Driver   string
	Flags    []string
}

// Ready is what the command writes to its ready file.
type Ready struct {
	HTTP  string `json:"http"`
	NATS  string `json:"nats"`
	Creds string `json:"creds"`
	PID   int    `json:"pid"`
}

// Fabric is one `hearth up` in a process of its own.
type Fabric struct {
	Ready
	Data string

	t    testing.TB
	bin  *Binaries
	home string
	cmd  *exec.Cmd
	done chan struct{}
	err  error
	log  *buffer
}

// Start runs `hearth up` and waits until it is ready. The test's cleanup stops it.
func Start(t testing.TB, o Options) *Fabric {
	t.Helper()
	bin := Build(t)
	f := &Fabric{t: t, bin: bin, Data: o.Data, home: t.TempDir(), done: make(chan struct{}), log: &buffer{}}
	if f.Data == "" {
		f.Data = filepath.Join(t.TempDir(), "data")
	}
	ready := filepath.Join(f.home, "ready.json")
	args := []string{"up", "--data", f.Data, "--nats", "127.0.0.1:0", "--http", "127.0.0.1:0", "--ready-file", ready}
	if o.Managers > 0 {
		args = append(args, "--managers", fmt.Sprint(o.Managers))
	}
	if o.Capacity > 0 {
		args = append(args, "--capacity", fmt.Sprint(o.Capacity))
	}
	if o.Driver != "" {
		args = append(args, "--driver", o.Driver)
	}
	f.cmd = exec.Command(bin.Hearth, append(args, o.Flags...)...)
	f.cmd.Env = f.environ()
	f.cmd.Stdout, f.cmd.Stderr = f.log, f.log
	if err := f.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // owned by Stop, which waits for done
		f.err = f.cmd.Wait()
		close(f.done)
	}()
	t.Cleanup(func() { f.Stop() })
	f.await("ready", 40*time.Second, func() bool {
		b, err := os.ReadFile(ready)
		return err == nil && json.Unmarshal(b, &f.Ready) == nil
	})
	return f
}

func (f *Fabric) await(what string, within time.Duration, cond func() bool) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-f.done:
			f.t.Fatalf("%s: the fabric ended: %v\n%s", what, f.err, f.log)
		case <-ctx.Done():
			f.t.Fatalf("%s: not within %v\n%s", what, within, f.log)
		case <-tick.C:
		}
	}
}

// Stop ends the fabric in order and waits; safe twice and after Kill.
func (f *Fabric) Stop() {
	f.t.Helper()
	_ = f.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-f.done:
	case <-time.After(40 * time.Second):
		_ = f.cmd.Process.Kill()
		<-f.done
		f.t.Errorf("the fabric did not stop within 40 s\n%s", f.log)
	}
}

// Kill ends the process with SIGKILL and waits.
func (f *Fabric) Kill() {
	_ = f.cmd.Process.Kill()
	<-f.done
}

func (f *Fabric) environ() []string {
	env := []string{"HOME=" + f.home, "XDG_CONFIG_HOME=" + filepath.Join(f.home, "config"), "NO_COLOR=1"}
	for _, name := range []string{"PATH", "TMPDIR", "CI"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// Result is how a client command ended.
type Result struct {
	Code           int
	Stdout, Stderr string
}

// CLI runs a client command against the fabric, with standard input empty.
func (f *Fabric) CLI(args ...string) Result {
	f.t.Helper()
	cmd := exec.Command(f.bin.Hearth, args...)
	cmd.Env = append(f.environ(), "HEARTH_SERVER="+f.NATS, "HEARTH_CREDS="+f.Creds)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		f.t.Fatal(err)
	}
	return Result{Code: cmd.ProcessState.ExitCode(), Stdout: out.String(), Stderr: errs.String()}
}

// MustCLI is [Fabric.CLI] for what has to succeed.
func (f *Fabric) MustCLI(args ...string) string {
	f.t.Helper()
	r := f.CLI(args...)
	if r.Code != 0 {
		f.t.Fatalf("hearth %s: exit %d\n%s%s\nfabric:\n%s", strings.Join(args, " "), r.Code, r.Stdout, r.Stderr, f.log)
	}
	return r.Stdout
}

// DeployFn deploys the scenarios' function under a name.
func (f *Fabric) DeployFn(name string, flags ...string) {
	f.t.Helper()
	f.MustCLI(append([]string{"deploy", name, filepath.Dir(f.bin.Fn), "--runtime", "provided"}, flags...)...)
}

// Anonymous is a Go client without any credential, as every process of the host may have.
func (f *Fabric) Anonymous() *client.Client { return f.connect(client.Options{URL: f.NATS}) }

func (f *Fabric) connect(o client.Options) *client.Client {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := client.Connect(ctx, o)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { c.Close() })
	return c
}

// buffer is a bytes.Buffer that a process writes while a test reads.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
