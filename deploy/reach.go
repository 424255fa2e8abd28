package deploy

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hearth-run/hearth/internal/wholefile"
)

// shared is where fabrics run by root keep what functions' own users must reach: a folder for each data folder.
const shared = "/var/lib/hearth-environments"

const (
	passable  = 0o711  // others pass through such a folder without listing it
	ownerFile = "data" // in each folder below shared: the path of its data folder

	gonePrefix = ".gone-" // of folders that are being removed
)

// reach gives the folder for unpacked code and scratch space. Functions that run as this user reach the data folder; those
// of root run as users that own nothing, and the data folder is closed to them. So as root it is a folder below base,
// named after the data folder: found again at the next start, and by nobody else's fabric. Only root writes above it, so
// nobody can have put a link there. It is held until the data folder is closed. What data folders that are gone have left there is
// removed on the way.
func (d *data) reach(base string, drops bool) (string, error) {
	if !drops {
		return d.path(runDir), nil
	}
	if d.reached != nil {
		return filepath.Dir(d.reached.Name()), nil
	}
	if err := passableDir(base); err != nil {
		return "", fmt.Errorf("make a folder that functions can reach: %w", err)
	}
	if err := sweep(base); err != nil {
		return "", fmt.Errorf("remove what fabrics that are gone have left in %s: %w", base, err)
	}
	sum := sha256.Sum256([]byte(d.dir))
	name := filepath.Join(base, hex.EncodeToString(sum[:8]))
	dir := name
	for n := 2; d.reached == nil; n++ {
		held, err := hold(dir)
		switch {
		case errors.Is(err, errLocked): // a data folder of the same path in another mount namespace
			dir = fmt.Sprintf("%s-%d", name, n)
		case err != nil:
			return "", fmt.Errorf("make a folder that functions can reach: %w", err)
		default:
			d.reached = held
		}
	}
	if err := wholefile.Write(filepath.Join(dir, ownerFile), []byte(d.dir+"\n")); err != nil {
		return "", fmt.Errorf("note whose folder %s is: %w", dir, err)
	}
	return dir, nil
}

// hold makes a folder, if need be, and takes its lock: errLocked if another process has it.
func hold(dir string) (*os.File, error) {
	for {
		if err := passableDir(dir); err != nil {
			return nil, err
		}
		lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
		if errors.Is(err, fs.ErrNotExist) {
			continue // swept in this moment
		}
		if err != nil {
			return nil, err
		}
		if err := tryLock(lock); err != nil {
			return nil, errors.Join(err, lock.Close())
		}
		mine, err := lock.Stat()
		if err != nil {
			return nil, errors.Join(err, lock.Close())
		}
		if there, err := os.Stat(lock.Name()); err == nil && os.SameFile(mine, there) {
			return lock, nil
		}
		if err := lock.Close(); err != nil { // it was swept before it was locked
			return nil, err
		}
	}
}

func passableDir(dir string) error {
	if err := os.MkdirAll(dir, passable); err != nil {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is no folder; move it away", dir)
	}
	return os.Chmod(dir, passable)
}

// sweep removes the folders below base whose data folder is gone and which nobody holds: of tests, of demos that were killed. A data
// folder that cannot be seen from here may be there all the same: in another mount namespace, on a disk that is not mounted now. One
// whose owner cannot be told is left alone. One process sweeps at a time, and the others need not wait for it.
func sweep(base string) error {
	lock, err := os.OpenFile(filepath.Join(base, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	switch err := tryLock(lock); {
	case errors.Is(err, errLocked):
		return nil
	case err != nil:
		return err
	}
	entries, err := os.ReadDir(base)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		dir := filepath.Join(base, e.Name())
		if strings.HasPrefix(e.Name(), gonePrefix) { // by one that was killed on the way
			errs = append(errs, removeAll(dir))
			continue
		}
		owner, err := os.ReadFile(filepath.Join(dir, ownerFile))
		if err != nil {
			continue
		}
		if _, err := os.Stat(strings.TrimSpace(string(owner))); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		held, err := hold(dir)
		if err != nil {
			if !errors.Is(err, errLocked) {
				errs = append(errs, err)
			}
			continue
		}
		// Moved first: whoever starts with this data folder in this moment makes a folder that is whole.
		gone := filepath.Join(base, gonePrefix+e.Name())
		if err := os.Rename(dir, gone); err != nil {
			errs = append(errs, err, held.Close())
			continue
		}
		errs = append(errs, removeAll(gone), held.Close())
	}
	return errors.Join(errs...)
}

// removeAll removes a folder of which parts may be read-only, as unpacked code is.
func removeAll(dir string) error {
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			_ = os.Chmod(path, closedDir) // what cannot be opened shows below
		}
		return nil
	})
	return os.RemoveAll(dir)
}
