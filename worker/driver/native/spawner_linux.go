//go:build amd64 || arm64

package native

import (
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// spawner starts first processes of sandboxes from one thread that lives as long as the driver: the kernel's parent-death
// signal is sent when the thread ends that forked (golang/go#27505). The thread stands in the tree that sandboxes copy, and
// sees nothing of the host.
type spawner struct {
	requests chan func()
}

// run makes the tree, tells how that went, and serves requests until they are closed.
func (s *spawner) run(dir string, shim []byte, p plan, made chan<- error) {
	// Never unlocked: the thread ends with this goroutine and is given to nobody.
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// What the system tells of the process, in /proc/self, is of its first thread, which must not be this one. While it
		// is locked, another goroutine runs elsewhere.
		other := make(chan struct{})
		go func() { // ends before this one
			defer close(other)
			s.run(dir, shim, p, made)
		}()
		<-other
		runtime.UnlockOSThread()
		return
	}
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		made <- fmt.Errorf("make a mount namespace: %w", err)
		return
	}
	unix.Umask(0o022)
	if err := makeTree(dir, shim, p.left); err != nil {
		made <- err
		return
	}
	if err := keepForChildren(p.lastCap); err != nil {
		made <- err
		return
	}
	if len(p.inherited) > 0 && !p.left[stepFilter] {
		if err := restrict(p.inherited); err != nil {
			made <- fmt.Errorf("filter system calls: %w", err)
			return
		}
	}
	made <- nil
	for f := range s.requests {
		f()
	}
}

// keepForChildren empties the bounding set of the calling thread for what it starts, once instead of in every sandbox (a third
// of their system calls, measured). So that the shim has capabilities all the same, until it gives them up, they are ambient.
func keepForChildren(lastCap int) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	for i := range data {
		data[i].Inheritable = data[i].Permitted
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("keep capabilities: %w", err)
	}
	for c := range lastCap + 1 {
		if data[c/32].Permitted&(1<<(c%32)) == 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(c), 0, 0); err != nil {
			return fmt.Errorf("keep capability %d: %w", c, err)
		}
	}
	for c := range lastCap + 1 {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil {
			return fmt.Errorf("bound capability %d: %w", c, err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_SECUREBITS, notByRoot, 0, 0, 0); err != nil {
		return fmt.Errorf("set secure bits: %w", err)
	}
	return nil
}

// Secure bits, each locked: uid 0 has no rights by being it; no capability is kept over a change of user, or raised as ambient.
const (
	notByRoot = 1<<0 | 1<<1
	notAtAll  = notByRoot | 1<<5 | 1<<6 | 1<<7
)

// namespaces are what a sandbox has of its own. That of cgroups it makes when it has joined its own.
const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS

// spawn starts the shim with these descriptors, in namespaces of its own, and in the cgroup of a v2 hierarchy if there is one (not -1).
func (s *spawner) spawn(files []uintptr, cgroup int) (child, error) {
	attr := &syscall.ProcAttr{
		Env: []string{}, Files: files,
		Sys: &syscall.SysProcAttr{
			Setsid: true, Cloneflags: namespaces,
		},
	}
	if cgroup >= 0 {
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, cgroup
	}
	fd := -1
	attr.Sys.PidFD = &fd
	var pid int
	var err error
	done := make(chan struct{})
	s.requests <- func() {
		defer close(done)
		pid, err = syscall.ForkExec(initPath, []string{initPath}, attr)
	}
	<-done
	if err != nil {
		return child{}, fmt.Errorf("start the first process: %w", err)
	}
	if fd < 0 {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		_, _ = syscall.Wait4(pid, nil, 0, nil)
		return child{}, fmt.Errorf("start the first process: %w", unix.ENOSYS)
	}
	_ = unix.SetNonblock(fd, true)
	return child{pid: pid, pidfd: os.NewFile(uintptr(fd), "pidfd")}, nil
}

// child is a process that was started here.
type child struct {
	pid   int
	pidfd *os.File
}

// wait returns when the process has ended, which for the first one of a namespace means that all others of it have, and reaps
// it. It costs no thread.
func (c child) wait() {
	if raw, err := c.pidfd.SyscallConn(); err == nil {
		_ = raw.Read(func(fd uintptr) bool {
			var info unix.Siginfo
			err := unix.Waitid(unix.P_PIDFD, int(fd), &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
			return info.Signo != 0 || err != nil && err != unix.EINTR
		})
	}
	for {
		if _, err := syscall.Wait4(c.pid, nil, 0, nil); err != syscall.EINTR {
			break
		}
	}
}

// kill ends the process, and with it its namespace. It is safe until close.
func (c child) kill() error {
	raw, err := c.pidfd.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	if err := raw.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0) }); err != nil {
		return err
	}
	return sent
}

func (c child) close() { _ = c.pidfd.Close() }
