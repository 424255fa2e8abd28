package deploy

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// shared is where fabrics run by root keep what functions' own users must reach.
const shared = "/var/lib/hearth"

// passable lets others pass through a folder without listing it.
const passable = 0o711

// reach gives the folder for unpacked code and scratch space. Functions that run as this user reach the data folder; those
// of root run as users that own nothing, and the data folder is closed to them. So as root it is a folder outside, named
// after the data folder: found again at the next start, and by nobody else's fabric. Only root writes above it, so nobody
// can have put a link there.
func (d *data) reach(drops bool) (string, error) {
	if !drops {
		return d.path(runDir), nil
	}
	sum := sha256.Sum256([]byte(d.dir))
	dir := filepath.Join(shared, hex.EncodeToString(sum[:8]))
	for _, at := range []string{shared, dir} {
		if err := os.MkdirAll(at, passable); err != nil {
			return "", fmt.Errorf("make a folder that functions can reach: %w", err)
		}
		info, err := os.Lstat(at)
		if err == nil && !info.IsDir() {
			err = fmt.Errorf("%s is no folder; move it away", at)
		}
		if err := errors.Join(err, os.Chmod(at, passable)); err != nil {
			return "", fmt.Errorf("make a folder that functions can reach: %w", err)
		}
	}
	return dir, nil
}
