package process

import "golang.org/x/sys/unix"

// MayLimit tells whether this process may set the limits of another user's.
func MayLimit() (bool, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	err := unix.Capget(&header, &data[0])
	return data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0, err
}
