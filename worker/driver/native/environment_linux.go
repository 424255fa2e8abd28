//go:build amd64 || arm64

package native

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hearth-run/hearth/worker/driver"
	"github.com/hearth-run/hearth/worker/driver/pipe"
	"github.com/hearth-run/hearth/worker/egress"
)

// outputGrace is how long the output of an environment may stay open after all of its processes are gone: somebody else
// has been handed the pipe.
const outputGrace = time.Second

// Environment is one sandbox and what runs in it. Safe for concurrent use.
type Environment struct {
	driver  *Driver
	id      string
	tmp     int64 // bytes
	sandbox *sandbox
	done    chan struct{}

	mu      sync.Mutex
	phase   phase
	killed  bool
	frozen  bool
	uid     uint32 // 0 before Start
	began   time.Time
	exit    driver.Exit
	status  *os.File // read end; nil before Start
	pipe    *os.File // read end
	output  *pipe.Output
	copied  chan struct{} // closed when the output has ended
	settled chan struct{} // closed by a Start that is over
	network *egress.Attachment
}

var (
	_ driver.Environment = (*Environment)(nil)
	_ driver.Drainer     = (*Environment)(nil)
	_ driver.Freezer     = (*Environment)(nil)
	_ driver.Terminator  = (*Environment)(nil)
	_ driver.Meter       = (*Environment)(nil)
	_ driver.Marker      = (*Environment)(nil)

	_ driver.NetworkBinder = (*Environment)(nil)
)

// phase is where an environment stands.
type phase uint8

const (
	fresh phase = iota
	starting
	running
	ending
)

// Listener is the Runtime API's socket in the environment's own network.
func (e *Environment) Listener() net.Listener { return e.sandbox.listener }

// APIAddress is 127.0.0.1:9001, as the environment sees it.
func (e *Environment) APIAddress() string { return apiAddress }

// Done is closed when no process of the environment lives, its output has ended, and its cgroups and uid are free.
func (e *Environment) Done() <-chan struct{} { return e.done }

// Exit tells how the main process ended.
func (e *Environment) Exit() driver.Exit {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.exit
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

// Start binds the sandbox: to the code in cmd.Dir, which it sees as /var/task, to the runtime's folder as /var/runtime, to a
// uid of its own, and runs the command there, with TMPDIR and HOME (/tmp, unless the command says otherwise). cmd.Path and
// the variables are as the environment sees them. A command that cannot be run is a [*os.PathError] as os/exec has it
// ("fork/exec PATH: no such file or directory"); the environment has ended then.
func (e *Environment) Start(ctx context.Context, cmd driver.Command, to io.Writer) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("start environment %s: %w", e.id, context.Cause(ctx))
	}
	if err := e.begin(); err != nil {
		return err
	}
	err := e.start(ctx, cmd, to)
	e.mu.Lock()
	if err == nil {
		e.phase, e.exit.Started = running, true
	}
	e.mu.Unlock()
	close(e.settled)
	if err != nil {
		e.sandbox.kill()
	}
	return err
}

func (e *Environment) begin() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.killed || e.phase == ending:
		return ErrEnded
	case e.phase != fresh:
		return ErrStarted
	}
	e.phase, e.settled = starting, make(chan struct{})
	return nil
}

func (e *Environment) start(ctx context.Context, cmd driver.Command, to io.Writer) (err error) {
	wrap := func(err error) error { return fmt.Errorf("start environment %s: %w", e.id, err) }
	var files []*os.File // that go into the sandbox
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
	}()
	uid, err := e.driver.users.Take()
	if err != nil {
		return wrap(err)
	}
	output, outputEnd, err := os.Pipe()
	if err != nil {
		e.driver.users.Give(uid)
		return wrap(err)
	}
	files = append(files, outputEnd)
	status, statusEnd, err := os.Pipe()
	if err != nil {
		e.driver.users.Give(uid)
		_ = output.Close()
		return wrap(err)
	}
	files = append(files, statusEnd)
	out, copied := pipe.New(output, to), make(chan struct{})
	e.mu.Lock()
	e.uid, e.pipe, e.status, e.output, e.copied, e.began = uid, output, status, out, copied, time.Now()
	e.mu.Unlock()
	e.driver.wg.Go(func() {
		defer close(copied)
		out.Copy()
	})
	// So that a process may open /dev/stdout.
	if err := outputEnd.Chown(int(uid), int(uid)); err != nil {
		return wrap(err)
	}
	b := binding{uid: uid, tmp: e.tmp, alone: e.sandbox.tap >= 0 && !e.driver.reaches(cmd.Network), command: cmd}
	for _, tree := range []struct {
		path string
		has  *bool
	}{{cmd.Dir, &b.task}, {cmd.Runtime, &b.runtime}} {
		if tree.path == "" {
			continue
		}
		fd, err := detach(tree.path, e.driver.left.attributes(readOnly))
		if errors.Is(err, fs.ErrNotExist) {
			return &os.PathError{Op: "chdir", Path: tree.path, Err: syscall.ENOENT}
		}
		if err != nil {
			return wrap(err)
		}
		files = append(files, os.NewFile(uintptr(fd), tree.path))
		*tree.has = true
	}
	b.command.Env = slices.Clone(cmd.Env)
	for _, name := range []string{"TMPDIR", "HOME"} {
		if !slices.ContainsFunc(cmd.Env, func(v string) bool { return strings.HasPrefix(v, name+"=") }) {
			b.command.Env = append(b.command.Env, name+"=/tmp")
		}
	}
	if err := nulls(&b.command); err != nil {
		return err
	}
	_, err = e.sandbox.bind(ctx, newLetter(e.driver.program, b), files)
	var failed *stepError
	if errors.As(err, &failed) {
		switch failed.step {
		case stepExec:
			return &os.PathError{Op: "fork/exec", Path: cmd.Path, Err: failed.errno}
		case stepChdir:
			return &os.PathError{Op: "chdir", Path: taskDir, Err: failed.errno}
		}
	}
	if err != nil {
		return wrap(err)
	}
	network, err := e.driver.network(e.sandbox, cmd.Network)
	if err != nil {
		return wrap(err)
	}
	e.mu.Lock()
	e.network = network
	e.mu.Unlock()
	return nil
}

