package egress

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hearth-run/hearth/schema"
)

const (
	argument   = "hearth-egress-helper"
	controlFD  = 3
	reportTime = time.Second
	hurryTime  = 20 * time.Millisecond // from a refusal to its report: whoever waits for the call's log sees it there
	writeTime  = 5 * time.Second
)

// Main becomes the helper where the arguments of the program ask for it, and never returns then; otherwise it does nothing. It
// must be in the first lines of main, and of TestMain in tests that use the driver.
func Main() {
	if len(os.Args) != 2 || os.Args[1] != argument {
		entered.Store(true)
		return
	}
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "egress helper:", err)
		syscall.Exit(1)
	}
	syscall.Exit(0)
}

// entered tells that this program becomes a helper when it is run again. One that does not, a test's for instance, would do all
// over again what it does, and start another.
var entered atomic.Bool

// helper is the process that has the stacks of all environments of a worker.
type helper struct {
	control *net.UnixConn
	limits  Limits
	local   []netip.AddrPort
	lookup  func(ctx context.Context, name string) ([]netip.Addr, error)
	flows   *shares                          // connections and flows of all
	names   *shares                          // that are remembered for all
	asks    *shares                          // queries of all that wait for their answers
	fabric  atomic.Pointer[[]netip.AddrPort] // where that is now
	ending  sync.WaitGroup
	soon    chan struct{} // somebody has news
	marked  chan struct{} // somebody is to be reported on now

	mu     sync.Mutex
	places map[uint64]*place
}

// newHelper makes one with limits, for a worker behind control.
func newHelper(control *net.UnixConn, l Limits) *helper {
	h := &helper{control: control, places: map[uint64]*place{}, soon: make(chan struct{}, 1),
		marked: make(chan struct{}, 1), lookup: lookupOn("")}
	h.fit(l)
	return h
}

// serve does what the worker says until that one is gone. Environments end with the process.
func serve() error {
	unix.CloseOnExec(controlFD)
	file := os.NewFile(controlFD, "control")
	conn, err := net.FileConn(file)
	_ = file.Close()
	if err != nil {
		return err
	}
	control, ok := conn.(*net.UnixConn)
	if !ok {
		return errors.New("started by nobody")
	}
	// One core is enough for a gigabit, and the others are the functions'.
	runtime.GOMAXPROCS(max(1, runtime.NumCPU()/2))
	h := newHelper(control, Limits{})
	go h.reports() // ends with the process
	b, oob := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4*4))
	for {
		n, oobn, flags, _, err := control.ReadMsgUnix(b, oob)
		if err != nil || n == 0 {
			return nil // the worker is gone
		}
		device := received(oob[:oobn])
		var o order
		if flags&unix.MSG_TRUNC != 0 {
			return errors.New("a message of the worker is too long")
		}
		if err := json.Unmarshal(b[:n], &o); err != nil {
			return fmt.Errorf("read what the worker says: %w", err)
		}
		h.obey(o, device)
	}
}

// received is the descriptor that came along, or nil.
func received(oob []byte) *os.File {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) != 1 {
		return nil
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
		return nil
	}
	unix.CloseOnExec(fds[0])
	_ = unix.SetNonblock(fds[0], true)
	return os.NewFile(uintptr(fds[0]), "tun")
}

func (h *helper) obey(o order, device *os.File) {
	switch {
	case o.Hello != nil:
		h.local, h.lookup = o.Hello.Local, lookupOn(o.Hello.Resolver)
		h.fit(o.Hello.Limits)
		debug.SetMemoryLimit(h.limits.Bytes + 128<<20) // tells the collector how much is meant
	case o.Fabric != nil:
		h.moved(o.Fabric.Addrs)
	case o.Attach != nil && device == nil: // there was no descriptor left for it
		h.tell(report{ID: o.Attach.ID, End: true}, nil)
	case o.Attach != nil:
		h.attach(*o.Attach, device)
		return
	case o.Detach != 0:
		h.mu.Lock()
		p := h.places[o.Detach]
		delete(h.places, o.Detach)
		h.mu.Unlock()
		// Whoever ends must not hold up the others.
		h.ending.Go(func() {
			if p != nil {
				p.close()
			}
			h.tell(report{ID: o.Detach, End: true}, p)
		})
	case o.Mark != 0:
		if p := h.place(o.Mark); p != nil { // else it could not be attached, and is marked when it is
			p.mark.Store(true)
			wake(h.marked)
		}
	case o.Bind != nil:
		if p := h.place(o.Bind.ID); p != nil { // as well
			p.bind(o.Bind.Tenant)
		}
	}
	if device != nil {
		_ = device.Close()
	}
}

