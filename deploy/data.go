package deploy

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hearth-run/hearth/schema"
)

// data is the folder of a fabric, held by this process:
//
//	lock      held while the process lives; the pid of its holder
//	id        of a manager in a process of its own: its name on the ring
//	admin.nk  the admin's nkey seed, where the NATS server is embedded
//	seal.key  the managers' key for variables
//	credentials/  seeds of users that are not in its process (credentials.go)
//	nats/     the embedded server's streams
//	run/      unpacked code and scratch folders, where environments can reach them here (reach.go)
type data struct {
	dir     string
	lock    *os.File
	reached *os.File // the lock of what environments reach (reach.go), nil until it is needed
}

const (
	lockFile  = "lock"
	idFile    = "id"
	natsDir   = "nats"
	runDir    = "run"
	closedDir = 0o700
)

// openData makes the folder if need be, closes it to others, and takes its lock. A folder that another process holds is a
// [schema.CodeConflict] with that one's pid.
func openData(dir string) (*data, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if err := os.MkdirAll(dir, closedDir); err != nil {
		return nil, fmt.Errorf("make the data folder: %w; choose another folder with --data", err)
	}
	if err := os.Chmod(dir, closedDir); err != nil {
		return nil, fmt.Errorf("close the data folder to others: %w", err)
	}
	path := filepath.Join(dir, lockFile)
	lock, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the data folder: %w", err)
	}
	switch err := tryLock(lock); {
	case errors.Is(err, errLocked):
		pid, _ := os.ReadFile(path)
		return nil, &schema.Error{Code: schema.CodeConflict, Cause: errors.Join(err, lock.Close()), Message: fmt.Sprintf(
			"data folder %s is in use by process %s: stop that one, or choose another folder with --data", dir,
			strings.TrimSpace(string(pid)))}
	case err != nil:
		return nil, errors.Join(fmt.Errorf("lock the data folder %s: %w", dir, err), lock.Close())
	}
	if err := errors.Join(lock.Truncate(0), writePID(lock)); err != nil {
		return nil, errors.Join(fmt.Errorf("write the lock of the data folder: %w", err), lock.Close())
	}
	return &data{dir: dir, lock: lock}, nil
}

// errLocked is what tryLock says when another process holds the lock.
var errLocked = errors.New("locked by another process")

func writePID(f *os.File) error {
	_, err := f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	return err
}

// path is a file or folder in the data folder.
func (d *data) path(name string) string { return filepath.Join(d.dir, name) }

// close gives the folder back. The lock file stays: removing it would let two others lock two files of one name.
func (d *data) close() error {
	var errs []error
	for _, lock := range []*os.File{d.reached, d.lock} {
		if lock != nil {
			// By name, for a process that was just begun elsewhere in this one holds the file too, for a moment.
			errs = append(errs, unlock(lock), lock.Close())
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("unlock the data folder: %w", err)
	}
	return nil
}
