//go:build linux || darwin

package runtimeapi

import "golang.org/x/sys/unix"

// canAttempt tells that [writeOnce] works here.
const canAttempt = true

// writeOnce writes as much of the pieces as the socket takes at once.
func writeOnce(fd int, pieces *[2][]byte) (int, error) {
	for {
		var n int
		var err error
		if len(pieces[1]) == 0 {
			n, err = unix.Write(fd, pieces[0])
		} else {
			n, err = unix.Writev(fd, pieces[:])
		}
		switch err {
		case nil:
			return n, nil
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return 0, nil
		}
		return 0, err
	}
}
