//go:build amd64 || arm64

package native

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// hierarchy is the cgroups of a host, of version 1 or 2: where environments of one driver lie in them.
type hierarchy interface {
	// make makes the group of one environment.
	make(name string) (group, error)
	// leftovers lists the folders that drivers made, by the number of their uid block.
	leftovers() (map[int][]string, error)
	// charged is bytes of memory that all groups are charged with now, and the processor time that they took, those that are gone too.
	charged() (memory int64, processor time.Duration, err error)
	// close removes what is shared by the driver's groups.
	close() error
}

// group is one environment's cgroup.
type group interface {
	// join is descriptors: of the files that a first process writes itself into, or of the folder that it is started in,
	// else -1.
	join() (procs []uintptr, folder int)
	// joined closes them.
	joined()
	// enter moves a process into it, with all its threads.
	enter(pid int) error
	// limit bounds memory, processor and processes, before anything of an account runs.
	limit(l limits) error
	// freeze stops all processes, or lets them go on.
	freeze(on bool) error
	// outOfMemory tells whether the kernel killed a process for want of memory.
	outOfMemory() bool
	// processes are the numbers of those in it, as this process sees them.
	processes() ([]int, error)
	// usage is bytes of memory that are charged now.
	usage() (int64, error)
	// peak is the most of that there was.
	peak() (int64, error)
	// sockets is bytes that its sockets are charged with now.
	sockets() (int64, error)
	// end says that its environment has ended: nothing is read or set by this value any more. It reports whether the group may be
	// used again.
	end() bool
	// again is the same group for the next environment, as if it were new; an error says why it is not.
	again() (group, error)
	// remove removes the group, which has no process any more.
	remove() error
}

// limits is what one environment may use.
type limits struct {
	memory int64   // bytes; sockets' buffers and swap count
	cores  float64 // at most
	weight float64 // against others, 1 for a whole core's worth of memory
	pids   int
}

// family is the names of drivers' folders that keep their locks in one place: the number of a driver's uid block follows, whose
// lock tells whether it lives.
type family string

func familyOf(locks string) family {
	h := fnv.New32a()
	_, _ = h.Write([]byte(locks)) // cannot fail
	return family(fmt.Sprintf("hearth-%08x-", h.Sum32()))
}

func (f family) name(block int) string { return string(f) + strconv.Itoa(block) }

const procsFile = "cgroup.procs"

// tasksFile is where one thread joins a group of version 1. A process that has one alone is moved by it without a lock that all
// forks and ends of processes on the host wait for, which cgroup.procs takes, once a controller.
const tasksFile = "tasks"

// Times of what the kernel does behind the end of a process.
const (
	emptyWait  = 10 * time.Second
	emptyFirst = 100 * time.Microsecond
	emptyMost  = 20 * time.Millisecond
)

// write sets a value of a group.
func write(folder, file, value string) error {
	// Without the os package, which would ask whether it can be polled: there are a dozen of these a start.
	fd, err := unix.Open(filepath.Join(folder, file), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		_, err = unix.Write(fd, []byte(value))
		err = errors.Join(err, unix.Close(fd))
	}
	if err != nil {
		return fmt.Errorf("set %s of cgroup %s to %q: %w", file, folder, value, err)
	}
	return nil
}

// limitTogether bounds the processes of all environments of a driver: each may have some, and where a host has the numbers of
// old (kernel.pid_max 32768), two dozen that take all of theirs would leave it none to start anything with.
func limitTogether(folder string) error {
	most, err := number("/proc/sys/kernel/pid_max")
	if err != nil {
		return fmt.Errorf("read how many processes this host may have: %w", err)
	}
	return write(folder, "pids.max", strconv.FormatInt(most-most/4, 10))
}

// removeGroup removes a folder, whose last process may still be on its way out.
func removeGroup(path string) error {
	deadline := time.Now().Add(emptyWait)
	for pause := emptyFirst; ; pause = min(2*pause, emptyMost) {
		err := unix.Rmdir(path)
		switch {
		case err == nil || errors.Is(err, unix.ENOENT):
			return nil
		case !errors.Is(err, unix.EBUSY) || time.Now().After(deadline):
			return &fs.PathError{Op: "remove cgroup", Path: path, Err: err}
		}
		<-time.After(pause)
	}
}

// read is what a file of the kernel says that is short. Without the os package, as write.
func read(path string) (string, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var b [4 << 10]byte // the kernel gives such a file at once
	n, err := unix.Read(fd, b[:])
	if err != nil {
		return "", &fs.PathError{Op: "read", Path: path, Err: err}
	}
	return string(b[:n]), nil
}

