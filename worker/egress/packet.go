package egress

import "encoding/binary"

// Of a packet's headers.
const (
	protocolTCP = 6
	protocolUDP = 17
	lengthFour  = 20 // of a header without options
	lengthSix   = 40
)

// wholesome tells which version of IP a packet is of, or 0 if it is dropped: the stack sees nothing but whole TCP and UDP packets
// from the environment's own address, without options or extensions.
func wholesome(b []byte) int {
	if len(b) < lengthFour {
		return 0
	}
	switch b[0] >> 4 {
	case 4:
		whole := binary.BigEndian.Uint16(b[6:])&0x3fff == 0 // no offset, no more to come
		if b[0] != 0x45 || !whole || int(binary.BigEndian.Uint16(b[2:])) != len(b) || [4]byte(b[12:16]) != Own.As4() ||
			b[9] != protocolTCP && b[9] != protocolUDP {
			return 0
		}
		return 4
	case 6:
		if len(b) < lengthSix || int(binary.BigEndian.Uint16(b[4:]))+lengthSix != len(b) || [16]byte(b[8:24]) != OwnSix.As16() ||
			b[6] != protocolTCP && b[6] != protocolUDP {
			return 0
		}
		return 6
	}
	return 0
}
