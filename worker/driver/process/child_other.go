//go:build !linux

package process

import (
	"errors"
	"syscall"
)

// child is the main process of an environment.
type child struct {
	pid    int
	status *syscall.WaitStatus
}

func prepareThread() {}

func startChild(path string, argv []string, attr *syscall.ProcAttr) (child, error) {
	// What this program inherited itself goes no further; Go closes at exec what it opens.
	for fd := 3; fd < 256; fd++ {
		syscall.CloseOnExec(fd)
	}
	pid, err := syscall.ForkExec(path, argv, attr)
	return child{pid: pid, status: new(syscall.WaitStatus)}, err
}

// limit does nothing: the limits of another process cannot be set here.
func limit(int) {}

// wait returns when the process has ended. It is reaped by that: between this and the kill of its group the number of the
// group could be given to another one, if no member of it lives.
func (c child) wait() {
	for {
		_, err := syscall.Wait4(c.pid, c.status, 0, nil)
		if !errors.Is(err, syscall.EINTR) {
			return
		}
	}
}

func (c child) reap() syscall.WaitStatus { return *c.status }

func (c child) killSession() error { return syscall.Kill(-c.pid, syscall.SIGKILL) }
