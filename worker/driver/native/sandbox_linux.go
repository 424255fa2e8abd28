//go:build amd64 || arm64

package native

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// sandbox is a place that holds nothing of any account yet, or what has become of it:
//
//	building ---> ready ---> bound ---> ended (its first process is reaped, all others are gone)
//	    |           |                     |
//	    +-----------+---------------------+
//
// Whoever has it moves it: the stock, and then one environment.
type sandbox struct {
	name     string
	driver   *Driver
	group    group
	init     child
	control  *net.UnixConn
	listener net.Listener
	tap      int // of its network; -1: none, or it has another owner
	ended    chan struct{}
}

// Waits for the shim, which does what takes a millisecond.
const (
	buildWait = 20 * time.Second
	bindWait  = 20 * time.Second
)

// build makes a sandbox and returns when it waits for its letter.
func (d *Driver) build(ctx context.Context) (s *sandbox, err error) {
	s = &sandbox{name: fmt.Sprintf("e%d", d.number.Add(1)), driver: d, tap: -1, ended: make(chan struct{})}
	if s.group, err = d.groups.take(); err != nil {
		return nil, err
	}
	if err := s.start(); err != nil {
		return nil, errors.Join(err, s.group.remove())
	}
	if err := s.ready(ctx); err != nil {
		s.kill()
		<-s.ended
		return nil, errors.Join(err, s.free())
	}
	return s, nil
}

// start starts the first process.
func (s *sandbox) start() error {
	defer s.group.joined()
	ours, theirs, err := socketPair()
	if err != nil {
		return err
	}
	defer theirs.Close()
	null := s.driver.null.Fd()
	files := []uintptr{null, null, null, theirs.Fd()}
	procs, folder := s.group.join()
	if s.init, err = s.driver.spawner().spawn(append(files, procs...), folder); err != nil {
		_ = ours.Close()
		return err
	}
	s.control = ours
	s.driver.wg.Go(func() {
		s.init.wait()
		close(s.ended)
	})
	return nil
}

// ready waits for the Runtime API's socket.
func (s *sandbox) ready(ctx context.Context) error {
	defer s.interrupt(ctx, buildWait)()
	b, oob := make([]byte, stepSize), make([]byte, 64)
	n, oobn, _, _, err := s.control.ReadMsgUnix(b, oob)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("build a sandbox: %w", err)
	}
	if n == stepSize {
		return fmt.Errorf("build a sandbox: %w", failed(b, s.driver.program.first))
	}
	fds, err := rights(oob[:oobn])
	if err != nil {
		return fmt.Errorf("build a sandbox: %w", err)
	}
	if len(fds) > 1 {
		s.tap = fds[1]
	}
	file := os.NewFile(uintptr(fds[0]), "runtime-api")
	defer file.Close()
	if s.listener, err = net.FileListener(file); err != nil {
		return fmt.Errorf("build a sandbox: %w", err)
	}
	return nil
}

// interrupt makes what waits on the control socket fail when ctx or the time is over, until the function that it returns is
// called.
func (s *sandbox) interrupt(ctx context.Context, most time.Duration) (stop func()) {
	_ = s.control.SetDeadline(time.Now().Add(most))
	unhook := context.AfterFunc(ctx, func() { _ = s.control.SetDeadline(time.Unix(1, 0)) })
	return func() { unhook() }
}

// stepError is a step of a script that failed.
type stepError struct {
	step  string
	errno syscall.Errno
}

func (e *stepError) Error() string { return e.step + ": " + e.errno.Error() }
func (e *stepError) Unwrap() error { return e.errno }

// bind sends the letter and returns what it answers: nothing when the command runs, or a [stepError].
func (s *sandbox) bind(ctx context.Context, letter *script, files []*os.File) (said string, err error) {
	defer s.interrupt(ctx, bindWait)()
	text := letter.encode()
	if len(text) > letterSize {
		return "", fmt.Errorf("the command, its arguments and variables take %d bytes; %d are the most", len(text), letterSize)
	}
	var rights []byte
	if len(files) > 0 {
		var fds []int
		for _, f := range files {
			fds = append(fds, int(f.Fd()))
		}
		rights = unix.UnixRights(fds...)
	}
	if _, _, err := s.control.WriteMsgUnix(text, rights, nil); err != nil {
		return "", fmt.Errorf("bind a sandbox: %w", err)
	}
	b := make([]byte, stepSize)
	n, err := s.control.Read(b)
	switch {
	case errors.Is(err, io.EOF):
		return "", nil // closed by the execution, or with the process: its end tells then
	case err != nil && ctx.Err() != nil:
		return "", fmt.Errorf("bind a sandbox: %w", context.Cause(ctx))
	case err != nil:
		return "", fmt.Errorf("bind a sandbox: %w", err)
	case n == stepSize:
		return "", failed(b, letter, s.driver.program.first)
	}
	return string(b[:n]), nil
}

// kill ends all its processes. They must not be frozen.
func (s *sandbox) kill() { _ = s.init.kill() }

// free gives back what an ended sandbox had.
func (s *sandbox) free() error {
	if s.listener != nil {
		_ = s.listener.Close()
	}
	if s.tap >= 0 {
		s.driver.egress.Release(s.tap)
	}
	_ = s.control.Close()
	s.init.close()
	return s.driver.groups.give(s.group)
}

// dead tells whether it has ended.
func (s *sandbox) dead() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

// socketPair is the control socket, the worker's end first.
func socketPair() (*net.UnixConn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a control socket: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "control")
	// A letter is one message; root may make the buffer as large as that takes.
	_ = unix.SetsockoptInt(fds[0], unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 2*letterSize)
	file := os.NewFile(uintptr(fds[0]), "control")
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		_ = theirs.Close()
		return nil, nil, fmt.Errorf("make a control socket: %w", err)
	}
	return conn.(*net.UnixConn), theirs, nil
}

// rights are the descriptors that came with a message: at least one.
func rights(oob []byte) ([]int, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	if len(messages) != 1 {
		return nil, fmt.Errorf("%d control messages", len(messages))
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil, err
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
	}
	return fds, nil
}
