package process

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const defaultLocks = "/run/hearth"

// checkRange refuses where root may not use our uids: in a user namespace that does not map them.
func checkRange() error {
	b, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return fmt.Errorf("read the uids of this user namespace: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		var inside, outside, count uint64
		if _, err := fmt.Sscan(line, &inside, &outside, &count); err == nil &&
			inside <= firstUID && firstUID+rangeSize <= inside+count {
			return nil
		}
	}
	return fmt.Errorf("root of a user namespace that lacks the uids %d to %d, under which functions run: "+
		"run Hearth as an ordinary user, or map them", firstUID, firstUID+rangeSize-1)
}

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
