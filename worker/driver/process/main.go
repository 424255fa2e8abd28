package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/hearth-run/hearth/worker/driver/uids"
)

// First arguments of the worker's program when the driver runs it again.
const (
	keeperArgument  = "hearth-process-keeper"
	killAllArgument = "hearth-process-killall" // and a uid
)

// beginWait bounds a hang alone of this program run again: on a machine that has much else to do it takes seconds to begin (measured:
// more than 5 s at load 30), and a driver that gave up then would not start.
const beginWait = time.Minute

// Main becomes the keeper, or the one that kills everything of a uid, where the arguments of the program ask for it, and
// never returns then; otherwise it does nothing. It must be the first line of main, and of TestMain in tests that use the
// driver.
func Main() {
	// syscall.Exit: under the race detector os.Exit waits for a second.
	switch {
	case len(os.Args) == 2 && os.Args[1] == keeperArgument:
		keep(os.Stdin, os.Stdout)
		syscall.Exit(0)
	case len(os.Args) == 3 && os.Args[1] == killAllArgument:
		if err := killAll(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			syscall.Exit(1)
		}
		syscall.Exit(0)
	}
}

// runAgain tells whether this program was started for one of Main's roles.
func runAgain() bool {
	return len(os.Args) > 1 && (os.Args[1] == keeperArgument || os.Args[1] == killAllArgument)
}

// again is the program that runs, whatever became of its file meanwhile.
func again() (string, error) {
	if runtime.GOOS == "linux" {
		return "/proc/self/exe", nil
	}
	return os.Executable()
}

// killUser kills every process of a uid in one system call: a process of that uid asks for "all that I may signal", which
// the kernel does while no fork can happen.
func killUser(uid uint32) error {
	path, err := again()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), beginWait, fmt.Errorf("not within %v", beginWait))
	defer cancel()
	cmd := exec.CommandContext(ctx, path, killAllArgument, strconv.FormatUint(uint64(uid), 10))
	cmd.Dir = "/"
	cmd.Env = []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	if out, err := cmd.CombinedOutput(); err != nil {
		if late := context.Cause(ctx); late != nil {
			err = errors.Join(late, err)
		}
		return fmt.Errorf("kill all processes of uid %d: %w %s", uid, err, bytes.TrimSpace(out))
	}
	return nil
}

// killAll is the other half of killUser. It makes sure that it can reach nobody else before it kills everybody whom it
// can reach.
func killAll(argument string) error {
	uid, err := strconv.ParseUint(argument, 10, 32)
	if err != nil || !uids.In(uint32(uid)) || os.Getuid() != int(uid) || os.Geteuid() != int(uid) {
		return fmt.Errorf("not run as uid %s of an environment", argument)
	}
	if can, err := privileged(); can {
		return fmt.Errorf("refused with privileges: %w", err)
	}
	if err := syscall.Kill(-1, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) && !errors.Is(err, syscall.EPERM) {
		return err
	}
	return nil
}

// tryUser proves that this process may run others under a uid of environments.
func tryUser(uid uint32) error {
	err := killUser(uid)
	switch {
	case errors.Is(err, fs.ErrPermission) && !errors.Is(err, syscall.EACCES):
		return fmt.Errorf("root without the right to change its uid (CAP_SETUID, CAP_SETGID): "+
			"functions would run as root; run Hearth as an ordinary user: %w", err)
	case errors.Is(err, syscall.EACCES):
		return nil // it became the user, who may not run our program: then the census has to do
	}
	return err
}
