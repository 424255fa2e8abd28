package egress

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/sourcegraph/conc"
	"golang.org/x/sys/unix"

	"github.com/hearth-run/hearth/worker/driver"
)

// Config says how a worker gives its environments a network.
type Config struct {
	UID uint32 // of the helper, and its group; needed
	// Restrict is called on the thread that starts the helper, before it does: what the thread gives up, the helper never had. The
	// thread ends with the helper.
	Restrict func() error
	// Confine puts the helper into a cgroup, and gives what frees that after its end; nil: it has none of its own.
	Confine func(pid int) (free func(), err error)
	// Device makes the device of the network that a tap is of, which told of its first packet, and tells its number there; nil: what is
	// attached is a device already.
	Device func(tap int) (device int, index uint32, err error)

	Local    []netip.AddrPort        // of the host's own, which functions that list them reach (--allow-local)
	Fabric   func() []netip.AddrPort // where NATS servers and others of the fabric are now; nil: nowhere
	Resolver string                  // host:port of the name server; "" means the host's resolver
	Limits   Limits                  // zero values are defaults
	Log      *slog.Logger            // nil: nobody
}

// Times of the worker's side.
const (
	orderTime = 5 * time.Second // for the helper to take an order
	endTime   = 5 * time.Second // and to end an environment's network
	againTime = time.Second     // between tries to start a helper
)

// Service gives environments of one worker their network: see the package. Safe for concurrent use.
type Service struct {
	cfg      Config
	wg       conc.WaitGroup
	poll     *os.File      // an epoll of all taps and devices whose first packet is awaited
	releases chan struct{} // taps on their way out
	life     context.Context
	end      context.CancelFunc
	start    sync.Mutex // held by who starts a helper; guards at

	mu          sync.Mutex
	closed      bool
	last        uint64
	attachments map[uint64]*Attachment
	helper      *process // nil: none runs
	started     int      // helpers, since the service was made
	at          time.Time
	proof       chan struct{} // told when a helper says what only a proof asks for
}

// New makes a service. It starts no process before somebody needs one.
func New(cfg Config) (*Service, error) {
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("egress: make an epoll: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("egress: make an epoll: %w", err)
	}
	s := &Service{cfg: cfg, poll: os.NewFile(uintptr(fd), "devices"), attachments: map[uint64]*Attachment{}, proof: make(chan struct{}, 1),
		releases: make(chan struct{}, releaseMost)}
	s.life, s.end = context.WithCancel(context.Background())
	s.wg.Go(s.watch)
	return s, nil
}

// Attachment is the network of one environment.
type Attachment struct {
	service *Service
	id      uint64
	fd      int  // the device; before the first packet the tap. It changes under the mutex, in run alone
	tapped  bool // fd is a tap
	pid     int  // a process of the environment
	rules   []string
	none    bool
	report  func(driver.Traffic)

	account, function string

	closing chan struct{} // closed by Close
	done    chan struct{} // closed when nothing is left
	ended   chan struct{} // one for each time that a helper has ended it

	// Guarded by the service's mutex.
	running bool // a goroutine has it; else it waits for a packet
	closed  bool
	before  driver.Traffic // of helpers that are gone
	now     driver.Traffic
	helper  *process // that has its device; nil: none
	marking bool     // a report is asked for that has not come yet
	tenant  string   // to whom it is bound; "": to nobody, or to nobody yet
}

// Attach waits for the first packet on a tap, or a device (its descriptor belongs to the attachment from now on, also after an error) and
// gives it a network then. pid is a process that lives as long as the environment.
func (s *Service) Attach(fd, pid int, n *driver.Network) (*Attachment, error) {
	a := &Attachment{service: s, fd: fd, tapped: s.cfg.Device != nil, pid: pid, none: n.Egress.None, report: n.Report, account: n.Account, function: n.Function,
		closing: make(chan struct{}), done: make(chan struct{}), ended: make(chan struct{}, 1)}
	for _, rule := range n.Egress.Rules {
		a.rules = append(a.rules, rule.String())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = unix.Close(fd)
		return nil, errors.New("egress: closed")
	}
	s.last++
	a.id = s.last
	if err := s.control(unix.EPOLL_CTL_ADD, a.id, fd); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("egress: await packets: %w", err)
	}
	s.attachments[a.id] = a
	return a, nil
}

// control changes what is awaited: one packet.
func (s *Service) control(op int, id uint64, fd int) error {
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: int32(id), Pad: int32(id >> 32)}
	raw, err := s.poll.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(poll uintptr) { failed = unix.EpollCtl(int(poll), op, fd, &event) })
	return cmp.Or(err, failed)
}

// watch starts what the first packets are for, until Close.
func (s *Service) watch() {
	raw, err := s.poll.SyscallConn()
	if err != nil {
		return
	}
	events := make([]unix.EpollEvent, 64)
	for {
		n := 0
		err := raw.Read(func(fd uintptr) bool {
			var err error
			n, err = unix.EpollWait(int(fd), events, 0)
			return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
		})
		if err != nil || n <= 0 {
			return // closed
		}
		for _, e := range events[:n] {
			s.wanted(uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32)
		}
	}
}

// wanted is told that an environment has sent its first packet.
func (s *Service) wanted(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.attachments[id]
	if a == nil || a.running || a.closed || s.closed {
		return
	}
	a.running = true
	s.wg.Go(a.run)
}

// waits is the time until a helper is tried again; false where the attachment is closed meanwhile.
func (a *Attachment) waits() bool {
	select {
	case <-a.closing:
		return false
	case <-time.After(againTime):
		return true
	}
}

