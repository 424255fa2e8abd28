//go:build amd64 || arm64

package native

import (
	"errors"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// functionPID is the number of a function's main process in its namespace: the first that was forked there.
const functionPID = 2

// terminate sends SIGTERM to the function's main process. The worker did not start it itself, and a number that it reads may
// be another's a moment later; so it opens who has the number, and looks at what it holds then.
func (s *sandbox) terminate() error {
	pids, err := s.group.processes()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue // it has ended
		}
		main, err := inNamespace(fd)
		if err == nil && main == functionPID {
			err = unix.PidfdSendSignal(fd, unix.SIGTERM, nil, 0)
		}
		_ = unix.Close(fd)
		switch {
		case err != nil && !errors.Is(err, unix.ESRCH):
			return err
		case main == functionPID:
			return nil
		}
	}
	return nil
}

// inNamespace is the number that a process has in its innermost namespace, 0 if it has ended. Sandboxes cannot nest further:
// the filter forbids namespaces.
func inNamespace(pidfd int) (int, error) {
	b, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(pidfd))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		// "NSpid:\t4711\t2"; a process of this namespace has one number alone.
		numbers, ok := strings.CutPrefix(line, "NSpid:")
		if fields := strings.Fields(numbers); ok && len(fields) > 1 {
			return strconv.Atoi(fields[len(fields)-1])
		}
	}
	return 0, nil
}
