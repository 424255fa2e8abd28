//go:build linux && (amd64 || arm64)

package native_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/hearth-run/hearth/worker/driver"
	"github.com/hearth-run/hearth/worker/driver/drivertest"
	"github.com/hearth-run/hearth/worker/driver/native"
	"github.com/hearth-run/hearth/worker/driver/native/hostile"
)

// steps are what a sandbox without a fence is built without.
func steps(t *testing.T, f hostile.Fence) []string {
	t.Helper()
	masks, err := native.Masks()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for fence, names := range map[hostile.Fence][]string{
		hostile.Filter: {"filter system calls"},
		hostile.Rights: {"change user", "change group", "leave groups", "drop capabilities", "clear ambient capabilities", "secure bits",
			"bound capabilities"},
		hostile.NewRights:  {"gain no privileges"},
		hostile.Landlock:   {"restrict by landlock"},
		hostile.ReadOnly:   {"read-only mounts"},
		hostile.NoSUID:     {"mounts without setuid"},
		hostile.SysFiles:   {"read-only /proc"},
		hostile.Masks:      masks,
		hostile.HidePID:    {"hidepid=invisible"},
		hostile.CgroupView: {"make a cgroup namespace"},
		hostile.Resources:  {"limit a resource"},
	} {
		if f&fence != 0 {
			all = append(all, names...)
		}
	}
	return all
}

// prey is the world outside that the guest reaches for.
type prey struct {
	t      *testing.T
	code   string // folder with the guest and a setuid program
	inside hostile.Facts
	bare   *outside
}

// TestHostile is S70 at the driver: every probe is refused in the sandbox exactly as it says, and gets further where the fences
// that hold it are away.
func TestHostile(t *testing.T) {
	needsRoot(t)
	p := newPrey(t)
	places := map[hostile.Fence][]string{}
	want := map[hostile.Fence]map[string]string{}
	put := func(place hostile.Fence, name, outcome string) {
		if want[place] == nil {
			want[place] = map[string]string{}
		}
		places[place] = append(places[place], name)
		want[place][name] = outcome
	}
	probes := hostile.Probes()
	for _, probe := range probes {
		if path, ok := strings.CutPrefix(probe.Name, "proc/"); ok && !strings.Contains(path, " ") {
			if _, err := os.Lstat("/proc/" + path); err != nil {
				t.Logf("%s: this kernel has none", probe.Name)
				continue
			}
		}
		put(0, probe.Name, probe.Want)
		for _, c := range probe.Controls {
			if strings.Contains(probe.Name, "nobody named") && unknown(hostile.Newest) {
				t.Logf("%s: this kernel has no call so new", probe.Name)
				continue
			}
			put(c.Off, probe.Name, c.Then)
		}
	}
	t.Logf("%d probes in %d places", len(probes), len(places))
	order := make([]hostile.Fence, 0, len(places))
	for place := range places {
		order = append(order, place)
	}
	slices.Sort(order)
	for _, place := range order {
		t.Run(fmt.Sprintf("without %v", place), func(t *testing.T) {
			t.Parallel()
			var said string
			if place&hostile.Sandbox != 0 {
				said = p.bare.run(t, place&hostile.Ownership != 0, places[place])
			} else {
				said = p.sandboxed(t, place, places[place])
			}
			got := hostile.Read(said)
			for _, name := range places[place] {
				outcome, ok := got[name]
				switch {
				case !ok:
					t.Errorf("%s: no outcome", name)
				case !hostile.Met(outcome, want[place][name]):
					t.Errorf("%s: %s, want %s", name, outcome, want[place][name])
				}
			}
			if t.Failed() {
				t.Logf("the guest said %s", said)
			}
		})
	}
}

// TestHostileWithNetwork: the same probes of the network where the function has one. What is refused is refused as it says, and
// nothing of the device is the function's to change.
func TestHostileWithNetwork(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	p := newPrey(t)
	var names []string
	for _, probe := range hostile.Probes() {
		if strings.HasPrefix(probe.Name, "network/") || strings.HasPrefix(probe.Name, "sockets/") {
			names = append(names, probe.Name)
		}
	}
	d := p.driver(t, 0)
	e, err := d.New(t.Context(), driver.Spec{ID: "hostile", MemoryMB: 256})
	if err != nil {
		t.Fatal(err)
	}
	out := &text{}
	cmd := driver.Command{Path: "/var/task/guest", Args: hostile.Arguments(p.inside, names...), Dir: p.code, Network: &driver.Network{}}
	if err := e.Start(t.Context(), cmd, out); err != nil {
		t.Fatal(err)
	}
	ended(t, e)
	got := hostile.Read(out.String())
	for _, probe := range hostile.Probes() {
		if slices.Contains(names, probe.Name) && !hostile.Met(got[probe.Name], probe.Public()) {
			t.Errorf("%s: %q, want %s", probe.Name, got[probe.Name], probe.Public())
		}
	}
}

