//go:build unix

package unpack

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// single tells whether a file or folder has one name alone.
func single(info fs.FileInfo) bool {
	s, ok := info.Sys().(*syscall.Stat_t)
	return ok && (info.IsDir() || s.Nlink == 1)
}

// own makes root the owner of what a child made. Without root everything is this process's already.
func own(path string, info fs.FileInfo) error {
	if s, ok := info.Sys().(*syscall.Stat_t); !ok || os.Geteuid() != 0 || s.Uid == 0 && s.Gid == 0 {
		return nil
	}
	return os.Lchown(path, 0, 0)
}

// noRoom tells whether a disk is full, or what this user may have of it.
func noRoom(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }
