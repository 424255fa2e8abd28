package egress

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

const (
	// lingerTime is how long a connection that both sides have ended may take to hand over what is left. It counts as open until then.
	lingerTime  = 60 * time.Second
	lingerFirst = time.Millisecond
	lingerMost  = 250 * time.Millisecond
)

// linger closes both sides when they have handed over what they were given, or after a while. Else a function that reads no more, and
// one whose server does not, would have us and the kernel keep a window's bytes of each connection that is over, which nobody counts
// any more (tried: 100 a second, 32 KB each).
func (p *place) linger(inner *gonet.TCPConn, ep tcpip.Endpoint, outer *net.TCPConn) {
	_ = inner.Close()
	deadline := time.Now().Add(lingerTime)
	for pause := lingerFirst; ; pause = min(2*pause, lingerMost) {
		in, out := handed(ep), sent(outer)
		switch {
		case in && out:
			_ = outer.Close()
			return
		case p.life.Err() != nil || time.Now().After(deadline):
			_ = outer.SetLinger(0)
			_ = outer.Close()
			ep.Abort()
			return
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-p.life.Done():
			timer.Stop()
		}
	}
}

// handed reports whether the environment has acknowledged everything, its end too.
func handed(ep tcpip.Endpoint) bool {
	switch tcp.EndpointState(ep.State()) {
	case tcp.StateFinWait1, tcp.StateClosing, tcp.StateLastAck, tcp.StateEstablished, tcp.StateCloseWait:
		return false
	}
	return true
}

// sent reports the same of the world.
func sent(outer *net.TCPConn) bool {
	raw, err := outer.SyscallConn()
	if err != nil {
		return true
	}
	done := true
	err = raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			switch info.State {
			case unix.BPF_TCP_FIN_WAIT1, unix.BPF_TCP_CLOSING, unix.BPF_TCP_LAST_ACK, unix.BPF_TCP_ESTABLISHED, unix.BPF_TCP_CLOSE_WAIT:
				done = false
			}
		}
	})
	return done || err != nil
}