// unknown tells whether the kernel lacks a system call.
func unknown(number uintptr) bool {
	_, _, errno := syscall.Syscall(number, 0, 0, 0)
	return errno == syscall.ENOSYS
}

// TestProbes: each has a name of its own and a place where it gets further.
func TestProbes(t *testing.T) {
	t.Parallel()
	// Nothing stands behind these numbers: they are probed because a filter that is wrong might let them fall through.
	alone := []string{"kernel/no such call", "kernel/negative call", "kernel/x32 call", "kernel/x32 of what is refused"}
	seen := map[string]bool{}
	for _, p := range hostile.Probes() {
		if seen[p.Name] {
			t.Errorf("two probes %s", p.Name)
		}
		seen[p.Name] = true
		further := slices.ContainsFunc(p.Controls, func(c hostile.Control) bool { return c.Then == "" || !hostile.Met(p.Want, c.Then) })
		if !further && !slices.Contains(alone, p.Name) {
			t.Errorf("%s: no control in which it gets further", p.Name)
		}
	}
	if len(seen) < 60 {
		t.Errorf("%d probes", len(seen))
	}
}

func newPrey(t *testing.T) *prey {
	t.Helper()
	p := &prey{t: t, code: drivertest.Folder(t)}
	guest := drivertest.GuestCommand(t, p.code)
	// The setuid program lies below a folder that root alone enters; in the sandbox there is nothing above it.
	hidden := t.TempDir()
	task := filepath.Join(hidden, "task")
	b, err := os.ReadFile(guest.Path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(task, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"guest", "setuid"} {
		if err := os.WriteFile(filepath.Join(task, name), b, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(hidden, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(task, "setuid"), 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	p.bare = newOutside(t, guest.Path, hidden)
	p.code = task
	p.inside = p.bare.host
	p.inside.Task, p.inside.Setuid, p.inside.Neighbour = "/var/task", "/var/task/setuid", "/tmp/full"
	return p
}

// driver is a native driver without some fences.
func (p *prey) driver(t *testing.T, place hostile.Fence) *native.Driver {
	t.Helper()
	d := open(t).(*native.Driver)
	d.Leave(steps(t, place)...)
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return d
}

// sandboxed runs probes in a sandbox without some fences, beside one whose /tmp they look for.
func (p *prey) sandboxed(t *testing.T, place hostile.Fence, names []string) string {
	t.Helper()
	d := p.driver(t, place)
	neighbour, said := p.start(t, d, 128, hostile.Attack("tmp", 1))
	drivertest.Eventually(t, "the neighbour has its file", func() bool {
		drain(neighbour)
		return hostile.Read(said.String())["tmp"] == hostile.Done
	})
	e, out := p.start(t, d, 256, hostile.Arguments(p.inside, names...))
	ended(t, e)
	if exit := e.Exit(); exit.Code != 0 {
		t.Errorf("the guest ended with %+v and said %s", exit, out)
	}
	return out.String()
}

// start starts a guest in a new environment, which ends with the test.
func (p *prey) start(t *testing.T, d driver.Driver, megabytes int, arguments []string) (driver.Environment, *text) {
	t.Helper()
	e, err := d.New(t.Context(), driver.Spec{ID: "hostile", MemoryMB: megabytes})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		e.Kill()
		ended(t, e)
	})
	out := &text{}
	if err := e.Start(t.Context(), driver.Command{Path: "/var/task/guest", Args: arguments, Dir: p.code}, out); err != nil {
		t.Fatal(err)
	}
	return e, out
}

func drain(e driver.Environment) { e.(driver.Drainer).Drain() }

// TestGuestRefusesRoot: the guest does nothing to a host as its root.
func TestGuestRefusesRoot(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	if reason := hostile.Refuses(); !strings.Contains(reason, "root") {
		t.Errorf("it would run here: %q", reason)
	}
}
