package egress

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is the helper as its worker sees it.
type process struct {
	service *Service
	pid     int
	control *net.UnixConn
	done    chan struct{} // closed when it has ended and everything of it is told

	mu    sync.Mutex
	ended bool // reaped: the pid is nobody's
	dead  bool // killed, or ended
	quiet bool // it was there to be ended

	telling sync.Mutex // orders what is told of the fabric
	fabric  []netip.AddrPort
}

// fabricTime is between looks at where the fabric is.
const fabricTime = time.Second

// launch starts a helper.
func (s *Service) launch() (*process, error) {
	if !entered.Load() {
		return nil, errors.New("start the network of environments: this program does not begin with egress.Main")
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("start the network of environments: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "control")
	defer theirs.Close()
	_ = unix.SetsockoptInt(fds[0], unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 4*maxMessage)
	ours := os.NewFile(uintptr(fds[0]), "control")
	conn, err := net.FileConn(ours)
	_ = ours.Close()
	if err != nil {
		return nil, fmt.Errorf("start the network of environments: %w", err)
	}
	said, saying, err := os.Pipe()
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	defer saying.Close()
	h := &process{service: s, control: conn.(*net.UnixConn), done: make(chan struct{})}
	started := make(chan error, 1)
	reaped := make(chan struct{})
	s.wg.Go(func() { h.live(theirs, saying, started, reaped) })
	if err := <-started; err != nil {
		_ = conn.Close()
		_ = said.Close()
		<-reaped
		return nil, fmt.Errorf("start the network of environments: %w", err)
	}
	free := func() {}
	if s.cfg.Confine != nil {
		if free, err = s.cfg.Confine(h.pid); err != nil {
			h.kill()
			<-reaped
			_ = conn.Close()
			_ = said.Close()
			return nil, fmt.Errorf("start the network of environments: %w", err)
		}
	}
	s.wg.Go(func() { h.listen(said, reaped, free) })
	if err := h.send(order{Hello: &hello{Local: s.cfg.Local, Resolver: s.cfg.Resolver, Limits: s.cfg.Limits}}, -1); err != nil {
		h.kill()
		return nil, fmt.Errorf("start the network of environments: %w", err)
	}
	if s.cfg.Fabric != nil {
		s.wg.Go(h.follow)
	}
	return h, nil
}

// follow tells the helper where the fabric is when that moves, until its end.
func (h *process) follow() {
	look := time.NewTicker(fabricTime)
	defer look.Stop()
	for {
		select {
		case <-h.done:
			return
		case <-look.C:
		}
		if err := h.locate(); err != nil {
			h.service.cfg.Log.Warn("the network of environments does not listen and is started anew", "error", err)
			h.kill()
			return
		}
	}
}

// locate tells the helper where the fabric is, if that is news.
func (h *process) locate() error {
	if h.service.cfg.Fabric == nil {
		return nil
	}
	h.telling.Lock()
	defer h.telling.Unlock()
	now := h.service.cfg.Fabric()
	if slices.Equal(now, h.fabric) {
		return nil
	}
	if err := h.send(order{Fabric: &fabric{now}}, -1); err != nil {
		return err
	}
	h.fabric = slices.Clone(now)
	return nil
}

// live starts the process and reaps it, on a thread that is good for nothing else afterwards: it has given up what the helper
// must not have, and the kernel ends the helper when the thread ends (golang/go#27505).
func (h *process) live(control, stderr *os.File, started chan<- error, reaped chan struct{}) {
	runtime.LockOSThread() // and never unlocked
	if unix.Gettid() == unix.Getpid() {
		// Not on the first thread, which never ends. While it is locked, another goroutine runs elsewhere.
		other := make(chan struct{})
		go func() { // ends before this one
			defer close(other)
			h.live(control, stderr, started, reaped)
		}()
		<-other
		runtime.UnlockOSThread()
		return
	}
	defer close(reaped)
	pid, err := h.fork(control, stderr)
	if err != nil {
		started <- err
		return
	}
	h.pid = pid
	started <- nil
	// Not reaped before nobody can send it a signal any more.
	var info unix.Siginfo
	for {
		if err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT, nil); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	h.mu.Lock()
	h.ended, h.dead = true, true
	h.mu.Unlock()
	for {
		if _, err := syscall.Wait4(pid, nil, 0, nil); !errors.Is(err, syscall.EINTR) {
			return
		}
	}
}

func (h *process) fork(control, stderr *os.File) (int, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	cfg := &h.service.cfg
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("gain no privileges: %w", err)
	}
	if cfg.Restrict != nil {
		if err := cfg.Restrict(); err != nil {
			return 0, err
		}
	}
	// What this program inherited itself, from a shell for instance, goes no further.
	if err := unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return 0, fmt.Errorf("keep what is open to ourselves: %w", err)
	}
	pid, err := syscall.ForkExec("/proc/self/exe", []string{"hearth", argument}, &syscall.ProcAttr{
		Dir: "/", Env: []string{}, Files: []uintptr{null.Fd(), null.Fd(), stderr.Fd(), control.Fd()},
		Sys: &syscall.SysProcAttr{
			Setsid: true, Pdeathsig: syscall.SIGKILL, Credential: &syscall.Credential{Uid: cfg.UID, Gid: cfg.UID},
		},
	})
	if err != nil {
		return 0, fmt.Errorf("run this program as user %d, who must be allowed to execute it: %w", cfg.UID, err)
	}
	return pid, nil
}

