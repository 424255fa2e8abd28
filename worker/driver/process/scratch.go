package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/hearth-run/hearth/worker/driver/uids"
)

// Names of folders below Config.Dir: one a driver, and in it one an environment.
const (
	workerPrefix      = "worker-"
	environmentPrefix = "e-"
)

// claimScratch makes the folder of one driver and locks it, and removes those that nobody holds: their worker and its
// keeper were ended together, by a power cut for instance.
func claimScratch(dir string) (path string, lock *os.File, err error) {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return "", nil, fmt.Errorf("make scratch folder: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return "", nil, fmt.Errorf("make scratch folder: %w", err)
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); !ok || int(owner.Uid) != os.Geteuid() {
		return "", nil, fmt.Errorf("make scratch folder: %s belongs to another user", dir)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		return "", nil, fmt.Errorf("make scratch folder: %w", err)
	}
	removeAbandoned(dir)
	if path, err = os.MkdirTemp(dir, workerPrefix); err != nil {
		return "", nil, fmt.Errorf("make scratch folder: %w", err)
	}
	// Locked while still 0700, which is how removeAbandoned knows it from one that is whole.
	if lock, err = uids.Lock(path); err != nil {
		return "", nil, fmt.Errorf("make scratch folder: %w", err)
	}
	if err := os.Chmod(path, 0o711); err != nil {
		_ = lock.Close()
		return "", nil, fmt.Errorf("make scratch folder: %w", err)
	}
	return path, lock, nil
}

func removeAbandoned(dir string) {
	found, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, entry := range found {
		info, err := entry.Info()
		if err != nil || !info.IsDir() || !strings.HasPrefix(entry.Name(), workerPrefix) || info.Mode().Perm() != 0o711 {
			continue
		}
		path := filepath.Join(dir, entry.Name())
		if lock, err := uids.Lock(path); err == nil {
			_ = removeScratch(path)
			_ = lock.Close()
		}
	}
}

// makeScratch makes an environment's own folder.
func makeScratch(base string, uid uint32) (string, error) {
	path, err := os.MkdirTemp(base, environmentPrefix)
	if err != nil {
		return "", err
	}
	if uid != 0 {
		if err := os.Lchown(path, int(uid), int(uid)); err != nil {
			return "", errors.Join(err, os.Remove(path))
		}
	}
	return path, nil
}

// removeScratch removes a folder with all that functions put there, also what they closed to themselves.
func removeScratch(path string) error {
	err := os.RemoveAll(path)
	if err == nil || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	walk := filepath.WalkDir(path, func(at string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			err = os.Chmod(at, 0o700)
		}
		return err
	})
	return errors.Join(walk, os.RemoveAll(path))
}
