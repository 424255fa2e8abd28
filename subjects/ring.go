package subjects

import (
	"cmp"
	"slices"
)

// DefaultVnodes is how many points every manager has on the ring.
const DefaultVnodes = 160

// Ring is the managers on a consistent hash ring. It is immutable and safe for concurrent use; every node that builds
// one from the same members and number of virtual nodes has the same ring (S02).
type Ring struct {
	managers []string // sorted, no duplicates
	points   []point  // by hash
}

type point struct {
	hash    uint64
	manager int32 // index into managers
}

// NewRing builds the ring of these managers, each with vnodes points (0 means [DefaultVnodes]). The order of the
// managers and duplicates among them do not matter.
func NewRing(vnodes int, managers []string) *Ring {
	if vnodes <= 0 {
		vnodes = DefaultVnodes
	}
	ids := slices.Clone(managers)
	slices.Sort(ids)
	ids = slices.Compact(ids)
	r := &Ring{managers: ids, points: make([]point, 0, len(ids)*vnodes)}
	for m, id := range ids {
		base := hashString(seedManager, id)
		for v := range vnodes {
			r.points = append(r.points, point{mix(base + uint64(v)*golden), int32(m)})
		}
	}
	slices.SortFunc(r.points, func(a, b point) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.manager, b.manager))
	})
	return r
}

// Len is the number of managers on the ring.
func (r *Ring) Len() int { return len(r.managers) }

// Managers are the ids on the ring, sorted. The caller must not change the slice; an arc's numbers index it.
func (r *Ring) Managers() []string { return r.managers }

// Arc appends to dst the first length managers met clockwise from hash, as indexes into [Ring.Managers]: place 0 is
// rank 0. A length above the number of managers gives them all. With room in dst it allocates nothing.
func (r *Ring) Arc(dst []int, hash uint64, length int) []int {
	length = min(length, len(r.managers))
	first := len(dst)
	at, _ := slices.BinarySearchFunc(r.points, hash, func(p point, h uint64) int { return cmp.Compare(p.hash, h) })
	for n := 0; n < len(r.points) && len(dst)-first < length; n++ {
		m := int(r.points[(at+n)%len(r.points)].manager)
		if !slices.Contains(dst[first:], m) {
			dst = append(dst, m)
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
	h := hashString(hashString(hashString(seedReserved, account), function), version)
	return r.Arc(dst, h, ReservedLength(l, t, len(r.managers)))
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
