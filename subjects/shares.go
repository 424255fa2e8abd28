package subjects

import "slices"

// Place is a manager's part of a reservation: at which rank of the arc it stands and how many members live there.
type Place struct {
	Manager string
	Rank    int
	Share   int
}

// Places appends who holds how many of the l members of a reservation, by rank, with t reserved environments a manager. Managers
// in skip, which said that they cannot hold their share, are left out of the ring for it. Every node computes the same from
// the same ring and limit (DESIGN 5, 6; S02). With l = 0, or nobody left, it appends nothing.
func (r *Ring) Places(dst []Place, account, function, version string, l, t int, skip []string) []Place {
	if l <= 0 || len(r.managers) == 0 {
		return dst
	}
	order := r.ReservedOrder(make([]int, 0, len(r.managers)), account, function, version)
	if len(skip) > 0 {
		order = slices.DeleteFunc(order, func(m int) bool { return slices.Contains(skip, r.managers[m]) })
	}
	n := len(order)
	if n == 0 {
		return dst
	}
	shares := make([]int, n)
	for k := range l {
		shares[MemberRank(k, t, n)]++
	}
	for rank, m := range order[:ReservedLength(l, t, n)] {
		dst = append(dst, Place{Manager: r.managers[m], Rank: rank, Share: shares[rank]})
	}
	return dst
}

// ReservedOrder appends all managers of the ring clockwise from the hash of a function version, as indexes into [Ring.Managers]:
// the reserved arc is its beginning, and managers outside of it that hold members stand behind in this order (DESIGN 2, classes).
func (r *Ring) ReservedOrder(dst []int, account, function, version string) []int {
	return r.Arc(dst, reservedHash(account, function, version), len(r.managers))
}

func reservedHash(account, function, version string) uint64 {
	return hashString(hashString(hashString(seedReserved, account), function), version)
}

// ReservationKey is the key of a function version's reservation in bucket reservations.
func ReservationKey(account, function, version string) string {
	return Escape(account) + "." + Escape(function) + "." + Escape(version)
}
