package egress

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// releaseMost is how many taps are closed at once. The kernel has each wait until nobody looks at it any more, some milliseconds, and
// all that wait at once wait for the same.
const releaseMost = 32

// Release closes a tap some time before Close returns, and does not wait for that.
func (s *Service) Release(tap int) { s.release(tap, 0) }

// release closes a tap when the last packets are sent on to an interface, where that is not 0.
func (s *Service) release(tap int, index uint32) {
	s.wg.Go(func() {
		s.releases <- struct{}{}
		defer func() { <-s.releases }()
		if index > 0 {
			forward(tap, index)
		}
		_ = unix.Close(tap)
	})
}

// opened makes the device where there is only a tap so far, and sends on what the tap has heard. Only run calls it.
func (a *Attachment) opened() error {
	s := a.service
	if !a.tapped {
		return nil
	}
	tap := a.fd
	device, index, err := s.cfg.Device(tap)
	if err != nil {
		return err
	}
	if err := s.control(unix.EPOLL_CTL_ADD, a.id, device); err != nil {
		_ = unix.Close(device)
		return fmt.Errorf("await packets: %w", err)
	}
	s.mu.Lock()
	a.fd, a.tapped = device, false
	s.mu.Unlock()
	_ = s.control(unix.EPOLL_CTL_DEL, a.id, tap)
	forward(tap, index)
	s.release(tap, index) // one that was on its way when the device came
	return nil
}

// forward sends what a tap has heard by an interface of its network, where it comes out again as if its sender had sent it there. It
// is as many as the device holds, at most.
func forward(tap int, index uint32) {
	b := make([]byte, MTU)
	for range Queue {
		n, _, err := unix.Recvfrom(tap, b, unix.MSG_DONTWAIT)
		if err != nil {
			return // there is none
		}
		to := &unix.SockaddrLinklayer{Ifindex: int(index)}
		switch wholesome(b[:n]) { // what is longer than the device takes has lost its end
		case 4:
			to.Protocol = network(unix.ETH_P_IP)
		case 6:
			to.Protocol = network(unix.ETH_P_IPV6)
		default:
			continue
		}
		seal(b[:n])
		_ = unix.Sendto(tap, b[:n], unix.MSG_DONTWAIT, to) // what is lost is sent again
	}
}

// network is a number in the order of networks.
func network(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}

// seal gives a wholesome packet its checksum, which the kernel leaves out where a packet stays on the host.
func seal(b []byte) {
	from, to, kind, length := b[12:16], b[16:20], b[9], lengthFour
	if b[0]>>4 == 6 {
		from, to, kind, length = b[8:24], b[24:40], b[6], lengthSix
	}
	at := 16
	if kind == protocolUDP {
		at = 6
	}
	if len(b) < length+at+2 {
		return
	}
	segment := b[length:]
	binary.BigEndian.PutUint16(segment[at:], 0)
	sum := header.PseudoHeaderChecksum(tcpip.TransportProtocolNumber(kind), tcpip.AddrFromSlice(from), tcpip.AddrFromSlice(to), uint16(len(segment)))
	sum = ^checksum.Checksum(segment, sum)
	if sum == 0 && kind == protocolUDP {
		sum = 0xffff // 0 says that there is none
	}
	binary.BigEndian.PutUint16(segment[at:], sum)
}
