// Package fabric runs the real programs in processes of their own for scenarios: it builds them once, starts, holds and
// kills them, and runs client commands against them. Nothing in it looks inside the processes.
//
//	Start         one `hearth up`: a whole fabric in a process
//	StartServer   a NATS server alone
//	StartSpread   managers and frontends, each a process, on a server of its own
package fabric

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// Options say how a fabric is started. Zero values are the command's defaults, but for the ports, which are free ones.
type Options struct {
	Data     string // default: a folder of the test
	Disk     *Disk  // where the fabric runs and Data is, if not in a folder of the test
	Managers int
	Capacity int
	Driver   string // default: process, for the scenarios' function tells this host what it does; see [Sandbox]
	Flags    []string
}

// Sandbox is the sandbox where tests run as root on Linux, and process elsewhere: for scenarios whose function needs nothing of
// this host.
func Sandbox() string {
	if runtime.GOOS == "linux" && os.Geteuid() == 0 {
		return "native"
	}
	return "process"
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
	Door
	*Process
	HTTP string // URL of its listener
	Data string
}

// Start runs `hearth up` and waits until it is ready. The test's cleanup stops it.
func Start(t testing.TB, o Options) *Fabric {
	t.Helper()
	bin, home := Build(t), t.TempDir()
	f := &Fabric{Data: o.Data}
	if f.Data == "" {
		dir := t.TempDir()
		if o.Disk != nil {
			dir = o.Disk.Dir
		}
		f.Data = filepath.Join(dir, "data")
	}
	ready := filepath.Join(home, "ready.json")
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
	args = append(args, o.Flags...)
	for _, kv := range patient(o.Flags) {
		args = append(args, "--set", kv)
	}
	path, args := o.Disk.enter(bin.Hearth, args...)
	f.Process = newProcess(t, "the fabric", path, args, environ(home))
	if err := f.start(); err != nil {
		t.Fatal(err)
	}
	var r Ready
	f.await("its ready file", readyWithin, func() bool { return readJSON(ready, &r) })
	f.Door = Door{NATS: r.NATS, Creds: o.Disk.seen(r.Creds), t: t, bin: bin, home: home, logs: f.Log}
	f.HTTP = r.HTTP
	return f
}

// readyWithin bounds the start of a process, and an answer of one, on a machine that has much else to do.
const readyWithin = 60 * time.Second

// patient is how long calls may wait where a scenario does not say so: more than by default, for on a machine that has much else to do
// an environment may take ten seconds to be made, and no scenario is about that. Less than a scenario waits until all is quiet: what
// nobody took lies on its arc for as long.
func patient(said []string) []string {
	const startBy = "start-by="
	if slices.ContainsFunc(said, func(s string) bool { return strings.HasPrefix(s, startBy) }) {
		return nil
	}
	return []string{startBy + "30s"}
}

// removeStale removes the ready file of an earlier start.
func removeStale(path string) { _ = os.Remove(path) }
