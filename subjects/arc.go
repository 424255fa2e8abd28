package subjects

// Numbers of arcs, and the default of reserved environments a manager. DESIGN 5, 9.
const (
	DefaultArcs = 64  // unreserved
	MaxArcs     = 256 // unreserved
	MaxShards   = 64  // streams of reserved arcs
	DefaultT    = 16

	// UnreservedStreams is how many streams the unreserved arcs share, arc nn in stream nn mod 8, however many arcs there are: raising
	// their number makes none. The server walks all consumers of a stream for each ack, with the stream locked: of the 64 of one stream
	// that took a seventh of what a fabric spends on a call.
	UnreservedStreams = 8
)

// UnreservedArc picks the unreserved arc, 0 to arcs-1, of a group of calls: account and function, and the sub-tenant
// where the function is per tenant ("" elsewhere). Raising arcs by one moves 1/(arcs+1) of the groups (jump
// consistent hash, Lamping and Veach 2014). It allocates nothing.
func UnreservedArc(account, function, tenant string, arcs int) int {
	if arcs <= 1 {
		return 0
	}
	key := hashString(hashString(hashString(seedGroup, account), function), tenant)
	// The one float operation chain has no sum of a product, so no compiler fuses it: every processor gets the same arc.
	b, j := int64(-1), int64(0)
	for j < int64(arcs) {
		b = j
		key = key*2862933555777941757 + 1
		j = int64(float64(b+1) * (float64(1<<31) / float64(key>>33+1)))
	}
	return int(b)
}

// UnreservedLength is how many managers an unreserved arc has: min(n, max(2, stored)), with n managers on the ring and
// the length that its catcher has stored (0 if none). DESIGN 5.
func UnreservedLength(n, stored int) int { return min(n, max(2, stored)) }

// ReservedLength is the length of the reserved arc for l environments, t a manager and n managers on the ring:
// clamp(ceil(l/t), min(2,n), n). It follows from l alone, never from load. DESIGN 5, S03.
func ReservedLength(l, t, n int) int {
	if t <= 0 {
		t = DefaultT
	}
	return max(min(2, n), min(n, (l+t-1)/t))
}

// MemberRank is the rank at which member k (0 to L-1) of a reservation lives: k mod min(2,n) for k < 2t, floor(k/t)
// for k < n*t, else k mod n, so that raising L moves nobody. It is 0 for n < 1. DESIGN 5.
func MemberRank(k, t, n int) int {
	if t <= 0 {
		t = DefaultT
	}
	switch {
	case n < 1:
		return 0
	case k < 2*t:
		return k % min(2, n)
	case k < n*t:
		return k / t
	default:
		return k % n
	}
}

// Share is how many of the l members of a reservation live at a rank.
func Share(rank, l, t, n int) int {
	share := 0
	for k := range l {
		if MemberRank(k, t, n) == rank {
			share++
		}
	}
	return share
}
