package egress

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
)

// segment is a packet from here to there, as reset makes it; turned round it is one of the environment's.
func segment(from, to string) []byte {
	return probe(flow{Here: netip.MustParseAddrPort(to), There: netip.MustParseAddrPort(from)})
}

// datagram is one from the environment, without a checksum.
func datagram(to netip.AddrPort, payload []byte) []byte {
	b := make([]byte, lengthFour, lengthFour+8+len(payload))
	b[0], b[8], b[9] = 0x45, 64, protocolUDP
	binary.BigEndian.PutUint16(b[2:], uint16(lengthFour+8+len(payload)))
	copy(b[12:], Own.AsSlice())
	copy(b[16:], to.Addr().AsSlice())
	binary.BigEndian.PutUint16(b[10:], ^checksum.Checksum(b, 0))
	b = binary.BigEndian.AppendUint16(b, 40000)
	b = binary.BigEndian.AppendUint16(b, to.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(payload)))
	return append(append(b, 0, 0), payload...)
}

// TestWholesome: whole TCP and UDP packets from the environment's own address, and nothing else.
func TestWholesome(t *testing.T) {
	t.Parallel()
	four, six := segment("198.18.0.2:1", "198.51.100.7:80"), segment("["+OwnSix.String()+"]:1", "[2001:db8::7]:80")
	change := func(b []byte, f func([]byte)) []byte {
		b = append([]byte(nil), b...)
		f(b)
		return b
	}
	for name, c := range map[string]struct {
		packet []byte
		want   int
	}{
		"four": {four, 4}, "six": {six, 6},
		"udp":                  {change(four, func(b []byte) { b[9] = 17 }), 4},
		"udp, six":             {change(six, func(b []byte) { b[6] = 17 }), 6},
		"empty":                {nil, 0},
		"short":                {four[:19], 0},
		"short, six":           {six[:39], 0},
		"longer than it says":  {append(append([]byte(nil), four...), 0), 0},
		"shorter than it says": {four[:len(four)-1], 0},
		"six, shorter":         {six[:len(six)-1], 0},
		"version 5":            {change(four, func(b []byte) { b[0] = 0x55 }), 0},
		"options":              {change(four, func(b []byte) { b[0] = 0x46 }), 0},
		"more to come":         {change(four, func(b []byte) { b[6] = 0x20 }), 0},
		"a later fragment":     {change(four, func(b []byte) { b[7] = 1 }), 0},
		"not to be broken":     {change(four, func(b []byte) { b[6] = 0x40 }), 4},
		"icmp":                 {change(four, func(b []byte) { b[9] = 1 }), 0},
		"icmp, six":            {change(six, func(b []byte) { b[6] = 58 }), 0},
		"hop by hop":           {change(six, func(b []byte) { b[6] = 0 }), 0},
		"fragment, six":        {change(six, func(b []byte) { b[6] = 44 }), 0},
		"another's address":    {change(four, func(b []byte) { b[15]++ }), 0},
		"another's, six":       {change(six, func(b []byte) { b[23]++ }), 0},
	} {
		if got := wholesome(c.packet); got != c.want {
			t.Errorf("%s: %d", name, got)
		}
	}
}

// TestProbe: its checksums are right, or no kernel would answer it.
func TestProbe(t *testing.T) {
	t.Parallel()
	four := segment("198.51.100.7:80", "198.18.0.2:40000")
	if got := checksum.Checksum(four[:lengthFour], 0); got != 0xffff {
		t.Errorf("header %x", got)
	}
	six := segment("[2001:db8::7]:80", "["+OwnSix.String()+"]:40000")
	for _, c := range []struct {
		packet   []byte
		from, to int
	}{{four, 12, lengthFour}, {six, 8, lengthSix}} {
		segment := c.packet[c.to:]
		pseudo := append(append([]byte(nil), c.packet[c.from:c.to]...), 0, protocolTCP, 0, byte(len(segment)))
		if got := checksum.Checksum(segment, checksum.Checksum(pseudo, 0)); got != 0xffff {
			t.Errorf("segment of %d: %x", c.to, got)
		}
	}
}

// FuzzWholesome: any bytes are of a version or dropped, and what passes is from the environment and whole.
func FuzzWholesome(f *testing.F) {
	f.Add(segment("198.18.0.2:1", "198.51.100.7:80"))
	f.Add(segment("["+OwnSix.String()+"]:1", "[2001:db8::7]:80"))
	f.Fuzz(func(t *testing.T, b []byte) {
		switch wholesome(b) {
		case 4:
			if from, _ := netip.AddrFromSlice(b[12:16]); from != Own || b[0]&15 != 5 {
				t.Errorf("%x", b)
			}
		case 6:
			if from, _ := netip.AddrFromSlice(b[8:24]); from != OwnSix {
				t.Errorf("%x", b)
			}
		}
	})
}
