package uids

import (
	"fmt"
	"os"
	"strings"
)

// DefaultLocks is where drivers reserve blocks.
const DefaultLocks = "/run/hearth"

// Check refuses where root may not use the range: in a user namespace that does not map it.
func Check() error {
	b, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return fmt.Errorf("read the uids of this user namespace: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		var inside, outside, count uint64
		if _, err := fmt.Sscan(line, &inside, &outside, &count); err == nil && inside <= First && First+Size <= inside+count {
			return nil
		}
	}
	return fmt.Errorf("root of a user namespace that lacks the uids %d to %d, under which functions run: "+
		"run Hearth as an ordinary user, or map them", First, First+Size-1)
}
