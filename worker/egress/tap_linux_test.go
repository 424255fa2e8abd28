package egress

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// packetOf is one from the environment's own address, of version 4 or 6, with rubbish for a checksum.
func packetOf(version int, protocol byte, payload int) []byte {
	size := map[byte]int{protocolTCP: header.TCPMinimumSize, protocolUDP: header.UDPMinimumSize}[protocol] + payload
	var b []byte
	if version == 4 {
		to := [4]byte{198, 51, 100, 7}
		own := Own.As4()
		b = append(b, 0x45, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(lengthFour+size))
		b = append(b, 0, 0, 0, 0, 64, protocol, 0, 0)
		b = append(append(b, own[:]...), to[:]...)
	} else {
		to := [16]byte{0x20, 1, 0xd, 0xb8, 15: 7}
		own := OwnSix.As16()
		b = append(b, 0x60, 0, 0, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(size))
		b = append(b, protocol, 64)
		b = append(append(b, own[:]...), to[:]...)
	}
	for range size {
		b = append(b, byte(rand.Uint32()))
	}
	return b
}

// TestSeal: what goes to the device has the checksum that its receiver looks for, whatever was there.
//
// Broken to see it fail: the one that was there counts; a datagram's is where a connection's is.
func TestSeal(t *testing.T) {
	t.Parallel()
	for _, version := range []int{4, 6} {
		for _, protocol := range []byte{protocolTCP, protocolUDP} {
			for payload := range 300 {
				b := packetOf(version, protocol, payload)
				if wholesome(b) != version {
					t.Fatalf("not wholesome: %x", b)
				}
				seal(b)
				from, to, at := b[12:16], b[16:20], lengthFour
				if version == 6 {
					from, to, at = b[8:24], b[24:40], lengthSix
				}
				segment := b[at:]
				sum := header.PseudoHeaderChecksum(tcpip.TransportProtocolNumber(protocol), tcpip.AddrFromSlice(from), tcpip.AddrFromSlice(to), uint16(len(segment)))
				if checksum.Checksum(segment, sum) != 0xffff {
					t.Fatalf("version %d, protocol %d, %d bytes: a wrong checksum", version, protocol, payload)
				}
				if protocol == protocolUDP && header.UDP(segment).Checksum() == 0 {
					t.Fatal("a datagram without checksum")
				}
			}
		}
	}
	for _, short := range [][]byte{packetOf(4, protocolTCP, -10), packetOf(6, protocolUDP, -7)} {
		seal(short) // and does not end the worker
	}
}

// TestReleaseAtEnd: taps that nobody needed are closed when Close returns.
//
// Broken to see it fail: nobody waits for who closes them.
func TestReleaseAtEnd(t *testing.T) {
	t.Parallel()
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	for range releaseMost { // so that none is closed before Close waits for it
		s.releases <- struct{}{}
	}
	var others []int
	for range 3 * releaseMost {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		s.Release(fds[0])
		others = append(others, fds[1])
	}
	time.AfterFunc(100*time.Millisecond, func() {
		for range releaseMost {
			<-s.releases
		}
	})
	s.Close()
	for _, fd := range others {
		if n, err := unix.Read(fd, make([]byte, 1)); n != 0 || err != nil { // nothing to read yet, where the other end is open
			t.Errorf("read %d, %v", n, err)
		}
		if err := unix.Close(fd); err != nil {
			t.Error(err)
		}
	}
}
