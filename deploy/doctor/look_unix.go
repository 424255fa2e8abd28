//go:build unix

package doctor

import (
	"golang.org/x/sys/unix"
)

func kernelRelease() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return ""
	}
	return unix.ByteSliceToString(name.Release[:])
}

// descriptors is how many a process may have, when it asks for them, as Go programs do.
func descriptors() uint64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return uint64(limit.Max)
}

func writable(folder string) error { return unix.Access(folder, unix.W_OK) }