// moved is told where the fabric is from now on. Who is connected there is cut off.
func (h *helper) moved(addrs []netip.AddrPort) {
	h.fabric.Store(&addrs)
	h.mu.Lock()
	all := make([]*place, 0, len(h.places))
	for _, p := range h.places {
		all = append(all, p)
	}
	h.mu.Unlock()
	for _, p := range all {
		p.cut(p.rules.taken)
	}
}

// fit takes limits, down to the descriptors that there are. Nobody has a place yet.
func (h *helper) fit(l Limits) {
	h.limits = l.withDefaults()
	const others = 256 // devices, the runtime's own
	asks := allQueries
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err == nil && files.Cur > others {
		h.limits.All = int(min(uint64(h.limits.All), (files.Cur-others)*3/4))
		asks = int(min(allQueries, max(1, (files.Cur-others)/8))) // with two descriptors each
	}
	h.flows, h.names, h.asks = newShares(h.limits.All, 1), newShares(allNames, firstNames), newShares(asks, 1)
}

// place is that of an environment; nil if there is none.
func (h *helper) place(id uint64) *place {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.places[id]
}

// where is where the fabric is.
func (h *helper) where() []netip.AddrPort {
	if at := h.fabric.Load(); at != nil {
		return *at
	}
	return nil
}

func (h *helper) attach(a attach, device *os.File) {
	egress, bad := schema.ParseEgress(a.Rules)
	if len(bad) > 0 || a.None {
		egress = schema.Egress{None: true} // the worker has read them before
	}
	p, err := newPlace(h, a.ID, holder{account: a.Account, function: a.Function}, device, rules{egress: egress, local: h.local, fabric: h.where})
	if err != nil {
		fmt.Fprintln(os.Stderr, "egress helper: attach an environment:", err)
		_ = device.Close()
		h.tell(report{ID: a.ID, End: true}, nil)
		return
	}
	p.reset(a.Reset)
	h.mu.Lock()
	h.places[a.ID] = p
	h.mu.Unlock()
}

// hurry has the next report come soon.
func (h *helper) hurry() { wake(h.soon) }

// wake tells who listens to c, now or later, and does not wait.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// reports tells the worker what is new, for ever.
func (h *helper) reports() {
	for tick := time.Tick(reportTime); ; {
		select {
		case <-h.marked:
			h.tellAll(true)
			continue
		case <-tick:
		case <-h.soon:
			time.Sleep(hurryTime)
			select { // what came meanwhile is in this report
			case <-h.soon:
			default:
			}
		}
		h.tellAll(false)
	}
}

// tellAll reports on every place that has something to tell, or on those that are marked.
func (h *helper) tellAll(marked bool) {
	h.mu.Lock()
	all := make([]*place, 0, len(h.places))
	for _, p := range h.places {
		all = append(all, p)
	}
	h.mu.Unlock()
	for _, p := range all {
		if !marked || p.mark.Load() {
			h.tell(report{ID: p.id}, p)
		}
	}
}

// tell reports on a place, which may be none that could be made. A worker that does not listen is given time; what it was not told then
// the next report tells: numbers are sums.
func (h *helper) tell(r report, p *place) {
	if p != nil {
		var changed bool
		r.Mark = p.mark.Swap(false) // before the numbers are read: all until the mark is in them
		if r.Traffic, changed = p.tally.report(); !changed && !r.End && !r.Mark && !p.owed.Load() {
			return
		}
	}
	b, err := json.Marshal(r)
	if err != nil {
		panic(fmt.Sprintf("egress: a report does not encode: %v", err)) // numbers and strings
	}
	_ = h.control.SetWriteDeadline(time.Now().Add(writeTime))
	_, err = h.control.Write(b)
	if p == nil {
		return
	}
	p.owed.Store(err != nil)
	if err != nil && r.Mark {
		p.mark.Store(true)
	}
}
