//go:build amd64 || arm64

package native

import "cmp"

// Memory of a whole core at Lambda, in MB.
const coreMB = 1769

const (
	mb             = 1 << 20
	leastMemory    = 128 // MB, of a spec that names none
	usualTemporary = 512 // MB, the same
)

func memoryOf(megabytes int) int64 {
	if megabytes <= 0 {
		megabytes = leastMemory
	}
	return int64(megabytes) * mb
}

// limitsFor are an environment's limits by its memory. Processor time is shared by memory, as at Lambda; a function may use what
// nobody else wants, up to one core or its share, if that is more, so that a small one starts fast on an idle host.
func limitsFor(megabytes int) limits {
	memory := memoryOf(megabytes)
	share := float64(memory/mb) / coreMB
	return limits{memory: memory, cores: max(1, share), weight: share, pids: maxProcesses}
}

// temporary is how large /tmp may be: as large as was asked for, but what lies there counts as memory, so that a full one must leave
// enough to go on: half.
func temporary(memory int64, megabytes int) int64 {
	return min(int64(cmp.Or(megabytes, usualTemporary))*mb, memory/2)
}
