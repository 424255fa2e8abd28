//go:build amd64 || arm64

package native

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// v1 is cgroups of version 1: a hierarchy a controller, below the worker's own group in each.
type v1 struct {
	parents map[string]string // by controller
	family  family
	name    string
	swap    bool // memory and swap together have a limit
}

var controllers = []string{"memory", "cpu", "pids", "freezer"}

const leastSockets = 8 * mb

const (
	tcpLimit  = "memory.kmem.tcp.limit_in_bytes"
	swapLimit = "memory.memsw.limit_in_bytes"
)

func newV1(found map[string]string, f family, block int) (*v1, error) {
	h := &v1{parents: map[string]string{}, family: f, name: f.name(block)}
	for _, c := range controllers {
		parent, ok := found[c]
		if !ok {
			return nil, fmt.Errorf("cgroup controller %s is not mounted: mount it, or start the kernel with it", c)
		}
		h.parents[c] = parent
	}
	for _, c := range controllers {
		if err := os.Mkdir(h.folder(c), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, errors.Join(fmt.Errorf("make a cgroup: %w", err), h.close())
		}
	}
	has := func(file string) bool {
		_, err := os.Stat(filepath.Join(h.folder("memory"), file))
		return err == nil
	}
	h.swap = has(swapLimit)
	switch {
	case !has(tcpLimit):
		return nil, errors.Join(errors.New("cgroups of this kernel have no limit for socket memory (memory.kmem.tcp.limit_in_bytes)"), h.close())
	case !h.swap && swapping():
		return nil, errors.Join(errors.New("cgroups of this kernel have no limit for swap, and this host swaps: boot with swapaccount=1, "+
			"or turn swap off"), h.close())
	}
	// All environments together weigh as much as the processes of a host that keep every core busy; their own weights are
	// against each other.
	err := write(h.folder("cpu"), "cpu.shares", strconv.Itoa(1024*runtime.NumCPU()))
	if err == nil {
		err = limitTogether(h.folder("pids"))
	}
	if err != nil {
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}

func (h *v1) folder(controller string) string { return filepath.Join(h.parents[controller], h.name) }

func (h *v1) leftovers() (map[int][]string, error) {
	found := map[int][]string{}
	for _, c := range []string{"freezer", "pids", "cpu", "memory"} { // thawed before it is killed
		if err := h.family.drivers(h.parents[c], found); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// charged reads the processor time where that is accounted in the folders of shares, as systemd mounts the two controllers.
func (h *v1) charged() (memory int64, processor time.Duration, err error) {
	if memory, err = number(filepath.Join(h.folder("memory"), "memory.usage_in_bytes")); err != nil {
		return 0, 0, err
	}
	ns, err := number(filepath.Join(h.folder("cpu"), "cpuacct.usage"))
	if err != nil {
		ns = -1
	}
	return memory, time.Duration(ns), nil
}

func (h *v1) close() error {
	var errs []error
	for _, c := range controllers {
		errs = append(errs, removeGroup(h.folder(c)))
	}
	return errors.Join(errs...)
}

// group1 is one environment's folders, as long as it is that one's.
type group1 struct {
	h     *v1
	name  string
	procs []uintptr
	set   limits // that it has

	mu     sync.RWMutex // held while something is read or set
	frozen bool
	unfit  bool // nobody knows what limits it has
	ended  bool
}

func (h *v1) make(name string) (group, error) {
	g := &group1{h: h, name: name}
	for _, c := range controllers {
		if err := unix.Mkdir(g.folder(c), 0o755); err != nil {
			return nil, errors.Join(fmt.Errorf("make a cgroup: %w", err), g.remove())
		}
	}
	if err := g.open(); err != nil {
		return nil, errors.Join(err, g.remove())
	}
	return g, nil
}

// open opens what a first process joins by.
func (g *group1) open() error {
	for _, c := range controllers {
		fd, err := unix.Open(filepath.Join(g.folder(c), tasksFile), unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			g.joined()
			return fmt.Errorf("open a cgroup: %w", err)
		}
		g.procs = append(g.procs, uintptr(fd))
	}
	return nil
}

// What may be charged to a group that is used again: what the kernel has not got round to, and shared things that stay with whoever
// had them first.
const (
	leftMemory  = 1 << 20
	leftSockets = 64 << 10
)

var errEnded = errors.New("the environment has ended")

func (g *group1) end() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ended = true
	return !g.frozen && !g.unfit
}

// again sets back what the worker reads of the next environment. A group of which a process was killed for want of memory says so
// for ever, and one that had much in memory would be said to have it: they are not used again.
func (g *group1) again() (group, error) {
	memory := g.folder("memory")
	for _, left := range []struct {
		folder, file string
		most         int64
	}{
		{g.folder("pids"), "pids.current", 0}, {memory, "memory.usage_in_bytes", leftMemory}, {memory, "memory.kmem.tcp.usage_in_bytes", leftSockets},
	} {
		if n, err := number(filepath.Join(left.folder, left.file)); err != nil || n > left.most {
			return nil, fmt.Errorf("%s of an ended group is %d: %w", left.file, n, err)
		}
	}
	if counter(filepath.Join(memory, "memory.oom_control"), "oom_kill") > 0 {
		return nil, errors.New("a process of an ended group was killed for want of memory")
	}
	if err := write(memory, "memory.max_usage_in_bytes", "0"); err != nil {
		return nil, err
	}
	next := &group1{h: g.h, name: g.name, set: g.set}
	return next, next.open()
}

// read reads a number of it, unless it is another's by now.
func (g *group1) read(controller, file string) (int64, error) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.ended {
		return 0, errEnded
	}
	return number(filepath.Join(g.folder(controller), file))
}

func (g *group1) folder(controller string) string {
	return filepath.Join(g.h.parents[controller], g.h.name, g.name)
}

func (g *group1) join() ([]uintptr, int) { return g.procs, -1 }

func (g *group1) joined() {
	for _, fd := range g.procs {
		_ = unix.Close(int(fd))
	}
	g.procs = nil
}

func (g *group1) enter(pid int) error {
	var errs []error
	for _, c := range controllers {
		errs = append(errs, write(g.folder(c), procsFile, strconv.Itoa(pid)))
	}
	return errors.Join(errs...)
}

func (g *group1) limit(l limits) error {
	if l == g.set {
		return nil // of the one before
	}
	memory, cpu := g.folder("memory"), g.folder("cpu")
	bytes := strconv.FormatInt(l.memory, 10)
	const period = 100_000 // us
	errs := []error{
		write(cpu, "cpu.cfs_quota_us", strconv.FormatInt(int64(l.cores*period), 10)),
		write(cpu, "cpu.shares", strconv.FormatInt(max(2, int64(l.weight*1024)), 10)),
		write(g.folder("pids"), "pids.max", strconv.Itoa(l.pids)),
		// Counted apart from memory: a quarter more is what a function may have at most.
		write(memory, tcpLimit, strconv.FormatInt(max(leastSockets, l.memory/4), 10)),
	}
	// That of memory is at most that with swap, at every moment.
	files := []string{"memory.limit_in_bytes", swapLimit}
	if !g.h.swap {
		files = files[:1]
	} else if g.set.memory > 0 && l.memory > g.set.memory {
		slices.Reverse(files)
	}
	for _, file := range files {
		errs = append(errs, write(memory, file, bytes))
	}
	err := errors.Join(errs...)
	g.set, g.unfit = l, err != nil
	return err
}

func (g *group1) freeze(on bool) error {
	state := "THAWED"
	if on {
		state = "FROZEN"
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended {
		return errEnded
	}
	g.frozen = on
	return write(g.folder("freezer"), "freezer.state", state)
}

func (g *group1) outOfMemory() bool {
	return counter(filepath.Join(g.folder("memory"), "memory.oom_control"), "oom_kill") > 0
}

func (g *group1) processes() ([]int, error) { return processesIn(g.folder("freezer")) }

func (g *group1) usage() (int64, error) {
	return g.read("memory", "memory.usage_in_bytes")
}

func (g *group1) peak() (int64, error) {
	return g.read("memory", "memory.max_usage_in_bytes")
}

func (g *group1) sockets() (int64, error) {
	return g.read("memory", "memory.kmem.tcp.usage_in_bytes")
}

func (g *group1) remove() error {
	var errs []error
	for _, c := range controllers {
		errs = append(errs, removeGroup(g.folder(c)))
	}
	return errors.Join(errs...)
}

// swapping tells whether this host can swap.
func swapping() bool {
	b, err := os.ReadFile("/proc/swaps")
	return err == nil && strings.Count(strings.TrimSpace(string(b)), "\n") > 0
}
