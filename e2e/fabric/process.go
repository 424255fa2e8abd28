package fabric

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Process is one program of a scenario. It may be ended, held, and started again as it was; its output is kept over all
// its starts. One goroutine at a time moves it.
type Process struct {
	Name string

	t    testing.TB
	path string
	args []string
	env  []string
	log  *buffer

	mu  sync.Mutex // guards run
	run *run
}

// run is one start of a process.
type run struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of its end; read after done
}

// stopping bounds an orderly end.
const stopping = 40 * time.Second

func newProcess(t testing.TB, name, path string, args, env []string) *Process {
	p := &Process{Name: name, t: t, path: path, args: args, env: env, log: &buffer{}}
	t.Cleanup(func() { p.Stop() })
	return p
}

// start runs the program, which must not run.
func (p *Process) start() error {
	r := &run{cmd: exec.Command(p.path, p.args...), done: make(chan struct{})}
	r.cmd.Env, r.cmd.Stdout, r.cmd.Stderr = p.env, p.log, p.log
	// In a group of its own: Ctrl-C at a test is the test's to act on.
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := r.cmd.Start(); err != nil {
		return err
	}
	go func() { // ends with the process; Stop and Kill wait for it
		r.err = r.cmd.Wait()
		close(r.done)
	}()
	p.mu.Lock()
	p.run = r
	p.mu.Unlock()
	return nil
}

func (p *Process) current() *run {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.run
}

// PID is the process's number, of its last start; 0 before the first.
func (p *Process) PID() int {
	if r := p.current(); r != nil {
		return r.cmd.Process.Pid
	}
	return 0
}

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.current().done }

// Log is what the process has written.
func (p *Process) Log() string { return p.log.String() }

// Stop ends the process in order (SIGTERM) and waits; safe twice, after Kill, and of a process that is paused.
func (p *Process) Stop() {
	p.t.Helper()
	r := p.current()
	if r == nil {
		return
	}
	_ = r.cmd.Process.Signal(syscall.SIGTERM)
	_ = r.cmd.Process.Signal(syscall.SIGCONT)
	select {
	case <-r.done:
	case <-time.After(stopping):
		_ = r.cmd.Process.Signal(syscall.SIGQUIT) // the Go runtime writes where each goroutine is
		select {
		case <-r.done:
		case <-time.After(5 * time.Second):
			_ = r.cmd.Process.Kill()
			<-r.done
		}
		p.t.Errorf("%s did not stop within %v\n%s", p.Name, stopping, p.log)
	}
}

// Kill ends the process with SIGKILL and waits.
func (p *Process) Kill() {
	r := p.current()
	_ = r.cmd.Process.Kill()
	<-r.done
}

// Pause stops the process where it stands (SIGSTOP), and returns when it stands. What it started runs on.
func (p *Process) Pause() {
	p.t.Helper()
	pid := p.PID()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		p.t.Errorf("pause %s: %v", p.Name, err)
		return
	}
	p.await("to stand still", readyWithin, func() bool {
		state, known := stateOf(pid)
		return !known || state == "T"
	})
}

// Resume lets a paused process go on (SIGCONT).
func (p *Process) Resume() {
	p.t.Helper()
	if err := syscall.Kill(p.PID(), syscall.SIGCONT); err != nil {
		p.t.Errorf("resume %s: %v", p.Name, err)
	}
}

// stateOf is a process's state as /proc tells it; not known where there is no /proc.
func stateOf(pid int) (state string, known bool) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return "", false
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	state, _, _ = strings.Cut(rest, " ")
	return state, true
}

// await waits for a condition that needs the process; its early end fails the test.
func (p *Process) await(what string, within time.Duration, cond func() bool) {
	p.t.Helper()
	if err := p.until(within, cond); err != nil {
		p.t.Fatalf("%s, waited for %s: %v\n%s", p.Name, what, err, p.log)
	}
}

// until waits for a condition, the end of the process, or so long.
func (p *Process) until(within time.Duration, cond func() bool) error {
	late := time.NewTimer(within)
	defer late.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	r := p.current()
	for !cond() {
		select {
		case <-r.done:
			return fmt.Errorf("it ended: %v", r.err)
		case <-late.C:
			return fmt.Errorf("not within %v", within)
		case <-tick.C:
		}
	}
	return nil
}

// buffer is a bytes.Buffer that a process writes while a test reads.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String is all that was written.
func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// tail is the last of it, in whole lines, without what the NATS server says of itself when all is well.
func (b *buffer) tail() string {
	const most = 8_000
	var lines []string
	size := 0
	for line := range strings.Lines(b.String()) {
		if !strings.Contains(line, " [INF] ") {
			lines = append(lines, line)
			size += len(line)
		}
	}
	for size > most {
		size -= len(lines[0])
		lines = lines[1:]
	}
	return strings.Join(lines, "")
}
