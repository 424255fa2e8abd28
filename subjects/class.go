package subjects

// Classes are the priorities of open pulls, 0 best to 9 worst, as JetStream's prioritized policy knows them. DESIGN 2.
const (
	ClassUnreservedStranger = 4 // idle, of a manager no longer in the unreserved arc
	ClassReservedStranger   = 8 // of a manager off the ring
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

// ReservedClass is the class of a pull on a reserved arc: floor(rank*8/managers), rank and managers counted over those
// that hold members in ring order, or [ClassReservedStranger] for [OffArc].
func ReservedClass(rank, managers int) int {
	if rank < 0 || rank >= managers {
		return ClassReservedStranger
	}
	return rank * 8 / managers
}
