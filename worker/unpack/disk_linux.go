package unpack

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncAll writes the file system of path to the disk.
func syncAll(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return os.NewSyscallError("syncfs", unix.Syncfs(int(f.Fd())))
}
