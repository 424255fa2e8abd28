package egress

import (
	"encoding/binary"
)

// reset ends connections that a helper before this one had: the environment would wait for ever for bytes that nobody has any
// more. It is told of each by a segment that cannot be of the connection. To that its kernel answers with where it stands (RFC
// 5961), and to this the stack, which knows of no such connection, with the reset that fits.
func (p *place) reset(flows []flow) {
	for _, f := range flows {
		if f.Here.Addr().Is4() == f.There.Addr().Is4() {
			_, _ = p.tun.Write(probe(f)) // one that is lost: the connection ends at its next byte
		}
	}
}

// probe is an acknowledgement of something long ago, from there to here.
func probe(f flow) []byte {
	from, to := f.There.Addr(), f.Here.Addr()
	t := make([]byte, 20)
	binary.BigEndian.PutUint16(t[0:], f.There.Port())
	binary.BigEndian.PutUint16(t[2:], f.Here.Port())
	t[12], t[13] = 5<<4, 0x02 // a SYN: what is in the window or not, the answer is where the connection stands
	binary.BigEndian.PutUint16(t[16:], ^sum(uint32(protocolTCP)+uint32(len(t)), from.AsSlice(), to.AsSlice(), t))
	if to.Is4() {
		h := make([]byte, lengthFour)
		h[0], h[8], h[9] = 0x45, 64, protocolTCP
		binary.BigEndian.PutUint16(h[2:], uint16(lengthFour+len(t)))
		copy(h[12:], from.AsSlice())
		copy(h[16:], to.AsSlice())
		binary.BigEndian.PutUint16(h[10:], ^sum(0, h))
		return append(h, t...)
	}
	h := make([]byte, lengthSix)
	h[0], h[6], h[7] = 0x60, protocolTCP, 64
	binary.BigEndian.PutUint16(h[4:], uint16(len(t)))
	copy(h[8:], from.AsSlice())
	copy(h[24:], to.AsSlice())
	return append(h, t...)
}

// sum is the internet's checksum, not yet inverted.
func sum(start uint32, parts ...[]byte) uint16 {
	for _, b := range parts {
		for i := 0; i+1 < len(b); i += 2 {
			start += uint32(binary.BigEndian.Uint16(b[i:]))
		}
	}
	for start > 0xffff {
		start = start>>16 + start&0xffff
	}
	return uint16(start)
}
