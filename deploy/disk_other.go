//go:build !linux && !darwin

package deploy

// diskSpace is not known on this system: there always is room, and the pauses between restarts are what bounds them.
func diskSpace(string) (free, room uint64) { return diskRoom, diskRoom }

// diskSize is not known on this system.
func diskSize(string) uint64 { return 0 }
