package process

import (
	"errors"
	"math"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Limits of an environment that has a uid of its own, as Lambda has them.
const (
	maxFiles     = 1024
	maxProcesses = 1024 // threads too
	maxCore      = 1    // byte; 0 would still start a core handler behind a pipe (SECURITY 3)
)

// child is the main process of an environment.
type child struct {
	pid   int
	pidfd *os.File // nil where the kernel has none
}

// prepareThread sets up the thread that forks: its children can gain no privileges by exec, and have a umask of their own.
func prepareThread() {
	_ = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	if unix.Unshare(unix.CLONE_FS) == nil {
		unix.Umask(0o022)
	}
}

// startChild forks and executes. The process gets SIGKILL when the calling thread ends.
func startChild(path string, argv []string, attr *syscall.ProcAttr) (child, error) {
	// What this program inherited itself, from a shell for instance, or a library opened, goes no further.
	_ = unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
	fd := -1
	attr.Sys.Pdeathsig = syscall.SIGKILL
	attr.Sys.PidFD = &fd
	pid, err := syscall.ForkExec(path, argv, attr)
	if err != nil {
		return child{}, err
	}
	c := child{pid: pid}
	if fd >= 0 {
		// Not blocking, so that waiting for the end costs the worker no thread: a pidfd is readable then.
		_ = unix.SetNonblock(fd, true)
		c.pidfd = os.NewFile(uintptr(fd), "pidfd")
	}
	return c, nil
}

// limit bounds what a child may open and start, as far as this worker may: that takes CAP_SYS_RESOURCE, which root lacks in
// many containers. The child runs already: what it did before that stays.
func limit(pid int) {
	for resource, most := range map[int]uint64{
		unix.RLIMIT_NOFILE: maxFiles, unix.RLIMIT_NPROC: maxProcesses, unix.RLIMIT_CORE: maxCore,
	} {
		_ = unix.Prlimit(pid, resource, &unix.Rlimit{Cur: most, Max: most}, nil)
	}
}

// wait returns when the process has ended, and leaves it to be reaped: until then its number stays its own.
func (c child) wait() {
	if c.pidfd != nil && c.poll() == nil {
		return
	}
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, c.pid, &info, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

func (c child) poll() error {
	raw, err := c.pidfd.SyscallConn()
	if err != nil {
		return err
	}
	var waitErr error
	err = raw.Read(func(fd uintptr) bool {
		var info unix.Siginfo
		waitErr = unix.Waitid(unix.P_PIDFD, int(fd), &info, unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil)
		return info.Signo != 0 || waitErr != nil && !errors.Is(waitErr, unix.EINTR)
	})
	return errors.Join(err, waitErr)
}

// reap takes the status of a process that has ended.
func (c child) reap() (status syscall.WaitStatus) {
	for {
		_, err := syscall.Wait4(c.pid, &status, 0, nil)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if c.pidfd != nil {
		_ = c.pidfd.Close()
	}
	return status
}

// killSession kills the group of the process, which leads it. It must not be called after reap.
func (c child) killSession() error { return syscall.Kill(-c.pid, syscall.SIGKILL) }
