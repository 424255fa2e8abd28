//go:build amd64 || arm64

package native

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/hearth-run/hearth/worker/egress"
)

// What an environment sees. The tree is made once a spawner, in that one's own mount namespace, and each environment gets a copy
// of the namespace, which costs less than making it anew; what must be its own (/proc, /tmp, /dev/shm) it mounts itself.
const (
	taskDir    = "/var/task"
	runtimeDir = "/var/runtime"
	initPath   = "/init" // the shim
	nothing    = "/dev/null"
	emptyDir   = "/var/empty"
)

// system are the host's folders that programs run from: links are links in the tree too.
var system = []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"}

// settings are what programs read of /etc. Whatever holds secrets of the host, or names its users, is not among them.
var settings = []string{
	"alternatives", "ca-certificates.conf", "crypto-policies", "gai.conf", "host.conf", "ld.so.cache", "localtime", "magic",
	"mime.types", "pki", "protocols", "rpc", "services", "ssl", "timezone",
}

// own are the files of /etc that every environment has alike.
var own = map[string]string{
	"passwd":        "root:x:0:0:root:/:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n",
	"group":         "root:x:0:\nnobody:x:65534:\nnogroup:x:65534:\n",
	"hosts":         "127.0.0.1\tlocalhost\n::1\tlocalhost\n",
	"hostname":      hostname + "\n",
	"nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\nprotocols: files\n",
	"resolv.conf":   "nameserver " + egress.Gateway.String() + "\noptions timeout:3 attempts:2\n",
}

const hostname = "environment"

// devices are what environments see of the host's. Read-only, which a device minds only where its node is changed: its times, which
// everybody may set who may write to it.
var devices = []string{"null", "zero", "full", "random", "urandom"}

// folders of the tree that are empty in it.
var folders = []string{
	"/etc", "/proc", "/sys", "/dev/shm", "/tmp", taskDir, runtimeDir, emptyDir, "/opt", "/run", "/home", "/mnt",
}

// copyLimit is how large a file of /etc may be that is copied.
const copyLimit = 1 << 20

// makeTree makes the tree and moves the calling thread into it, for good. The thread must be locked and have a mount namespace
// of its own. Dir is a folder of the host to mount it on meanwhile.
func makeTree(dir string, shim []byte, left without) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keep mounts to ourselves: %w", err)
	}
	// A process that is forked meanwhile has what is open for writing open too, until it executes, and a mount with writers cannot
	// be made read-only.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755,size=8m,nr_inodes=4096"); err != nil {
		return fmt.Errorf("mount the tree: %w", err)
	}
	if err := os.Mkdir(dir+"/dev", 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", dir+"/dev", "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=755,size=64k,nr_inodes=64"); err != nil {
		return fmt.Errorf("mount the tree's devices: %w", err)
	}
	for _, folder := range folders {
		if err := os.MkdirAll(dir+folder, 0o755); err != nil {
			return err
		}
	}
	for _, path := range system {
		if err := show(path, dir+path, left); err != nil {
			return err
		}
	}
	for _, name := range settings {
		if err := showSetting("/etc/"+name, dir+"/etc/"+name, left); err != nil {
			return err
		}
	}
	for name, text := range own {
		if err := os.WriteFile(dir+"/etc/"+name, []byte(text), 0o444); err != nil {
			return err
		}
	}
	for _, name := range devices {
		if err := showDevice("/dev/"+name, dir+"/dev/"+name, left); err != nil {
			return err
		}
	}
	for link, to := range map[string]string{
		"/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0", "/dev/stdout": "/proc/self/fd/1", "/dev/stderr": "/proc/self/fd/2",
		"/var/tmp": "/tmp",
	} {
		if err := os.Symlink(to, dir+link); err != nil {
			return err
		}
	}
	attr := unix.MountAttr{Attr_set: left.attributes(deviceNodes)}
	if err := unix.MountSetattr(unix.AT_FDCWD, dir+"/dev", 0, &attr); err != nil {
		return fmt.Errorf("make the tree's devices read-only: %w", err)
	}
	// Nobody but root may read or run it.
	if err := os.WriteFile(dir+initPath, shim, 0o500); err != nil {
		return err
	}
	return enter(dir, left)
}

