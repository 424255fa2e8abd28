package fabric

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/schema"
)

// Door is how a scenario reaches a fabric: the command, and the Go client.
type Door struct {
	NATS  string // URL of the server
	Creds string // file of the admin's credential; "" for a server that asks for none

	t    testing.TB
	bin  *Binaries
	home string
	logs func() string // of the fabric's processes

	looks  sync.Once
	looker *client.Client // of Ring
}

// environ is the environment of every command: a home of its own, and nothing else that could tell it where a fabric is.
func environ(home string) []string {
	env := []string{"HOME=" + home, "XDG_CONFIG_HOME=" + filepath.Join(home, "config"), "NO_COLOR=1"}
	// The scenarios' function tells the test of this host what it does, and no sandbox would let it.
	env = append(env, "HEARTH_DRIVER=process")
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
func (d *Door) CLI(args ...string) Result {
	d.t.Helper()
	cmd := exec.Command(d.bin.Hearth, args...)
	cmd.Env = append(environ(d.home), "HEARTH_SERVER="+d.NATS)
	if d.Creds != "" {
		cmd.Env = append(cmd.Env, "HEARTH_CREDS="+d.Creds)
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		d.t.Fatal(err)
	}
	return Result{Code: cmd.ProcessState.ExitCode(), Stdout: out.String(), Stderr: errs.String()}
}

// MustCLI is [Door.CLI] for what has to succeed.
func (d *Door) MustCLI(args ...string) string {
	d.t.Helper()
	r := d.CLI(args...)
	if r.Code != 0 {
		d.t.Fatalf("hearth %s: exit %d\n%s%s\nfabric:\n%s", strings.Join(args, " "), r.Code, r.Stdout, r.Stderr, d.logs())
	}
	return r.Stdout
}

// DeployFn deploys the scenarios' function under a name.
func (d *Door) DeployFn(name string, flags ...string) {
	d.t.Helper()
	d.MustCLI(append([]string{"deploy", name, filepath.Dir(d.bin.Fn), "--runtime", "provided"}, flags...)...)
}

// Anonymous is a Go client without any credential, as every process of the host may have. Its connection comes back
// quickly.
func (d *Door) Anonymous() *client.Client { return d.connect(client.Options{URL: d.NATS}) }

// Admin is a Go client with the admin's credential.
func (d *Door) Admin() *client.Client { return d.connect(client.Options{URL: d.NATS, Creds: d.Creds}) }

// Ring is what `hearth ring` shows, of a function or of all arcs. Scenarios look at it until something is so: a command for each
// look would be most of what the machine does.
func (d *Door) Ring(function string) *schema.RingOutput {
	d.t.Helper()
	d.looks.Do(func() { d.looker = d.Admin() })
	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	ring, err := d.looker.Ring(ctx, function)
	if err != nil {
		d.t.Fatalf("look at the ring: %v\nfabric:\n%s", err, d.logs())
	}
	return ring
}

func (d *Door) connect(o client.Options) *client.Client {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	o.NATS = append(o.NATS, nats.Timeout(readyWithin/4), nats.ReconnectWait(10*time.Millisecond), nats.ReconnectJitter(10*time.Millisecond, 10*time.Millisecond))
	c, err := client.Connect(ctx, o)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { c.Close() })
	return c
}

// readJSON reads a file that a process writes whole when it is ready.
func readJSON(path string, v any) bool {
	b, err := os.ReadFile(path)
	return err == nil && json.Unmarshal(b, v) == nil
}