// counter reads one number of a file of "name number" lines.
func counter(path, name string) int64 {
	text, err := read(path)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && key == name {
			n, _ := strconv.ParseInt(value, 10, 64)
			return n
		}
	}
	return 0
}

func number(path string) (int64, error) {
	text, err := read(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(text), 10, 64)
}

// processesIn are the numbers of the processes of a group.
func processesIn(folder string) ([]int, error) {
	b, err := os.ReadFile(filepath.Join(folder, procsFile))
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, field := range strings.Fields(string(b)) {
		if pid, err := strconv.Atoi(field); err == nil && pid > 0 { // 0: of another namespace
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// killGroup ends what is left of a driver that was killed in one of its folders, and removes it with those below it.
func killGroup(path string) error {
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, entry := range entries {
		if entry.IsDir() {
			errs = append(errs, killGroup(filepath.Join(path, entry.Name())))
		}
	}
	// A frozen process survives its killing until it thaws (v1).
	_ = write(path, "freezer.state", "THAWED")
	_ = write(path, "cgroup.freeze", "0")
	_ = write(path, "cgroup.kill", "1")
	deadline := time.Now().Add(emptyWait)
	for pause := emptyFirst; ; pause = min(2*pause, emptyMost) {
		b, err := os.ReadFile(filepath.Join(path, procsFile))
		if err != nil {
			errs = append(errs, err)
			break
		}
		pids := strings.Fields(string(b))
		if len(pids) == 0 || time.Now().After(deadline) {
			break
		}
		for _, pid := range pids {
			if n, err := strconv.Atoi(pid); err == nil && n > 1 {
				_ = syscall.Kill(n, syscall.SIGKILL)
			}
		}
		<-time.After(pause)
	}
	return errors.Join(append(errs, removeGroup(path))...)
}

// drivers lists folders of drivers below a parent, by the numbers of their blocks.
func (f family) drivers(parent string, into map[int][]string) error {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		rest, ok := strings.CutPrefix(entry.Name(), string(f))
		if n, err := strconv.Atoi(rest); ok && err == nil && entry.IsDir() {
			into[n] = append(into[n], filepath.Join(parent, entry.Name()))
		}
	}
	return nil
}

// mounted are the cgroup hierarchies of this host that this process is in: by controller (v1), and "" for the unified one (v2).
// A path is the process's own group.
func mounted() (map[string]string, error) {
	own := map[string]string{}
	b, err := os.ReadFile("/proc/thread-self/cgroup")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(b)) {
		if parts := strings.SplitN(strings.TrimSpace(line), ":", 3); len(parts) == 3 {
			for controller := range strings.SplitSeq(parts[1], ",") {
				own[controller] = parts[2]
			}
		}
	}
	if b, err = os.ReadFile("/proc/thread-self/mountinfo"); err != nil {
		return nil, err
	}
	found := map[string]string{}
	for line := range strings.Lines(string(b)) {
		left, right, ok := strings.Cut(line, " - ")
		fields, kinds := strings.Fields(left), strings.Fields(right)
		if !ok || len(fields) < 5 || len(kinds) < 3 {
			continue
		}
		root, point := fields[3], fields[4]
		names := []string{}
		switch kinds[0] {
		case "cgroup2":
			names = []string{""}
		case "cgroup":
			names = strings.Split(kinds[2], ",")
		}
		for _, name := range names {
			path, there := own[name]
			if !there {
				continue
			}
			// A mount may show a part of the hierarchy only.
			inside, err := filepath.Rel(root, path)
			if err != nil || strings.HasPrefix(inside, "..") {
				continue
			}
			found[name] = filepath.Join(point, inside)
		}
	}
	return found, nil
}

// findHierarchy chooses: version 1 where its controllers are mounted, for then version 2 has none.
func findHierarchy(f family, block int) (hierarchy, error) {
	found, err := mounted()
	if err != nil {
		return nil, fmt.Errorf("look for cgroups: %w", err)
	}
	if _, ok := found["memory"]; ok {
		return newV1(found, f, block)
	}
	if path, ok := found[""]; ok {
		return newV2(path, f, block)
	}
	return nil, errors.New("no cgroup hierarchy is mounted: mount cgroup2 on /sys/fs/cgroup, or run on a host that does")
}

// groupsBelow lists the groups in one.
func groupsBelow(path string) ([]string, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var below []string
	for _, entry := range entries {
		if entry.IsDir() {
			below = append(below, filepath.Join(path, entry.Name()))
		}
	}
	return below, nil
}
