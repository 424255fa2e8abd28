//go:build amd64 || arm64

package hostile

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// bare is the control in which there is no sandbox; those that reach for what others own may read it there.
var (
	bare      = []Control{off(Sandbox)}
	bareOwner = []Control{off(Sandbox | Ownership)}
)

// fileProbes reach for files of the host, of others, and for what is shared with them.
func fileProbes() []Probe {
	layers := func(inner string) []Control {
		return []Control{off(Rights|Landlock|ReadOnly, Done), off(Rights|Landlock, inner)}
	}
	return []Probe{
		{"files/shadow", "ENOENT", bareOwner, func(*Facts) error { return read("/etc/shadow") }},
		{"files/root's home", "ENOENT", bareOwner, func(*Facts) error { return list("/root") }},
		{"files/data folder", "ENOENT", bareOwner, func(f *Facts) error { return list(f.Folder) }},
		{"files/tmp of the host", "ENOENT", bare, func(f *Facts) error { return read(f.Planted) }},
		{"files/tmp of the neighbour", "ENOENT", bare, func(f *Facts) error { return read(f.Neighbour) }},
		{"files/above the root", "ENOENT", bare, func(f *Facts) error { return climb(f.Planted) }},
		{"files/write to usr", "EACCES", layers("EROFS"), func(*Facts) error { return open("/usr/lib/os-release") }},
		{"files/write to etc", "EACCES", layers("EROFS"), func(*Facts) error { return open("/etc/passwd") }},
		{"files/create in the root", "EROFS", layers("EROFS"), func(*Facts) error { return create("/made") }},
		{"files/create in etc", "EROFS", layers("EROFS"), func(*Facts) error { return create("/etc/made") }},
		{"files/create in dev", "EROFS", layers("EROFS"), func(*Facts) error { return create("/dev/made") }},
		{"files/times of a device", "EROFS", []Control{off(ReadOnly)}, func(*Facts) error { return unix.UtimesNanoAt(unix.AT_FDCWD, "/dev/null", nil, 0) }},
		{"files/create in task", "EROFS", layers("EROFS"), func(f *Facts) error { return create(f.Task + "/made") }},
		{"files/landlock alone", "EROFS", []Control{off(Rights|ReadOnly, "EACCES")}, func(*Facts) error { return create("/made") }},
		{"files/the shim", "EACCES", []Control{off(Rights)}, func(*Facts) error { return read("/init") }},
		{"files/sys", "empty", bare, func(*Facts) error { return list("/sys") }},
		{"files/cgroups", "ENOENT", bare, func(*Facts) error { return list("/sys/fs/cgroup") }},
		{"files/kernel's log device", "ENOENT", bare, func(*Facts) error { return stat("/dev/kmsg") }},
		{"files/terminals", "ENOENT", bare, func(*Facts) error { return stat("/dev/ptmx") }},
	}
}

