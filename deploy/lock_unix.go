//go:build unix

package deploy

import (
	"os"

	"golang.org/x/sys/unix"
)

// tryLock locks a file for this process, or fails at once. The kernel gives it back when the process ends, however it
// ends, so a lock that is left over does not exist.
func tryLock(f *os.File) error {
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
}