// listen takes reports until the end of the helper.
func (h *process) listen(said *os.File, reaped <-chan struct{}, free func()) {
	s := h.service
	var words bytes.Buffer
	heard := make(chan struct{})
	go func() { // awaited below
		defer close(heard)
		_, _ = io.Copy(&words, io.LimitReader(said, 16<<10))
		_, _ = io.Copy(io.Discard, said)
	}()
	b := make([]byte, maxMessage)
	for {
		n, err := h.control.Read(b)
		if err != nil || n == 0 {
			break
		}
		var r report
		if err := json.Unmarshal(b[:n], &r); err != nil {
			s.cfg.Log.Error("the network of environments says what cannot be read, and is started anew", "error", err)
			break
		}
		s.told(r)
	}
	h.kill()
	<-reaped
	<-heard
	_ = said.Close()
	_ = h.control.Close()
	free()
	h.mu.Lock()
	quiet := h.quiet
	h.mu.Unlock()
	if s.life.Err() == nil && !quiet {
		s.cfg.Log.Error("the network of environments ended: connections are reset, and the next one starts it anew", "said", words.String())
	}
	close(h.done)
}

// send gives an order, with a device or without (-1).
func (h *process) send(o order, device int) error {
	b, err := json.Marshal(o)
	if err != nil {
		return err
	}
	if len(b) > maxMessage {
		return fmt.Errorf("an order of %d bytes", len(b))
	}
	var rights []byte
	if device >= 0 {
		rights = unix.UnixRights(device)
	}
	h.mu.Lock()
	dead := h.dead
	h.mu.Unlock()
	if dead {
		return nil // whoever waits for it sees its end
	}
	_ = h.control.SetWriteDeadline(time.Now().Add(orderTime))
	_, _, err = h.control.WriteMsgUnix(b, rights, nil)
	return err
}

func (h *process) attach(a *Attachment, reset []flow) error {
	if err := h.locate(); err != nil { // nobody is let through by what was so a moment ago
		return err
	}
	return h.send(order{Attach: &attach{ID: a.id, Account: a.account, Function: a.function, Rules: a.rules, None: a.none, Reset: reset}}, a.fd)
}

// quietly kills it, which nobody needs to hear of.
func (h *process) quietly() {
	h.mu.Lock()
	h.quiet = true
	h.mu.Unlock()
	h.kill()
}

func (h *process) kill() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dead = true
	if !h.ended {
		_ = syscall.Kill(h.pid, syscall.SIGKILL)
	}
}

// over reports whether it is no use to ask it for anything.
func (h *process) over() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.dead
}
