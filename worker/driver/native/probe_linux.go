//go:build amd64 || arm64

package native

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/hearth-run/hearth/worker/driver/uids"
)

// refuse says what to do where the sandbox cannot be built.
func refuse(err error) error {
	if errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("the sandbox cannot be built here: %w; make room on that disk", err)
	}
	return fmt.Errorf("the sandbox cannot be built here: %w; run Hearth as root on Linux 5.14 or newer with landlock, seccomp and "+
		"cgroups, or choose --driver process for code that you trust", err)
}

// requirements looks at what can be told without building anything.
func requirements() (landlock int, err error) {
	var errs []error
	if os.Geteuid() != 0 {
		errs = append(errs, fmt.Errorf("this process is user %d and not root, which mounts, cgroups and users take", os.Geteuid()))
	} else if err := uids.Check(); err != nil {
		errs = append(errs, err)
	}
	if landlock = landlockABI(); landlock == 0 {
		errs = append(errs, errors.New("this kernel has no landlock: boot with lsm=landlock,... (CONFIG_SECURITY_LANDLOCK)"))
	}
	if _, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0); err != nil {
		errs = append(errs, errors.New("this kernel has no seccomp (CONFIG_SECCOMP_FILTER)"))
	}
	return landlock, errors.Join(errs...)
}
