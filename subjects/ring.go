package subjects

import "slices"

// DefaultVnodes is how many points every manager has on the ring: with 256, 1,000 functions over 8 managers lie within
// 15 % of even at the median in all but 2 of 500 fabrics (with 160 in all but 5, with 64 in one of ten they do not).
const DefaultVnodes = 256

// Ring is the managers on a consistent hash ring. It is immutable and safe for concurrent use; every node that builds
// one from the same members and number of virtual nodes has the same ring (S02).
type Ring struct {
	managers []string // sorted, no duplicates
	points   []point  // ascending
}

// point is a place on the ring and who stands there: the upper bits of its hash, then the index into managers. One word,
// so that a ring sorts twice as fast as one of structs, and equal hashes have one order on every node.
type point uint64

const managerBits = 20

func (p point) manager() int { return int(p & (1<<managerBits - 1)) }

// MaxManagers is how many managers a ring can hold.
const MaxManagers = 1 << managerBits

// NewRing builds the ring of these managers, each with vnodes points (0 means [DefaultVnodes]). The order of the
// managers and duplicates among them do not matter; those above [MaxManagers] are left out.
func NewRing(vnodes int, managers []string) *Ring {
	if vnodes <= 0 {
		vnodes = DefaultVnodes
	}
	ids := slices.Clone(managers)
	slices.Sort(ids)
	ids = slices.Compact(ids)
	ids = ids[:min(len(ids), MaxManagers)]
	r := &Ring{managers: ids, points: make([]point, 0, len(ids)*vnodes)}
	for m, id := range ids {
		base := hashString(seedManager, id)
		for v := range vnodes {
			hash := mix(base + uint64(v)*golden)
			r.points = append(r.points, point(hash>>managerBits<<managerBits|uint64(m)))
		}
	}
	slices.Sort(r.points)
	return r
}

// Len is the number of managers on the ring.
func (r *Ring) Len() int { return len(r.managers) }

// Managers are the ids on the ring, sorted. The caller must not change the slice; an arc's numbers index it.
func (r *Ring) Managers() []string { return r.managers }

// Arc appends to dst the first length managers met clockwise from hash, as indexes into [Ring.Managers]: place 0 is
// rank 0. A length above the number of managers gives them all. With room in dst, and up to 1,024 managers, it allocates
// nothing.
func (r *Ring) Arc(dst []int, hash uint64, length int) []int {
	length = min(length, len(r.managers))
	if length <= 0 {
		return dst
	}
	var few [1024 / 64]uint64
	met := few[:]
	if len(r.managers) > 1024 {
		met = make([]uint64, (len(r.managers)+63)/64)
	}
	at, _ := slices.BinarySearch(r.points, point(hash>>managerBits<<managerBits))
	for found := 0; found < length; at++ {
		if at == len(r.points) {
			at = 0
		}
		m := r.points[at].manager()
		if word, bit := &met[m/64], uint64(1)<<(m%64); *word&bit == 0 {
			*word |= bit
			dst = append(dst, m)
			found++
		}
	}
	return dst
}

// Unreserved appends the managers of unreserved arc nn by rank; length is the arc's stored length.
func (r *Ring) Unreserved(dst []int, nn, length int) []int {
	return r.Arc(dst, mix(seedArc+uint64(nn)*golden), UnreservedLength(len(r.managers), length))
}

// Reserved appends the managers of the reserved arc of a function version by rank, for a limit of l environments and t
// reserved environments a manager.
func (r *Ring) Reserved(dst []int, account, function, version string, l, t int) []int {
	return r.Arc(dst, reservedHash(account, function, version), ReservedLength(l, t, len(r.managers)))
}

// Seeds keep the hashes of different kinds of things apart.
const (
	golden       = 0x9e3779b97f4a7c15
	seedManager  = 0x8f14e45fceea167a
	seedArc      = 0xc4ca4238a0b92382
	seedReserved = 0xc81e728d9d4c2f63
	seedGroup    = 0xeccbc87e4b5ce2fe
)

// hashString is FNV-1a from a seed, with the length mixed in so that neighbouring strings keep apart, then mixed.
func hashString(seed uint64, s string) uint64 {
	h := seed ^ uint64(len(s))*golden
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 0x100000001b3
	}
	return mix(h)
}

// mix is the finaliser of SplitMix64: every input bit reaches every output bit.
func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
