package deploy

const (
	placeBytes   = 128 << 20
	defaultTotal = 32 // places, where free memory is not known: 4 GiB
)

// capacities shares places among managers as evenly as whole places allow, each with one at least. A total of 0 is 3/4 of
// the free memory (bytes; 0: not known).
func capacities(total, managers int, free int64) []int {
	if total == 0 {
		total = defaultTotal
		if free > 0 {
			total = int(free / 4 * 3 / placeBytes)
		}
	}
	each := make([]int, managers)
	for i := range each {
		each[i] = total / managers
		if i < total%managers {
			each[i]++
		}
		each[i] = max(each[i], 1)
	}
	return each
}

// capacities are those of this process's managers. Without a driver they have none: their workers bring it.
func (u *up) capacities(managers int) []int {
	if u.cfg.Driver == DriverNone {
		return make([]int, managers)
	}
	return capacities(u.cfg.Capacity, managers, freeMemory())
}

// FreeMemory is how many bytes this host has for environments now, 0 where that is not known.
func FreeMemory() int64 { return freeMemory() }
