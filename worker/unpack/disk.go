package unpack

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// syncEach is up to how many entries of a package are synced one by one; above, the whole file system is once: 50,000
// single syncs take minutes.
const syncEach = 64

func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// removeTree removes a tree whose folders may be read-only, which only root removes as they are.
func removeTree(path string) error {
	err := os.RemoveAll(path)
	if err == nil || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	// WalkDir opens a folder after it has called for it.
	walk := filepath.WalkDir(path, func(at string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			err = os.Chmod(at, 0o700)
		}
		return err
	})
	return errors.Join(walk, os.RemoveAll(path))
}

// Times of a child of a killed worker, which the kernel ends with that, a moment later.
const (
	leftWait  = 10 * time.Second
	leftPause = 5 * time.Millisecond
)

// removeLeft removes a tree that somebody may be filling for another moment.
func removeLeft(path string) error {
	for deadline := time.Now().Add(leftWait); ; {
		err := removeTree(path)
		if err == nil || !errors.Is(err, syscall.ENOTEMPTY) || time.Now().After(deadline) {
			return err
		}
		<-time.After(leftPause)
	}
}

// moveFolder renames a folder that may be read-only.
func moveFolder(from, to string) error {
	if err := os.Chmod(from, 0o755); err != nil {
		return err
	}
	return os.Rename(from, to)
}

func isNotFolder(err error) bool {
	return errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.EISDIR)
}
