//go:build linux && (amd64 || arm64)

package native_test

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/hearth-run/hearth/worker/driver"
	"github.com/hearth-run/hearth/worker/driver/drivertest"
	"github.com/hearth-run/hearth/worker/driver/native"
	"github.com/hearth-run/hearth/worker/driver/native/hostile"
	"github.com/hearth-run/hearth/worker/driver/uids"
)

// outOfMemory is the outcome of an attack that the kernel ended.
const outOfMemory = "out of memory"

// TestAttacks is the limits of S71 at the driver: whatever a function takes too much of, it gets what fits, and what does not fit
// is refused or ends it, by the limit of its own environment: the same attack with a smaller amount is the control.
func TestAttacks(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	p := &prey{t: t, code: drivertest.Folder(t)}
	drivertest.GuestCommand(t, p.code)
	d := limited(t, 0, 0, 0)
	for _, attack := range []struct {
		what       string
		megabytes  int
		fits, over int
		want       string
	}{
		{"descriptors", 128, 900, 1100, "EMFILE"},
		{"processes", 1024, 900, 1100, "EAGAIN"},
		{"anonymous", 128, 60, 200, outOfMemory},
		{"memfd", 128, 60, 200, outOfMemory},
		{"sysv", 128, 60, 200, outOfMemory},
		{"tmp", 128, 60, 70, "ENOSPC"},
		{"shm", 128, 14, 20, "ENOSPC"},
		{"both", 128, 14, 60, "ENOSPC"}, // both are memory, and full there is some left
		{"tmp inodes", 512, 60_000, 70_000, "ENOSPC"},
		{"shm inodes", 512, 60_000, 70_000, "ENOSPC"},
		{"unix", 128, 20, 200, outOfMemory + "|EAGAIN"},
		{"tcp", 128, 2, 200, outOfMemory + "|EAGAIN"},
		{"pipes", 128, 8, 200, outOfMemory + "|EAGAIN"},
	} {
		t.Run(attack.what, func(t *testing.T) {
			t.Parallel()
			for amount, want := range map[int]string{attack.fits: hostile.Done, attack.over: attack.want} {
				e, out := p.start(t, d, attack.megabytes, hostile.Attack(attack.what, amount))
				var outcome string
				drivertest.Eventually(t, fmt.Sprintf("taking %d has an end", amount), func() bool {
					drain(e)
					outcome = hostile.Read(out.String())[attack.what]
					return outcome != "" || over(e)
				})
				if outcome == "" {
					if exit := e.Exit(); exit.OutOfMemory {
						outcome = outOfMemory
					} else if outcome = hostile.Read(out.String())[attack.what]; outcome == "" {
						t.Errorf("%d: exit %+v, and said %s", amount, exit, out)
					}
				}
				if !hostile.Met(outcome, want) {
					t.Errorf("%d: %s, want %s", amount, outcome, want)
				}
				e.Kill()
				ended(t, e)
			}
		})
	}
}

func over(e driver.Environment) bool {
	select {
	case <-e.Done():
		return true
	default:
		return false
	}
}

// TestForkBomb: what forks without end, each process in a session of its own, is gone after its kill, and its neighbour runs
// meanwhile.
func TestForkBomb(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	p := &prey{t: t, code: drivertest.Folder(t)}
	drivertest.GuestCommand(t, p.code)
	d := limited(t, 256<<20, 1, 200)
	bomb, said := p.start(t, d, 256, hostile.Attack("bomb", 0))
	drivertest.Eventually(t, "it begins", func() bool {
		drain(bomb)
		return said.String() != ""
	})
	most := processesOfEnvironments(t)
	drivertest.Eventually(t, "it has what it may have", func() bool {
		for uid, n := range processesOfEnvironments(t) {
			most[uid] = max(most[uid], n)
		}
		return slices.Max(values(most)) >= 150
	})
	neighbour, out := p.start(t, d, 128, hostile.Attack("descriptors", 100))
	drivertest.Eventually(t, "the neighbour does its work", func() bool {
		drain(neighbour)
		return hostile.Read(out.String())["descriptors"] == hostile.Done
	})
	var uid uint32
	for u, n := range most {
		if n == slices.Max(values(most)) {
			uid = u
		}
	}
	bomb.Kill()
	if exit := ended(t, bomb); !exit.Killed {
		t.Errorf("exit %+v", exit)
	}
	if n := processesOfEnvironments(t)[uid]; n > 0 {
		t.Errorf("%d processes are left", n)
	}
	if n := slices.Max(values(most)); n > 200 {
		t.Errorf("%d processes of 200", n)
	}
}

// TestTogether: all environments leave the host processes to start, however many there are of them.
func TestTogether(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	p := &prey{t: t, code: drivertest.Folder(t)}
	drivertest.GuestCommand(t, p.code)
	d := limited(t, 128<<20, 1, 500)
	if _, err := d.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("/proc/sys/kernel/pid_max")
	if err != nil {
		t.Fatal(err)
	}
	host, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	limit := native.Together(d.(*native.Driver))
	b, err = os.ReadFile(limit)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err != nil || n >= host || n < host/2 {
		t.Errorf("all environments may have %q processes of %d", b, host)
	}
	// With fewer, to see that it holds across environments.
	if err := os.WriteFile(limit, []byte("100"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{hostile.Done, "EAGAIN"} {
		e, out := p.start(t, d, 128, hostile.Attack("processes", 60))
		drivertest.Eventually(t, "taking 60 has an end", func() bool {
			drain(e)
			return hostile.Read(out.String())["processes"] != "" || over(e)
		})
		if outcome := hostile.Read(out.String())["processes"]; outcome != want {
			t.Errorf("%s, want %s: %s", outcome, want, out)
		}
	}
}

func values(m map[uint32]int) []int {
	all := []int{0}
	for _, n := range m {
		all = append(all, n)
	}
	return all
}

// processesOfEnvironments counts those of each uid that environments have.
func processesOfEnvironments(t *testing.T) map[uint32]int {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	found := map[uint32]int{}
	for _, entry := range entries {
		if strings.Trim(entry.Name(), "0123456789") != "" {
			continue
		}
		if info, err := entry.Info(); err == nil {
			if s, ok := info.Sys().(*syscall.Stat_t); ok && uids.In(s.Uid) {
				found[s.Uid]++
			}
		}
	}
	return found
}