// run has the attachment served by a helper, and by the next one if that ends, until it is closed or nothing needs one.
func (a *Attachment) run() {
	s := a.service
	var reset []flow
	told := false
	for {
		err := a.opened()
		var h *process
		if err == nil {
			h, err = s.serving()
		}
		if err != nil {
			s.cfg.Log.Error("the network of environments does not start: their connections wait", "error", err)
			if !a.waits() {
				a.finish()
				return
			}
			continue
		}
		if err := h.attach(a, reset); err != nil {
			s.cfg.Log.Warn("the network of environments does not listen and is started anew", "error", err)
			h.kill()
		}
		a.has(h)
		select {
		case <-a.closing:
			a.leave(h)
			a.finish()
			return
		case <-a.ended:
			// It has no descriptor or memory left for one more: nothing of this environment is there.
			if !told {
				told = true
				s.cfg.Log.Warn("the network of environments has no room for another, whose connections wait")
			}
			if !a.waits() {
				a.finish()
				return
			}
			continue
		case <-h.done:
		}
		s.mu.Lock()
		a.before, a.now, a.helper = plus(a.before, a.now), driver.Traffic{}, nil
		s.mu.Unlock()
		if reset = connections(a.pid); len(reset) == 0 && a.wait() {
			return
		}
	}
}

// wait goes back to waiting for a packet; false if it was closed meanwhile.
func (a *Attachment) wait() bool {
	s := a.service
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.closed {
		return false
	}
	if err := s.control(unix.EPOLL_CTL_MOD, a.id, a.fd); err != nil {
		return false
	}
	a.running = false
	return true
}

// leave has the helper end the environment's network, and waits for that.
func (a *Attachment) leave(h *process) {
	if err := h.send(order{Detach: a.id}, -1); err != nil {
		h.kill()
	}
	select {
	case <-a.ended:
	case <-h.done:
	case <-time.After(endTime):
		a.service.cfg.Log.Warn("the network of environments does not end one and is started anew")
		h.kill()
		<-h.done
	}
}

// Close ends the environment's network, and returns when nothing of it is left. Safe twice.
func (a *Attachment) Close() {
	s := a.service
	s.mu.Lock()
	first, running := !a.closed, a.running
	a.closed = true
	s.mu.Unlock()
	if first {
		close(a.closing)
		if !running {
			a.finish()
		}
	}
	<-a.done
}

// finish gives back what it had.
func (a *Attachment) finish() {
	s := a.service
	s.mu.Lock()
	delete(s.attachments, a.id)
	s.mu.Unlock()
	// The helper may have had the device too, so that to close it is not enough.
	_ = s.control(unix.EPOLL_CTL_DEL, a.id, a.fd)
	if a.tapped {
		s.release(a.fd, 0)
	} else {
		_ = unix.Close(a.fd)
	}
	close(a.done)
}

// told is a report of the helper.
func (s *Service) told(r report) {
	if r.ID == proofID {
		select {
		case s.proof <- struct{}{}:
		default:
		}
		return
	}
	s.mu.Lock()
	a := s.attachments[r.ID]
	var all driver.Traffic
	if a != nil {
		news := r.Traffic.News
		r.Traffic.News = nil
		a.now = r.Traffic
		all = plus(a.before, a.now)
		all.News = news[:min(len(news), maxNews)]
		if r.Mark && a.marking {
			a.marking, all.Marked = false, true
		}
	}
	s.mu.Unlock()
	if a == nil {
		return
	}
	if a.report != nil {
		a.report(all)
	}
	if r.End {
		select {
		case a.ended <- struct{}{}:
		default:
		}
	}
}

// plus adds what two helpers counted.
func plus(a, b driver.Traffic) driver.Traffic {
	sum := driver.Traffic{
		Connections: a.Connections + b.Connections, Flows: a.Flows + b.Flows, Queries: a.Queries + b.Queries, Failed: a.Failed + b.Failed,
		Sent: a.Sent + b.Sent, Received: a.Received + b.Received,
	}
	for _, refused := range []map[driver.Refusal]int64{a.Refused, b.Refused} {
		for why, n := range refused {
			if sum.Refused == nil {
				sum.Refused = map[driver.Refusal]int64{}
			}
			sum.Refused[why] += n
		}
	}
	return sum
}

// serving is the helper that runs, or a new one.
func (s *Service) serving() (*process, error) {
	s.start.Lock()
	defer s.start.Unlock()
	s.mu.Lock()
	h, closed := s.helper, s.closed
	s.mu.Unlock()
	if closed {
		return nil, errors.New("egress: closed")
	}
	if h != nil && !h.over() {
		return h, nil
	}
	// One that ends again and again costs a start a second.
	select {
	case <-time.After(time.Until(s.at.Add(againTime))):
	case <-s.life.Done():
		return nil, errors.New("egress: closed")
	}
	s.at = time.Now()
	h, err := s.launch()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.helper = h
	s.started++
	s.mu.Unlock()
	return h, nil
}

// Helper is the process id of the helper that runs, 0 if none does, and how many were started.
func (s *Service) Helper() (pid, started int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.helper != nil && !s.helper.over() {
		pid = s.helper.pid
	}
	return pid, s.started
}

// Close ends every network and the helper, and waits. Safe twice.
func (s *Service) Close() {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	all := make([]*Attachment, 0, len(s.attachments))
	for _, a := range s.attachments {
		all = append(all, a)
	}
	s.mu.Unlock()
	for _, a := range all {
		a.Close()
	}
	if first {
		s.end()
		_ = s.poll.Close()
		s.start.Lock()
		h := s.helper
		s.start.Unlock()
		if h != nil {
			h.kill()
			<-h.done
		}
	}
	s.wg.Wait()
}
