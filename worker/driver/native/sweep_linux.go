//go:build amd64 || arm64

package native

import (
	"errors"
	"syscall"
	"time"

	"github.com/hearth-run/hearth/worker/driver/uids"
)

// Times of a sweep that found somebody's lock held.
const (
	sweepFirst = time.Second
	sweepMost  = 32 * time.Second // then it is one that lives
)

// sweep ends and removes what drivers left that were killed: their processes died with them but for what the kernel held, their
// mounts and networks with these, and their cgroups are still there. Whose lock can be taken, is gone; that of our own block we
// hold ourselves. It reports whether it met a lock that is held: by a driver that lives, or by a process that one had just forked when
// it was killed, for another moment.
func (d *Driver) sweep() (held bool) {
	found, err := d.cgroups.leftovers()
	if err != nil {
		d.cfg.Log.Warn("cannot look for what killed workers left", "error", err)
		return false
	}
	for block, paths := range found {
		if block == d.users.Number {
			continue
		}
		lock, err := uids.LockBlock(d.cfg.Locks, block)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			held = true
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
	return held
}

// sweepAgain sweeps until no lock is held, or who holds one must live, or the driver closes.
func (d *Driver) sweepAgain(closed <-chan struct{}) {
	for pause := sweepFirst; pause <= sweepMost; pause *= 2 {
		select {
		case <-closed:
			return
		case <-time.After(pause):
		}
		if !d.sweep() {
			return
		}
	}
}

// sweepOwn empties the folders of our own block, which a killed driver had before: there is nothing of ours in them yet.
func (d *Driver) sweepOwn() {
	found, err := d.cgroups.leftovers()
	for _, path := range found[d.users.Number] {
		below, unread := groupsBelow(path)
		err = errors.Join(err, unread)
		for _, folder := range below {
			err = errors.Join(err, killGroup(folder))
		}
	}
	if err != nil {
		d.cfg.Log.Warn("what a killed worker left cannot be removed", "error", err)
	}
}
