package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hearth-run/hearth/worker/driver"
	"github.com/hearth-run/hearth/worker/driver/pipe"
)

// outputGrace is how long the output of an environment may stay open after all of its processes are gone: somebody else
// has been handed the pipe.
const outputGrace = time.Second

// A program that was unpacked a moment ago can be busy: a process that forked meanwhile has it open for writing until it
// executes (golang/go#22315). That takes milliseconds.
const (
	busyFirst  = time.Millisecond
	busyAtMost = 64 * time.Millisecond
)

// Environment is one process and what it left behind. Safe for concurrent use.
type Environment struct {
	driver   *Driver
	id       string
	uid      uint32 // 0: the worker's own
	scratch  string
	listener net.Listener
	done     chan struct{}

	mu     sync.Mutex
	phase  phase
	killed bool
	child  child
	exit   driver.Exit
	output *pipe.Output // nil before Start
}

var (
	_ driver.Environment = (*Environment)(nil)
	_ driver.Drainer     = (*Environment)(nil)
	_ driver.Terminator  = (*Environment)(nil)
)

// phase is where an environment stands; see the drawing in doc.go.
type phase uint8

const (
	making phase = iota
	fresh
	starting
	running
	ending
)

// Listener is where the function finds its Runtime API.
func (e *Environment) Listener() net.Listener { return e.listener }

// APIAddress is the listener's host:port.
func (e *Environment) APIAddress() string { return e.listener.Addr().String() }

// Done is closed when no process of the environment lives, its output has ended, and its folder and uid are free.
func (e *Environment) Done() <-chan struct{} { return e.done }

// Exit tells how the main process ended.
func (e *Environment) Exit() driver.Exit {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.exit
}

// Start runs the command: in a session of its own, with the command's variables and TMPDIR and HOME (the scratch folder,
// unless the command says otherwise), stdin empty. A command that cannot be run is a [*os.PathError] as os/exec has it
// ("fork/exec PATH: no such file or directory"), wrapped with what stands in the way where that can be told; the
// environment has ended then. Output must not block for ever.
func (e *Environment) Start(ctx context.Context, cmd driver.Command, to io.Writer) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("start environment %s: %w", e.id, context.Cause(ctx))
	}
	if err := e.begin(); err != nil {
		return err
	}
	child, read, out, err := e.spawn(cmd, to)
	if err != nil {
		e.fail()
		return err
	}
	started := time.Now()
	e.mu.Lock()
	e.child, e.phase, e.exit.Started = child, running, true
	if e.killed {
		_ = child.killSession()
	}
	e.mu.Unlock()
	copied := make(chan struct{})
	e.driver.wg.Go(func() {
		defer close(copied)
		out.Copy()
	})
	e.driver.wg.Go(func() { e.reap(started, read, copied) })
	if err := e.driver.guard.tell(context.WithoutCancel(ctx), message{Op: opStarted, belongings: e.belongings()}); err != nil {
		e.Kill()
		return fmt.Errorf("start environment %s: %w", e.id, err)
	}
	return nil
}

func (e *Environment) begin() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.killed:
		return ErrEnded
	case e.phase != fresh:
		return ErrStarted
	}
	e.phase = starting
	return nil
}

// made ends the making of an environment: it is fresh, or at its end already.
func (e *Environment) made(err error) error {
	e.mu.Lock()
	if err == nil && e.killed {
		err = ErrClosed
	}
	if err == nil {
		e.phase = fresh
	}
	e.mu.Unlock()
	if err != nil {
		e.fail()
	}
	return err
}

// fail ends an environment that has no process.
func (e *Environment) fail() {
	e.mu.Lock()
	e.phase = ending
	e.exit.Killed = e.killed
	e.mu.Unlock()
	e.finish(true)
}

