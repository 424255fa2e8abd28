//go:build amd64 || arm64

package native

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// v2 is the unified hierarchy. A group with processes of its own may not hand controllers to groups below it, so where the
// worker's group has none for us yet, the worker moves into a leaf of it first (systemd: Delegate=yes).
type v2 struct {
	parent string
	family family
	name   string
}

const leaf = "hearth-worker"

func newV2(own string, f family, block int) (*v2, error) {
	h := &v2{parent: own, family: f, name: f.name(block)}
	if filepath.Base(own) == leaf { // moved there by another driver of this process, or of a parent
		h.parent = filepath.Dir(own)
	}
	if err := h.hand(); err != nil {
		return nil, err
	}
	if err := os.Mkdir(h.folder(), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make a cgroup: %w", err)
	}
	err := hand(h.folder())
	if err == nil {
		err = limitTogether(h.folder())
	}
	if err != nil {
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}

var unified = []string{"memory", "cpu", "pids"}

// hand gives the controllers to the groups below one.
func hand(folder string) error {
	b, err := os.ReadFile(filepath.Join(folder, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("look for cgroup controllers: %w", err)
	}
	there := strings.Fields(string(b))
	for _, c := range unified {
		if !slices.Contains(there, c) {
			return fmt.Errorf("cgroup controller %s is not handed to this process's group %s: "+
				"with systemd, set Delegate=yes in the service's unit", c, folder)
		}
	}
	return write(folder, "cgroup.subtree_control", "+memory +cpu +pids")
}

// hand hands on the controllers of the worker's own group.
func (h *v2) hand() error {
	err := hand(h.parent)
	if err == nil {
		return nil
	}
	if !errors.Is(err, unix.EBUSY) {
		return err
	}
	below := filepath.Join(h.parent, leaf)
	if err := os.Mkdir(below, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make a cgroup for the worker itself: %w", err)
	}
	// All processes of the group, not this one alone: the rule is about the group.
	b, err := os.ReadFile(filepath.Join(h.parent, procsFile))
	if err != nil {
		return err
	}
	for _, pid := range strings.Fields(string(b)) {
		_ = write(below, procsFile, pid) // one that has ended since is none
	}
	return hand(h.parent)
}

func (h *v2) folder() string { return filepath.Join(h.parent, h.name) }

func (h *v2) leftovers() (map[int][]string, error) {
	found := map[int][]string{}
	return found, h.family.drivers(h.parent, found)
}

func (h *v2) charged() (memory int64, processor time.Duration, err error) {
	if memory, err = number(filepath.Join(h.folder(), "memory.current")); err != nil {
		return 0, 0, err
	}
	return memory, time.Duration(counter(filepath.Join(h.folder(), "cpu.stat"), "usage_usec")) * time.Microsecond, nil
}

func (h *v2) close() error { return removeGroup(h.folder()) }

// group2 is one environment's folder.
type group2 struct {
	path string
	dir  *os.File
}

func (h *v2) make(name string) (group, error) {
	path := filepath.Join(h.folder(), name)
	if err := os.Mkdir(path, 0o755); err != nil {
		return nil, fmt.Errorf("make a cgroup: %w", err)
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a cgroup: %w", err), removeGroup(path))
	}
	return &group2{path: path, dir: dir}, nil
}

func (g *group2) join() ([]uintptr, int) { return nil, int(g.dir.Fd()) }

func (g *group2) joined() { _ = g.dir.Close() }

func (g *group2) enter(pid int) error { return write(g.path, procsFile, strconv.Itoa(pid)) }

func (g *group2) limit(l limits) error {
	const period = 100_000 // us
	weight := min(10_000, max(1, int64(l.weight*100)))
	err := errors.Join(
		write(g.path, "memory.max", strconv.FormatInt(l.memory, 10)),
		write(g.path, "memory.oom.group", "1"),
		write(g.path, "cpu.max", fmt.Sprintf("%d %d", int64(l.cores*period), period)),
		write(g.path, "cpu.weight", strconv.FormatInt(weight, 10)),
		write(g.path, "pids.max", strconv.Itoa(l.pids)),
	)
	if swap := write(g.path, "memory.swap.max", "0"); swap != nil && (!errors.Is(swap, fs.ErrNotExist) || swapping()) {
		err = errors.Join(err, swap)
	}
	return err
}

func (g *group2) freeze(on bool) error {
	value := "0"
	if on {
		value = "1"
	}
	return write(g.path, "cgroup.freeze", value)
}

func (g *group2) outOfMemory() bool {
	return counter(filepath.Join(g.path, "memory.events"), "oom_kill") > 0
}

func (g *group2) processes() ([]int, error) { return processesIn(g.path) }

func (g *group2) usage() (int64, error) { return number(filepath.Join(g.path, "memory.current")) }

func (g *group2) peak() (int64, error) { return number(filepath.Join(g.path, "memory.peak")) }

func (g *group2) sockets() (int64, error) {
	return counter(filepath.Join(g.path, "memory.stat"), "sock"), nil
}

// end: what this hierarchy counted, its peak and who was killed, cannot be set back.
func (g *group2) end() bool { return false }

func (g *group2) again() (group, error) { return nil, errEnded }

func (g *group2) remove() error { return removeGroup(g.path) }
