//go:build amd64 || arm64

package hostile

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// namespaceProbes make namespaces, or enter them. A process has capabilities in a user namespace of its own, and with them all
// of the kernel that only root may reach.
func namespaceProbes() []Probe {
	filter, both := []Control{off(Filter)}, []Control{off(Filter|Rights, Done), off(Filter, "EPERM")}
	made := func(name string, flag uintptr, controls []Control) []Probe {
		return []Probe{
			{"namespaces/unshare " + name, "EPERM", controls, func(*Facts) error { return unshare(flag) }},
			{"namespaces/clone " + name, "EPERM", controls, func(*Facts) error { return child(&syscall.SysProcAttr{Cloneflags: flag}) }},
		}
	}
	var all []Probe
	all = append(all, made("user", unix.CLONE_NEWUSER, filter)...)
	all = append(all, made("mount", unix.CLONE_NEWNS, both)...)
	all = append(all, made("network", unix.CLONE_NEWNET, both)...)
	all = append(all, made("process", unix.CLONE_NEWPID, both)...)
	all = append(all, made("ipc", unix.CLONE_NEWIPC, both)...)
	all = append(all, made("name", unix.CLONE_NEWUTS, both)...)
	all = append(all, made("cgroup", unix.CLONE_NEWCGROUP, both)...)
	return append(all, []Probe{
		{"namespaces/unshare time", "EPERM", both, func(*Facts) error { return unshare(unix.CLONE_NEWTIME) }},
		{"namespaces/enter", "EPERM", both, func(*Facts) error { return enter() }},
		{"namespaces/clone3", "ENOSYS", []Control{off(Filter, "EINVAL")}, func(*Facts) error { return call(unix.SYS_CLONE3, 0, 0) }},
	}...)
}

// unshare asks for a namespace in a process of one thread, which Go's are not and some namespaces take.
func unshare(flag uintptr) error {
	pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 {
		return errno
	}
	if pid == 0 {
		_, _, errno := syscall.RawSyscall(unix.SYS_UNSHARE, flag, 0, 0)
		for {
			_, _, _ = syscall.RawSyscall(unix.SYS_EXIT_GROUP, uintptr(errno), 0, 0)
		}
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(int(pid), &status, 0, nil); err != nil {
		return err
	}
	if code := status.ExitStatus(); code != 0 {
		return syscall.Errno(code)
	}
	return nil
}

// child starts this program as a process that does nothing.
func child(attr *syscall.SysProcAttr) error {
	cmd := again("nothing")
	cmd.SysProcAttr = attr
	return cmd.Run()
}

// enter enters the network namespace in which this process is already.
func enter() error {
	fd, err := unix.Open("/proc/self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Setns(fd, unix.CLONE_NEWNET)
}

// mountProbes change what is mounted where, or what the root is, by the old calls and by the new ones.
func mountProbes() []Probe {
	controls := []Control{off(Filter | Rights | Landlock), off(Filter|Rights, "EPERM"), off(Filter|Landlock, "EPERM")}
	loose := []Control{off(Filter | Rights | Landlock), off(Filter, "EPERM")} // landlock does not mind
	unknown := []Control{off(Filter)}
	return []Probe{
		{"mounts/a file system", "EPERM", controls, func(*Facts) error {
			return onFolder(func(dir string) error { return unix.Mount("tmpfs", dir, "tmpfs", 0, "") })
		}},
		{"mounts/bind", "EPERM", controls, func(*Facts) error {
			return onFolder(func(dir string) error { return unix.Mount("/usr", dir, "", unix.MS_BIND, "") })
		}},
		{"mounts/make writable", "EPERM", controls, func(f *Facts) error {
			return unix.Mount("", "/tmp", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_NODEV, "")
		}},
		{"mounts/open a tree", "EPERM", loose, func(*Facts) error { return closing(unix.OpenTree(unix.AT_FDCWD, "/tmp", unix.OPEN_TREE_CLONE)) }},
		{"mounts/move a tree", "EPERM", controls, func(*Facts) error { return onFolder(moveTree) }},
		{"mounts/open a file system", "EPERM", loose, func(*Facts) error { return opens(unix.SYS_FSOPEN, text("tmpfs"), 0) }},
		{"mounts/pick a file system", "EPERM", loose, func(*Facts) error {
			at := unix.AT_FDCWD
			return opens(unix.SYS_FSPICK, uintptr(at), text("/tmp"), 0)
		}},
		{"mounts/configure a file system", "EPERM", []Control{off(Filter, "EBADF")}, func(*Facts) error { return call(unix.SYS_FSCONFIG, badFD, 6, 0, 0, 0) }},
		{"mounts/mount a file system", "EPERM", []Control{off(Filter|Rights, "EBADF"), off(Filter, "EPERM")}, func(*Facts) error { return opens(unix.SYS_FSMOUNT, badFD, 0, 0) }},
		{"mounts/change attributes", "EPERM", loose, func(*Facts) error {
			return unix.MountSetattr(unix.AT_FDCWD, "/tmp", 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID})
		}},
		{"mounts/status", "ENOSYS", []Control{off(Filter, "EFAULT")}, func(*Facts) error { return call(unix.SYS_STATMOUNT, 0, 0, 0, 0) }},
		{"mounts/list", "ENOSYS", unknown, func(*Facts) error { return listMounts() }},
		{"mounts/pivot the root", "EPERM", []Control{off(Filter|Rights|Landlock, "EBUSY"), off(Filter, "EPERM")}, func(*Facts) error { return unix.PivotRoot("/", "/") }},
		{"mounts/change the root", "EPERM", loose, func(*Facts) error { return child(&syscall.SysProcAttr{Chroot: "/"}) }},
		// Last: what it takes away is away.
		{"mounts/unmount", "EPERM", controls, func(*Facts) error { return unix.Unmount("/dev/shm", unix.MNT_DETACH) }},
	}
}

const badFD = 1 << 20

// onFolder does something with a folder of its own, which goes with the environment.
func onFolder(do func(dir string) error) error {
	const dir = "/tmp/over"
	if err := unix.Mkdir(dir, 0o700); err != nil && err != unix.EEXIST {
		return err
	}
	return do(dir)
}

func moveTree(dir string) error {
	fd, err := unix.OpenTree(unix.AT_FDCWD, "/tmp", unix.OPEN_TREE_CLONE)
	if err != nil {
		fd = badFD // then the move is refused before the descriptor is looked at
	} else {
		defer unix.Close(fd)
	}
	return unix.MoveMount(fd, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// listMounts asks for the mounts below the root of this namespace.
func listMounts() error {
	request := struct {
		size, spare uint32
		mount, last uint64
	}{size: 24, mount: ^uint64(0)}
	var ids [8]uint64
	return call(unix.SYS_LISTMOUNT, uintptr(unsafe.Pointer(&request)), uintptr(unsafe.Pointer(&ids)), uintptr(len(ids)), 0)
}
