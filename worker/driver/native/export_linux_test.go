//go:build amd64 || arm64

package native

import (
	"path/filepath"

	"github.com/hearth-run/hearth/worker/driver/uids"
)

// Leave makes a driver that was not used yet build sandboxes without these steps.
func (d *Driver) Leave(steps ...string) {
	d.left = without{}
	for _, step := range steps {
		d.left[step] = true
	}
}

// Masks are the steps that hide entries of /proc.
func Masks() ([]string, error) {
	dirs, files, err := masks()
	var steps []string
	for _, path := range append(dirs, files...) {
		steps = append(steps, "mask "+path)
	}
	return steps, err
}

// UIDs is how many uids of its block a driver has given out.
func UIDs(d *Driver) int { return d.users.Taken() }

// Block is the uids of a driver: the first, and how many.
func Block(d *Driver) (first, size uint32) { return d.users.First, uids.BlockSize }

// Together is the file with the limit of processes of all environments of a driver.
func Together(d *Driver) string {
	switch h := d.cgroups.(type) {
	case *v1:
		return filepath.Join(h.folder("pids"), "pids.max")
	case *v2:
		return filepath.Join(h.folder(), "pids.max")
	}
	return ""
}
