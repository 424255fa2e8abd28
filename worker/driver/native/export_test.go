//go:build linux && (amd64 || arm64)

package native

import (
	"os"
	"path/filepath"
	"strings"
)

// Limit makes a driver give environments other limits than their memory's.
func Limit(d *Driver, memory int64, cores float64, pids int) {
	d.limits = func(int) limits { return limits{memory: memory, cores: cores, weight: 1, pids: pids} }
}

// Frozen tells whether everything in an environment has stopped.
func Frozen(e *Environment) bool {
	switch g := e.sandbox.group.(type) {
	case *group1:
		b, _ := os.ReadFile(filepath.Join(g.folder("freezer"), "freezer.state"))
		return strings.TrimSpace(string(b)) == "FROZEN"
	case *group2:
		return counter(filepath.Join(g.path, "cgroup.events"), "frozen") == 1
	}
	return false
}

// Throttled is how often an environment had to wait for processor time that was free.
func Throttled(e *Environment) int64 {
	switch g := e.sandbox.group.(type) {
	case *group1:
		return counter(filepath.Join(g.folder("cpu"), "cpu.stat"), "nr_throttled")
	case *group2:
		return counter(filepath.Join(g.path, "cpu.stat"), "nr_throttled")
	}
	return 0
}

// Folders are the cgroups of drivers on this host that keep their locks where this one does.
func Folders(d *Driver) []string {
	found, err := d.cgroups.leftovers()
	if err != nil {
		panic(err)
	}
	var all []string
	for _, paths := range found {
		all = append(all, paths...)
	}
	return all
}

// Own are those of the driver itself.
func Own(d *Driver) []string {
	found, err := d.cgroups.leftovers()
	if err != nil {
		panic(err)
	}
	return found[d.users.Number]
}

// Elsewhere has the helper of networks of a driver that was not used yet start in another place: where moves the thread there.
func Elsewhere(d *Driver, where func() error) { d.elsewhere = where }

// Making has a driver that was not used yet call f when it is about to make a device.
func Making(d *Driver, f func()) { d.making = f }

// Helper is the process that serves networks, 0 for none, and how many were started.
func Helper(d *Driver) (pid, started int) { return d.egress.Helper() }

// Forget makes the stock of a driver forget its demand.
func Forget(d *Driver) {
	d.stock.mu.Lock()
	defer d.stock.mu.Unlock()
	clear(d.stock.taken[:])
}

// Trim removes the cgroups of a driver that no environment has.
func Trim(d *Driver) error { return d.groups.trim(0) }

// Spare is how many cgroups of a driver no environment has.
func Spare(d *Driver) int {
	d.groups.mu.Lock()
	defer d.groups.mu.Unlock()
	return len(d.groups.spare) + len(d.groups.unfit)
}

// Reused is how many environments had the cgroup of one before them.
func Reused(d *Driver) uint64 {
	d.groups.mu.Lock()
	defer d.groups.mu.Unlock()
	return d.groups.reused
}

// Group is an environment's cgroup.
func Group(e *Environment) string {
	if g, ok := e.sandbox.group.(*group1); ok {
		return g.folder("memory")
	}
	return ""
}
