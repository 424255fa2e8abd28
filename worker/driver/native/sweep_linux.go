//go:build amd64 || arm64

package native

import (
	"errors"
	"syscall"

	"github.com/hearth-run/hearth/worker/driver/uids"
)

// sweep ends and removes what drivers left that were killed: their processes died with them but for what the kernel held, their
// mounts and networks with these, and their cgroups are still there. Whose lock can be taken, is gone; that of our own block we
// hold ourselves.
func (d *Driver) sweep() {
	found, err := d.cgroups.leftovers()
	if err != nil {
		d.cfg.Log.Warn("cannot look for what killed workers left", "error", err)
		return
	}
	for block, paths := range found {
		if block == d.users.Number {
			for _, path := range paths {
				d.sweepOwn(path)
			}
			continue
		}
		lock, err := uids.LockBlock(d.cfg.Locks, block)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			continue
		}
		if err != nil {
			d.cfg.Log.Warn("cannot look for what killed workers left", "error", err)
			continue
		}
		for _, path := range paths {
			if err := killGroup(path); err != nil {
				d.cfg.Log.Warn("what a killed worker left cannot be removed", "cgroup", path, "error", err)
			}
		}
		_ = lock.Close()
	}
}

// sweepOwn empties a folder that is ours now.
func (d *Driver) sweepOwn(path string) {
	below, err := groupsBelow(path)
	for _, folder := range below {
		err = errors.Join(err, killGroup(folder))
	}
	if err != nil {
		d.cfg.Log.Warn("what a killed worker left cannot be removed", "cgroup", path, "error", err)
	}
}
