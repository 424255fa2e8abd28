package process

import (
	"errors"

	"golang.org/x/sys/unix"
)

// privileged tells whether this thread could signal or become anybody.
func privileged() (bool, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return true, err
	}
	if data[0].Effective|data[0].Permitted|data[1].Effective|data[1].Permitted != 0 {
		return true, errors.New("it has capabilities")
	}
	return false, nil
}

func platformNotes(drops bool) []string {
	if drops {
		return nil
	}
	return []string{"a function that leaves its session and wipes its variables can outlive its environment"}
}
