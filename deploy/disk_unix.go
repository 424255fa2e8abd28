//go:build linux || darwin

package deploy

import "golang.org/x/sys/unix"

// diskSpace is how many bytes are free for this user where a folder is, and how many have to be before streams are written to
// again. Where that cannot be told there is room.
func diskSpace(folder string) (free, room uint64) {
	var s unix.Statfs_t
	if err := unix.Statfs(folder, &s); err != nil {
		return diskRoom, diskRoom
	}
	block := uint64(s.Bsize)
	return uint64(s.Bavail) * block, min(diskRoom, s.Blocks*block/diskRoomPart)
}

// diskSize is how many bytes the disk of a folder has, free or not; 0 if that cannot be told.
func diskSize(folder string) uint64 {
	var s unix.Statfs_t
	if err := unix.Statfs(folder, &s); err != nil {
		return 0
	}
	return s.Blocks * uint64(s.Bsize)
}
