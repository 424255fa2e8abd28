//go:build amd64 || arm64

package native

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// landlockABI is the version of landlock that this kernel has, 0 for none.
func landlockABI() int {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(abi)
}

// Rights on files by landlock's versions.
const (
	mayRead = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	mayOpen = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE
	first   = unix.LANDLOCK_ACCESS_FS_MAKE_SYM<<1 - 1 // all of version 1
	nodes   = unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK
)

// handled is what landlock forbids unless a rule allows it.
func handled(abi int) (files uint64) {
	files = first
	if abi >= 2 {
		files |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if abi >= 3 {
		files |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if abi >= 5 {
		files |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	return files
}

// landlock makes the rules: a second fence, which holds should a mount be missing or wrong. Everything may be read; only
// /tmp and /dev/shm may be changed; devices may be written to; signals and abstract sockets stay inside.
func landlock(s *script, abi int) {
	const fd = rulesetFD + 1
	files := handled(abi)
	attr := binary.NativeEndian.AppendUint64(nil, files)
	if abi >= 4 {
		attr = binary.NativeEndian.AppendUint64(attr, 0)
	}
	if abi >= 6 {
		attr = binary.NativeEndian.AppendUint64(attr, unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET|unix.LANDLOCK_SCOPE_SIGNAL)
	}
	s.do("make landlock's rules", unix.SYS_LANDLOCK_CREATE_RULESET, s.bytes(attr), len(attr), 0)
	for _, rule := range []struct {
		path string
		may  uint64
	}{
		{"/", mayRead},
		{"/tmp", files &^ nodes},
		{"/dev/shm", files &^ nodes},
		{"/dev", files & (mayOpen | unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV)},
	} {
		s.do("open "+rule.path, unix.SYS_OPENAT, unix.AT_FDCWD, rule.path, unix.O_PATH|unix.O_CLOEXEC, 0)
		beneath := binary.NativeEndian.AppendUint64(nil, rule.may)
		beneath = binary.NativeEndian.AppendUint32(beneath, fd)
		s.do("allow "+rule.path, unix.SYS_LANDLOCK_ADD_RULE, rulesetFD, unix.LANDLOCK_RULE_PATH_BENEATH, s.bytes(beneath), 0)
		s.do("close", unix.SYS_CLOSE, fd)
	}
}
