package subjects

// Classes are the priorities of open pulls, 0 best to 9 worst, as JetStream's prioritized policy knows them. DESIGN 2.
const (
	ClassUnreservedStranger = 4 // idle, of a manager no longer in the unreserved arc
	ClassReservedStranger   = 8 // of a manager off the ring, whether within its share or not
	ClassCatcher            = 9
)

// OffArc is the rank of a manager that has no place in an arc.
const OffArc = -1

// IdleClass is the class of a pull for an idle environment on an unreserved arc of this length: floor(rank*4/length), or
// [ClassUnreservedStranger] for [OffArc].
func IdleClass(rank, length int) int {
	if rank < 0 || rank >= length {
		return ClassUnreservedStranger
	}
	return rank * 4 / length
}

// RoomClass is the class of a pull for room on an unreserved arc: 5 + floor(rank*4/length). Only members of the arc
// offer room.
func RoomClass(rank, length int) int {
	if rank < 0 || rank >= length {
		return ClassCatcher
	}
	return 5 + rank*4/length
}

// ReservedClass is the class of a pull on a reserved arc for members within their manager's share: floor(rank*4/managers), rank
// and managers counted in ring order over those that hold such members, or [ClassReservedStranger] for [OffArc].
func ReservedClass(rank, managers int) int {
	if rank < 0 || rank >= managers {
		return ClassReservedStranger
	}
	return rank * 4 / managers
}

// SurplusClass is the class of a pull on a reserved arc for members above their manager's share: 4 + floor(rank*4/managers), counted
// over those that hold such members. All shares are taken before any surplus, so that what is idle of a set that shrank is what may go.
func SurplusClass(rank, managers int) int {
	if rank < 0 || rank >= managers {
		return ClassReservedStranger
	}
	return 4 + rank*4/managers
}