// procProbes look at what /proc tells of the kernel, the host and other processes.
func procProbes() []Probe {
	var all []Probe
	for _, name := range []string{"kallsyms", "cmdline", "interrupts", "diskstats", "partitions", "iomem"} {
		all = append(all, Probe{"proc/" + name, "masked", []Control{off(Masks)}, func(*Facts) error { return read("/proc/" + name) }})
	}
	all = append(all, Probe{"proc/keys", "masked", []Control{off(Masks)}, func(*Facts) error { return peek("/proc/keys") }})
	for _, name := range []string{"irq", "tty", "sysvipc"} {
		all = append(all, Probe{"proc/" + name, "empty", []Control{off(Masks)}, func(*Facts) error { return list("/proc/" + name) }})
	}
	for _, name := range []string{"kcore", "kmsg", "timer_list", "slabinfo"} {
		all = append(all, Probe{"proc/" + name, "EACCES", []Control{off(Rights)}, func(*Facts) error { return peek("/proc/" + name) }})
	}
	sysctl := func(path string) Probe {
		return Probe{"proc/write to " + path, "EROFS", []Control{off(Rights|Landlock, "EROFS"), off(Rights | Landlock | SysFiles), off(Rights|SysFiles, "EACCES")},
			func(*Facts) error { return open("/proc/sys/" + path) }}
	}
	for _, path := range []string{"kernel/core_pattern", "kernel/hostname", "kernel/panic", "vm/overcommit_memory"} {
		all = append(all, sysctl(path))
	}
	return append(all, []Probe{
		{"proc/root of the first process", "ENOENT", []Control{off(HidePID, "EACCES"), off(Rights, "EACCES"), off(Rights | Landlock)}, func(*Facts) error { return list("/proc/1/root/") }},
		{"proc/variables of the first process", "ENOENT", []Control{off(HidePID, "EACCES"), off(Rights)}, func(*Facts) error { return peek("/proc/1/environ") }},
		{"proc/memory of the first process", "ENOENT", []Control{off(HidePID, "EACCES"), off(Rights, "EACCES"), off(Rights | Landlock)}, func(*Facts) error { return peek("/proc/1/mem") }},
		{"proc/other processes", "alone", []Control{off(HidePID), off(Sandbox)}, func(*Facts) error { return others() }},
		{"proc/cgroups of the host", "nothing", []Control{off(CgroupView)}, func(*Facts) error { return cgroupNames() }},
		{"proc/mounts of the host", "nothing", bare, func(f *Facts) error { return mounts(f) }},
	}...)
}

// read reads a byte. A file that is masked is the null device.
func read(path string) error {
	fd, err := plain(path, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var b [1]byte
	n, err := unix.Read(fd, b[:])
	if err == nil && n == 0 {
		return found("empty")
	}
	return err
}

// peek opens for reading and does not read, which may wait or cost.
func peek(path string) error {
	fd, err := plain(path, unix.O_RDONLY)
	if err == nil {
		err = unix.Close(fd)
	}
	return err
}

// open opens a file for writing, and writes nothing.
func open(path string) error {
	fd, err := plain(path, unix.O_WRONLY)
	if err == nil {
		err = unix.Close(fd)
	}
	return err
}

func plain(path string, flags int) (int, error) {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	var s unix.Stat_t
	if err := unix.Fstat(fd, &s); err != nil {
		return -1, err
	}
	if s.Mode&unix.S_IFMT == unix.S_IFCHR {
		_ = unix.Close(fd)
		return -1, found("masked")
	}
	return fd, nil
}

// create makes a file and removes it.
func create(path string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	_ = unix.Close(fd)
	return unix.Unlink(path)
}

func list(path string) error {
	entries, err := os.ReadDir(path)
	if err == nil && len(entries) == 0 {
		return found("empty")
	}
	return err
}

func stat(path string) error {
	_, err := os.Lstat(path)
	return err
}

// climb goes up from the code's folder, by a descriptor, further than there are folders.
func climb(path string) error {
	dir, err := unix.Open(".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	fd, err := unix.Openat(dir, strings.Repeat("../", 64)+path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		err = unix.Close(fd)
	}
	return err
}

// others looks for processes that are not this user's, or not its own.
func others() error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		var s unix.Stat_t
		if strings.Trim(entry.Name(), "0123456789") == "" && unix.Stat("/proc/"+entry.Name(), &s) == nil && int(s.Uid) != os.Getuid() {
			return nil
		}
	}
	return found("alone")
}

// cgroupNames looks for the names of cgroups, which tell how many environments there are.
func cgroupNames() error {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return err
	}
	if strings.Contains(string(b), "hearth-") {
		return nil
	}
	return found("nothing")
}

// mounts looks for mounts of the host that are not of the tree.
func mounts(f *Facts) error {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(b)) {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], "/sys") {
			return nil
		}
	}
	return found("nothing")
}
