//go:build amd64 || arm64

package native

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What the helper of package egress may read of the host: its own program and what that is linked with, and where the host's
// resolver finds its settings. It may write nothing.
var (
	helperRuns  = []string{"/proc/self/exe", "/usr", "/lib", "/lib64", "/lib32"}
	helperReads = []string{"/etc", "/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager", "/run/connman", "/sys/kernel/mm", "/dev/null"}
)

// restrictHelper takes from the calling thread, and from what it starts, what the helper does not need: files, by landlock, and
// system calls, by the filter of functions.
func restrictHelper(p plan) error {
	attr := binary.NativeEndian.AppendUint64(nil, handled(p.landlock))
	if p.landlock >= 4 {
		attr = binary.NativeEndian.AppendUint64(attr, 0)
	}
	if p.landlock >= 6 {
		attr = binary.NativeEndian.AppendUint64(attr, unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET|unix.LANDLOCK_SCOPE_SIGNAL)
	}
	set, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr[0])), uintptr(len(attr)), 0)
	if errno != 0 {
		return fmt.Errorf("make landlock's rules for the helper: %w", errno)
	}
	defer unix.Close(int(set))
	const read = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	for _, path := range helperRuns {
		if err := allowHelper(int(set), path, read|unix.LANDLOCK_ACCESS_FS_EXECUTE); err != nil {
			return err
		}
	}
	for _, path := range helperReads {
		if err := allowHelper(int(set), path, read); err != nil {
			return err
		}
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, set, 0, 0); errno != 0 {
		return fmt.Errorf("restrict the helper by landlock: %w", errno)
	}
	for c := range p.lastCap + 1 {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil {
			return fmt.Errorf("bound the helper's capability %d: %w", c, err)
		}
	}
	if err := restrict(p.filter); err != nil {
		return fmt.Errorf("filter the helper's system calls: %w", err)
	}
	return nil
}

// allowHelper adds a rule for what there is at a path.
func allowHelper(set int, path string, may uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("allow the helper %s: %w", path, err)
	}
	defer unix.Close(fd)
	var info unix.Stat_t
	if err := unix.Fstat(fd, &info); err != nil {
		return fmt.Errorf("allow the helper %s: %w", path, err)
	}
	if info.Mode&unix.S_IFMT != unix.S_IFDIR {
		may &^= unix.LANDLOCK_ACCESS_FS_READ_DIR
	}
	rule := binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint64(nil, may), uint32(fd))
	if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(set), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule[0])), 0, 0, 0); errno != 0 {
		return fmt.Errorf("allow the helper %s: %w", path, errno)
	}
	return nil
}