// spawn forks on the spawner's thread and returns the read end of the output.
func (e *Environment) spawn(cmd driver.Command, to io.Writer) (c child, read *os.File, out *pipe.Output, err error) {
	read, write, err := os.Pipe()
	if err != nil {
		return c, nil, nil, fmt.Errorf("start environment %s: %w", e.id, err)
	}
	defer write.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		_ = read.Close()
		return c, nil, nil, fmt.Errorf("start environment %s: %w", e.id, err)
	}
	defer null.Close()
	out = pipe.New(read, to)
	e.mu.Lock()
	e.output = out // before there is a child: it may answer calls, whose output is drained, before this goroutine goes on
	e.mu.Unlock()
	env := slices.Clone(cmd.Env)
	for _, name := range []string{"TMPDIR", "HOME"} {
		if !slices.ContainsFunc(env, func(v string) bool { return strings.HasPrefix(v, name+"=") }) {
			env = append(env, name+"="+e.scratch)
		}
	}
	attr := &syscall.ProcAttr{
		Dir: cmd.Dir, Env: env, Files: []uintptr{null.Fd(), write.Fd(), write.Fd()},
		Sys: &syscall.SysProcAttr{Setsid: true},
	}
	if e.uid != 0 {
		attr.Sys.Credential = &syscall.Credential{Uid: e.uid, Gid: e.uid}
	}
	for pause := busyFirst; ; pause *= 2 {
		e.driver.spawner.do(func() {
			c, err = startChild(cmd.Path, append([]string{cmd.Path}, cmd.Args...), attr)
			if err == nil && e.uid != 0 {
				limit(c.pid)
			}
		})
		if !errors.Is(err, syscall.ETXTBSY) || pause > busyAtMost {
			break
		}
		<-time.After(pause)
	}
	if err != nil {
		_ = read.Close()
		return c, nil, nil, explain(err, cmd, e.uid)
	}
	return c, read, out, nil
}

// Kill ends everything inside at once. Safe twice, before Start, and while it starts.
func (e *Environment) Kill() {
	e.mu.Lock()
	defer e.mu.Unlock()
	was := e.phase
	if was == ending {
		return
	}
	e.killed = true
	switch was {
	case fresh:
		e.phase = ending
		e.exit.Killed = true
		e.driver.wg.Go(func() { e.finish(true) })
	case running:
		// The main process is not reaped while the phase is running, so its number is still its own.
		_ = e.child.killSession()
	}
}

// Terminate asks the main process to end by SIGTERM.
func (e *Environment) Terminate() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.phase == running {
		_ = syscall.Kill(e.child.pid, syscall.SIGTERM) // not reaped while the phase is running
	}
}

// reap waits for the main process, ends all others, and tells how it went.
func (e *Environment) reap(started time.Time, output *os.File, copied <-chan struct{}) {
	e.child.wait()
	e.mu.Lock()
	e.phase = ending
	e.exit.Lived = time.Since(started)
	e.exit.Killed = e.killed
	e.mu.Unlock()
	// As long as the main process is not reaped, its number, which is its session's and its group's, is given to nobody.
	_ = e.child.killSession()
	clean := e.driver.sweeper.clear(e.belongings())
	status := e.child.reap()
	e.mu.Lock()
	e.exit.Code = status.ExitStatus()
	if status.Signaled() {
		e.exit.Code = -1
		e.exit.Signal = status.Signal().String()
		e.exit.CoreDumped = status.CoreDump()
	}
	e.mu.Unlock()
	_ = output.SetReadDeadline(time.Now().Add(outputGrace))
	<-copied
	_ = output.Close()
	e.finish(clean)
}

// finish frees what the environment had. A uid under which something may still live is never used again.
func (e *Environment) finish(clean bool) {
	d := e.driver
	if e.listener != nil {
		_ = e.listener.Close()
	}
	if e.scratch != "" {
		if err := removeScratch(e.scratch); err != nil {
			d.cfg.Log.Warn("scratch folder of an environment stays", "environment", e.id, "folder", e.scratch, "error", err)
		}
		if err := d.guard.tell(context.Background(), message{Op: opEnd, belongings: e.belongings()}); err != nil {
			d.cfg.Log.Warn("keeper was not told of an environment's end", "environment", e.id, "error", err)
		}
	}
	if e.uid != 0 && clean {
		d.users.Give(e.uid)
	}
	d.remove(e)
	close(e.done)
}

// belongings is how the processes of the environment are known.
func (e *Environment) belongings() belongings {
	return belongings{ID: e.id, UID: e.uid, Session: e.child.pid, Scratch: e.scratch}
}

// Drain gives the writer of Start what the processes have written until now.
func (e *Environment) Drain() {
	e.mu.Lock()
	o := e.output
	e.mu.Unlock()
	if o != nil {
		o.Drain()
	}
}
