//go:build amd64 || arm64

package native

import (
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Objects are what the kernel makes for a sandbox beside its namespaces, so that a bench sees the price of each.
type Objects struct{ Groups, Mounts, Masks, Tap bool }

// AllObjects are those of every sandbox. A device is none of them: it is made when a function sends its first packet.
var AllObjects = Objects{Groups: true, Mounts: true, Masks: true, Tap: true}

// Twin starts a program in the same objects of the kernel as a sandbox has, and does nothing else of what Hearth does: no letter, no
// stock, no user, no filter, no limits, no rules of landlock, nobody who waits or counts. What that costs beside a bare process is the
// kernel's price: no way of making such a sandbox costs less, short of fewer objects.
type Twin struct {
	dir     string // the program's
	groups  hierarchy
	null    *os.File
	spawner *spawner
	number  atomic.Uint64
	closing sync.WaitGroup
}

// NewTwin makes one whose programs are "guest" in dir. tree is a folder to mount over.
func NewTwin(t testing.TB, tree, dir string, args []string, o Objects) *Twin {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	w := &Twin{dir: dir, spawner: &spawner{requests: make(chan func())}}
	var p plan
	var err error
	if o.Groups {
		w.groups, err = findHierarchy("hearth-twin-", os.Getpid())
		must(err)
		t.Cleanup(func() { must(w.groups.close()) })
		if _, ok := w.groups.(*v1); ok {
			p.joins = len(controllers)
		}
	}
	if o.Masks {
		p.dirs, p.files, err = masks()
		must(err)
	}
	p.device, p.six = o.Tap, hasSix()
	w.null, err = os.OpenFile(os.DevNull, os.O_RDWR, 0)
	must(err)
	t.Cleanup(func() { _ = w.null.Close() })
	shim, err := elf(twinScript(p, o.Mounts, args).encode())
	must(err)
	must(os.MkdirAll(tree, 0o711))
	p.lastCap, err = lastCapability()
	must(err)
	made, over := make(chan error, 1), make(chan struct{})
	go func() { // awaited below
		defer close(over)
		w.spawner.run(tree, shim, p, made)
	}()
	must(<-made)
	t.Cleanup(func() {
		w.closing.Wait()
		close(w.spawner.requests)
		<-over
	})
	return w
}

// twinScript is the program: the objects, a child that executes, and the wait for it.
func twinScript(p plan, mounted bool, args []string) *script {
	const code = procsFD // the tree of the program; the groups are behind it
	s := &script{base: scriptBase}
	parent, wrong := &label{}, &label{}
	s.do("keep the control socket to ourselves", unix.SYS_FCNTL, controlFD, unix.F_SETFD, unix.FD_CLOEXEC)
	for i := range p.joins {
		s.do("join a cgroup", unix.SYS_WRITE, code+1+i, "0", 1)
	}
	s.do("close", unix.SYS_CLOSE_RANGE, code+1, math.MaxInt32, 0)
	s.do("make a cgroup namespace", unix.SYS_UNSHARE, unix.CLONE_NEWCGROUP)
	if mounted {
		mounts(s, p)
	}
	s.do("mount the code", unix.SYS_MOVE_MOUNT, code, "", unix.AT_FDCWD, taskDir, unix.MOVE_MOUNT_F_EMPTY_PATH)
	s.do("close", unix.SYS_CLOSE, code)
	listen(s, p, code, wrong)
	s.do("fork", unix.SYS_CLONE, int(unix.SIGCHLD), 0, 0, 0, 0).unless(0, parent)
	argv := []any{s.text(taskDir + "/guest")}
	for _, a := range args {
		argv = append(argv, s.text(a))
	}
	s.do("execute", unix.SYS_EXECVE, argv[0], s.table(append(argv, 0)...), s.table(s.text("AWS_LAMBDA_RUNTIME_API="+apiAddress), 0))
	parent.at = len(s.steps)
	s.do("wait", unix.SYS_WAIT4, -1, nil, 0, nil)
	s.do("end", unix.SYS_EXIT_GROUP, 0)
	wrong.at = len(s.steps)
	s.do("set up the network", unix.SYS_CLOSE, -1)
	return s
}

// Start starts a program. It gives the listener that it dials, and what ends it and returns when nothing of it is left.
func (w *Twin) Start() (net.Listener, func() error, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, nil, err
	}
	defer ours.Close()
	tree, err := detach(w.dir, readOnly)
	if err != nil {
		_ = theirs.Close()
		return nil, nil, err
	}
	attr := &syscall.ProcAttr{Env: []string{}, Files: []uintptr{w.null.Fd(), w.null.Fd(), w.null.Fd(), theirs.Fd(), uintptr(tree)},
		Sys: &syscall.SysProcAttr{Setsid: true, Cloneflags: namespaces}}
	remove := func() error { return nil }
	if w.groups != nil {
		g, err := w.groups.make(fmt.Sprintf("t%d", w.number.Add(1)))
		if err != nil {
			return nil, nil, err
		}
		remove = g.remove
		defer g.joined()
		procs, folder := g.join()
		attr.Files = append(attr.Files, procs...)
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = folder >= 0, max(0, folder)
	}
	pidfd := -1
	attr.Sys.PidFD = &pidfd
	c := child{}
	done := make(chan struct{})
	w.spawner.requests <- func() {
		defer close(done)
		c.pid, err = syscall.ForkExec(initPath, []string{initPath}, attr)
	}
	<-done
	_ = unix.Close(tree)
	_ = theirs.Close()
	if err != nil {
		return nil, nil, errors.Join(err, remove())
	}
	_ = unix.SetNonblock(pidfd, true)
	c.pidfd = os.NewFile(uintptr(pidfd), "pidfd")
	end := func() error {
		_ = c.kill()
		c.wait()
		c.close()
		return remove()
	}
	b, oob := make([]byte, stepSize), make([]byte, 64)
	n, oobn, _, _, err := ours.ReadMsgUnix(b, oob)
	if err == nil && n == stepSize {
		err = fmt.Errorf("the twin fails at a system call: %x", b)
	}
	var fds []int
	if err == nil {
		fds, err = rights(oob[:oobn])
	}
	if err != nil {
		return nil, nil, errors.Join(err, end())
	}
	file := os.NewFile(uintptr(fds[0]), "listener")
	defer file.Close()
	for _, tap := range fds[1:] {
		w.closing.Go(func() { _ = unix.Close(tap) }) // the kernel takes a while
	}
	l, err := net.FileListener(file)
	if err != nil {
		return nil, nil, errors.Join(err, end())
	}
	return l, func() error { return errors.Join(end(), l.Close()) }, nil
}
