//go:build amd64 || arm64

package native

import "golang.org/x/sys/unix"

// without is what a sandbox is built without: steps of its scripts by their names, and some other things by those below. It is
// empty but in tests of this package, which show what each protection is good for by taking it away (package hostile).
type without map[string]bool

// What is no step of its own.
const (
	leaveReadOnly = "read-only mounts"
	leaveNoSUID   = "mounts without setuid"
	leaveProc     = "read-only /proc"
	leaveDevice   = "device"
)

// attributes are those of a mount.
func (w without) attributes(all uint64) uint64 {
	if w[leaveReadOnly] {
		all &^= unix.MOUNT_ATTR_RDONLY
	}
	if w[leaveNoSUID] {
		all &^= unix.MOUNT_ATTR_NOSUID
	}
	return all
}

// flags are those of a mount of /proc.
func (w without) flags(readOnly int) int {
	if w[leaveProc] {
		return 0
	}
	return readOnly
}

// option is one of a file system.
func (w without) option(text string) string {
	if w[text] {
		return ""
	}
	return text
}
