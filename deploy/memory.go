package deploy

import (
	"bufio"
	"os"
	"strconv"
	"strings"
)

// fallbackMemory is taken as free where the system does not tell.
const fallbackMemory = 4 << 30

// places is the capacity that three quarters of the free memory give.
func places() int { return max(1, int(freeMemory()/4*3/placeBytes)) }

// freeMemory is what Linux says is available, in bytes.
func freeMemory() int64 {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return fallbackMemory
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), "MemAvailable:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(value, "kB")), 10, 64)
			if err == nil {
				return kib << 10
			}
		}
	}
	return fallbackMemory
}