// nulls refuses what no process can be started with.
func nulls(cmd *driver.Command) error {
	for _, text := range slices.Concat([]string{cmd.Path}, cmd.Args, cmd.Env) {
		if strings.ContainsRune(text, 0) {
			return &os.PathError{Op: "fork/exec", Path: cmd.Path, Err: syscall.EINVAL}
		}
	}
	return nil
}

// Kill ends everything inside at once. Safe twice, before Start, and while it starts.
func (e *Environment) Kill() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.phase == ending {
		return
	}
	e.killed = true
	if e.frozen {
		// What is frozen survives being killed until it thaws (cgroup v1).
		_ = e.sandbox.group.freeze(false)
		e.frozen = false
	}
	e.sandbox.kill()
}

// Terminate asks the main process to end by SIGTERM, thawed if need be.
func (e *Environment) Terminate() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.phase != running || e.killed {
		return
	}
	if e.frozen {
		_ = e.sandbox.group.freeze(false)
		e.frozen = false
	}
	if err := e.sandbox.terminate(); err != nil {
		e.driver.cfg.Log.Warn("an environment cannot be asked to end", "environment", e.id, "error", err)
	}
}

// Freeze stops every process of the environment, or lets them go on: between calls it then uses no processor time.
func (e *Environment) Freeze(on bool) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.phase == ending || e.killed {
		return ErrEnded
	}
	if err := e.sandbox.group.freeze(on); err != nil {
		return fmt.Errorf("freeze environment %s: %w", e.id, err)
	}
	e.frozen = on
	return nil
}

// Memory is how many bytes are charged to the environment now.
func (e *Environment) Memory() (int64, error) { return e.sandbox.group.usage() }

// Peak is the most that it was. A v2 kernel before 5.19 does not tell.
func (e *Environment) Peak() (int64, error) { return e.sandbox.group.peak() }

// MarkTraffic has what it did with its network until now told apart from what it does later.
func (e *Environment) MarkTraffic() bool {
	e.mu.Lock()
	network := e.network
	e.mu.Unlock()
	return network != nil && network.Mark()
}

// BindNetwork has its connections and queries be of a sub-tenant's share.
func (e *Environment) BindNetwork(tenant string) {
	e.mu.Lock()
	network := e.network
	e.mu.Unlock()
	if network != nil {
		network.Bind(tenant)
	}
}

// live waits for the end and gives back what the environment had.
func (e *Environment) live() {
	<-e.sandbox.ended
	e.mu.Lock()
	e.exit.Killed = e.killed
	settled := e.settled
	if settled == nil {
		e.phase = ending
	}
	e.mu.Unlock()
	if settled != nil {
		<-settled
	}
	e.mu.Lock()
	e.phase = ending
	started, status, output, copied, uid, network := e.exit.Started, e.status, e.pipe, e.copied, e.uid, e.network
	if started {
		e.exit.Lived = time.Since(e.began)
	}
	e.mu.Unlock()
	if started {
		e.tell(status)
	}
	if network != nil {
		network.Close()
	}
	if output != nil {
		_ = output.SetReadDeadline(time.Now().Add(outputGrace))
		<-copied
		_ = output.Close()
		_ = status.Close()
	}
	if err := e.sandbox.free(); err != nil {
		e.driver.cfg.Log.Warn("an environment leaves something", "environment", e.id, "error", err)
	}
	if uid != 0 {
		e.driver.users.Give(uid)
	}
	e.driver.remove(e)
	close(e.done)
}

// tell reads how the main process ended. A first process that was killed itself has told nothing.
func (e *Environment) tell(pipe *os.File) {
	status := syscall.WaitStatus(syscall.SIGKILL)
	var b [4]byte
	if _, err := io.ReadFull(pipe, b[:]); err == nil {
		status = syscall.WaitStatus(binary.NativeEndian.Uint32(b[:]))
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.exit.Code = status.ExitStatus()
	if status.Signaled() {
		e.exit.Code = -1
		e.exit.Signal = status.Signal().String()
		e.exit.CoreDumped = status.CoreDump()
		e.exit.OutOfMemory = status.Signal() == syscall.SIGKILL && !e.killed && e.sandbox.group.outOfMemory()
	}
}