const deviceNodes = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC

// showDevice makes a node of the host's device, for a mount of its own is one more that every sandbox copies. Where root may make
// none, in a container for instance, it shows the host's.
func showDevice(from, to string, left without) error {
	var info unix.Stat_t
	if err := unix.Stat(from, &info); err != nil {
		return fmt.Errorf("look at %s: %w", from, err)
	}
	err := unix.Mknod(to, info.Mode&unix.S_IFMT|0o600, int(info.Rdev))
	if err == nil {
		return os.Chmod(to, os.FileMode(info.Mode&0o777))
	}
	if !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("make the tree's %s: %w", from, err)
	}
	if err := os.WriteFile(to, nil, 0o444); err != nil {
		return err
	}
	return bind(from, to, left.attributes(deviceNodes))
}

// enter makes dir the root, of which nobody can go out: the old one is gone.
func enter(dir string, left without) error {
	if err := unix.Chdir(dir); err != nil {
		return fmt.Errorf("enter the tree: %w", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("make the tree the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the old root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	if left[leaveReadOnly] {
		return nil
	}
	if err := unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		return fmt.Errorf("make the tree read-only: %w", err)
	}
	return nil
}

// show makes a folder of the host visible read-only, or copies a link.
func show(from, to string, left without) error {
	info, err := os.Lstat(from)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	case !info.IsDir():
		return nil
	}
	if err := os.Mkdir(to, 0o755); err != nil {
		return err
	}
	return bind(from, to, left.attributes(readOnly))
}

// showSetting is show for what lies in /etc: files are copied.
func showSetting(from, to string, left without) error {
	real, err := filepath.EvalSymlinks(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	info, err := os.Stat(real)
	switch {
	case err != nil:
		return err
	case info.IsDir():
		if err := os.Mkdir(to, 0o755); err != nil {
			return err
		}
		return bind(real, to, left.attributes(readOnly))
	case !info.Mode().IsRegular() || info.Size() > copyLimit || info.Mode().Perm()&0o004 == 0:
		return nil
	}
	b, err := os.ReadFile(real)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o444)
}

const readOnly = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV

// bind makes what lies at from visible at to, but not what is mounted below it.
func bind(from, to string, attributes uint64) error {
	fd, err := detach(from, attributes)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, to, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount %s in the tree: %w", from, err)
	}
	return nil
}

// detach makes a mount that is nowhere, of a folder alone: nothing above it can be reached through it.
func detach(path string, attributes uint64) (int, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("open %s as a tree of its own: %w", path, err)
	}
	attr := unix.MountAttr{Attr_set: attributes, Propagation: unix.MS_PRIVATE}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("make %s read-only: %w", path, err)
	}
	return fd, nil
}

// proc are the entries of /proc that stay as they are; numbers too, and of those only one's own processes (hidepid).
var proc = []string{
	"cpuinfo", "filesystems", "loadavg", "meminfo", "mounts", "net", "self", "stat", "sys", "thread-self", "uptime", "version",
}

// masks are the entries of this kernel's /proc that environments find empty: folders and files.
func masks() (dirs, files []string, err error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, nil, err
	}
	keep := map[string]bool{}
	for _, name := range proc {
		keep[name] = true
	}
	for _, entry := range entries {
		name := entry.Name()
		switch {
		case keep[name] || strings.Trim(name, "0123456789") == "":
		case entry.IsDir():
			dirs = append(dirs, "/proc/"+name)
		case entry.Type().IsRegular():
			// What root alone may read needs no mask.
			if info, err := entry.Info(); err == nil && info.Mode().Perm()&0o077 != 0 {
				files = append(files, "/proc/"+name)
			}
		}
	}
	return dirs, files, nil
}
